"""Logs that can be read at any moment."""

import csv
import json
import math
import os
import sys

import numpy as np
import pytest
from helpers import files_of_at_most
from resumed_runs import fit, make

from portnn.errors import ConfigError, DataError
from portnn.training import Callback, CSVLog, JSONLinesLog, TensorBoardLog

KINDS = pytest.mark.parametrize("kind", [JSONLinesLog, CSVLog])


def read(path, kind):
    text = path.read_text(encoding="utf-8")
    if kind is JSONLinesLog:
        return [json.loads(line) for line in text.splitlines()]
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(text.splitlines())]


@KINDS
def test_holds_the_history(kind, tmp_path):
    path = tmp_path / "log"
    trainer = fit(make(callbacks=[kind(path)]), until=2)
    assert read(path, kind) == [{"step": 4 * record["epoch"]} | record for record in trainer.history.records]
    trainer.callbacks = (kind(path),)
    fit(trainer, until=3)
    assert [row["epoch"] for row in read(path, kind)] == [1, 2, 3]


@KINDS
def test_a_torn_line_is_mended(kind, tmp_path):
    """As after a power cut, at every length."""
    fit(make(callbacks=[kind(tmp_path / "log")]), until=2)
    content = (tmp_path / "log").read_bytes()
    first = content.index(b"\n", content.index(b"\n") + 1 if kind is CSVLog else 0) + 1
    for length in range(first, len(content), 5):
        (tmp_path / "cut").write_bytes(content[:length])
        fit(make(callbacks=[kind(tmp_path / "cut")]), until=1)
        assert [row["epoch"] for row in read(tmp_path / "cut", kind)] == [1, 1]


@KINDS
@pytest.mark.parametrize(
    "content",
    [b"notes", b"notes\nmore", b"[1]\n", b"[" * 9999 + b"\n", b"\xff\xfe\n", b"a,b\n1,2\n", b"step,epoch\n1\n"],
)
def test_files_of_others_are_left_alone(kind, content, tmp_path):
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(DataError, match="notes is there, and is no log"):
        kind(tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


@KINDS
def test_a_full_disk_is_a_warning_and_leaves_whole_lines(kind, tmp_path):
    trainer = fit(make(callbacks=[kind(tmp_path / "log")]), until=1)
    size = os.path.getsize(tmp_path / "log")
    with (
        files_of_at_most(size + 20),
        pytest.warns(RuntimeWarning, match="log cannot be written: .*: epoch 2 is not in the log"),
    ):
        fit(trainer, until=2)
    fit(trainer, until=3)
    assert [row["epoch"] for row in read(tmp_path / "log", kind)] == [1, 3]


@KINDS
def test_a_place_that_cannot_be_written(kind, tmp_path):
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        kind(tmp_path / "no" / "log")
    with pytest.raises(DataError, match="cannot be written: Is a directory"):
        kind(tmp_path)


class Odd(Callback):
    def on_epoch_end(self, trainer, record):
        record |= {"odd": np.float32("nan") if trainer.epoch == 1 else np.float32(0.5)}


def test_json_has_null_for_what_is_not_finite(tmp_path):
    fit(make(callbacks=[Odd(), JSONLinesLog(tmp_path / "log")]), until=2)
    assert [row["odd"] for row in read(tmp_path / "log", JSONLinesLog)] == [None, 0.5]


def test_csv_keeps_its_columns(tmp_path):
    fit(make(callbacks=[Odd(), CSVLog(tmp_path / "log")]), until=2)
    rows = read(tmp_path / "log", CSVLog)
    assert math.isnan(rows[0]["odd"])
    assert rows[1]["odd"] == 0.5
    fit(make(callbacks=[CSVLog(tmp_path / "plain")]), until=1)
    with pytest.raises(ConfigError, match="and no odd: take another file, or a JSONLinesLog"):
        fit(make(callbacks=[Odd(), CSVLog(tmp_path / "plain")]), until=1)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    trainer = fit(make(callbacks=[TensorBoardLog(tmp_path / "board")]), until=2)
    (path,) = (tmp_path / "board").iterdir()
    found, content = {}, path.read_bytes()
    while content:  # records of length, checksum, event, checksum
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        content = content[16 + length :]
    assert found["loss", 1] == pytest.approx(trainer.history["loss"][0])
    assert found["val_accuracy", 2] == pytest.approx(trainer.history["val_accuracy"][1])


def test_tensorboard_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"needs tensorboardX: pip install tensorboardX"):
        TensorBoardLog(tmp_path)


def test_tensorboard_on_a_full_disk_ends_no_run(monkeypatch, tmp_path):
    pytest.importorskip("tensorboardX")
    log = TensorBoardLog(tmp_path / "board")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_make", full)
    with pytest.warns(RuntimeWarning, match="cannot be written to: No space left on device: epoch 1 is not in the log"):
        assert fit(make(callbacks=[log]), until=1).epoch == 1
