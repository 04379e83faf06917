"""What is saved can be loaded: records, callbacks' states, and every field of what a run remembers."""

import csv
import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from lanes import USABLE, open_lane
from resumed_runs import fit, make

from portnn.errors import ConfigError, DataError
from portnn.optim import LBFGS, Adam
from portnn.random import Stream
from portnn.training import (
    Callback,
    Checkpoint,
    CSVLog,
    History,
    JSONLinesLog,
    Progress,
    TensorBoardLog,
    latest_checkpoint,
)
from portnn.training.records import read_fields, write_fields


class Notes(Callback):
    def __init__(self, value, name="note"):
        self.value, self.name = value, name

    def on_epoch_end(self, trainer, record):
        record[self.name] = self.value


NUMBERS = {
    "int": (3, 3), "float": (0.5, 0.5), "true": (True, 1), "numpy bool": (np.bool_(False), 0),
    "float32": (np.float32(0.5), 0.5), "float16": (np.float16(0.5), 0.5), "int64": (np.int64(7), 7),
    "0-d array": (np.asarray(2.5), 2.5), "0-d ints": (np.asarray(4, np.uint8), 4), "fraction": (Fraction(1, 4), 0.25),
    "infinite": (math.inf, math.inf), "large": (10**30, 1e30),
}  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), NUMBERS.values(), ids=NUMBERS)
def test_a_number_comes_back_from_wherever_it_was_written(value, expected, tmp_path):
    pytest.importorskip("tensorboardX")
    logs = [JSONLinesLog(tmp_path / "j"), CSVLog(tmp_path / "c"), TensorBoardLog(tmp_path / "t")]
    trainer = fit(make(callbacks=[Notes(value), *logs, Checkpoint(tmp_path / "k", epochs=1)]), until=2)
    again = make(callbacks=())
    again.load(latest_checkpoint(tmp_path / "k"))
    for history in (trainer.history, again.history):
        assert history["note"] == [expected] * 2
        assert {type(v) for v in history["note"]} <= {int, float}
    lines = [json.loads(line) for line in (tmp_path / "j").read_text(encoding="utf-8").splitlines()]
    assert [line["note"] for line in lines] == [expected if math.isfinite(expected) else None] * 2
    rows = list(csv.DictReader((tmp_path / "c").read_text(encoding="utf-8").splitlines()))
    assert [float(row["note"]) for row in rows] == [expected] * 2


# Not without int64, where array-api-strict has no argmax for the accuracy.
@pytest.mark.parametrize("lane", [name for name in USABLE if name != "strict:no_x64"])
def test_arrays_of_one_number(lane, tmp_path):
    with open_lane(lane) as backend:
        trainer = fit(make(backend, callbacks=[Notes(backend.asarray(0.5, "float32"))]), until=1)
        assert trainer.history.records[0]["note"] == 0.5
        assert type(trainer.history.records[0]["note"]) is float
        trainer.save(tmp_path / "c")


@pytest.mark.parametrize(
    "value",
    ["warm-up", None, [1, 2], {"a": 1}, (), np.ones(2), np.asarray("a"), 1j, object(), 10**400],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_number_is_refused_where_it_enters(value, tmp_path):
    """With the name of the column and of the callback, and nothing is written."""
    callbacks = [
        Notes(value), JSONLinesLog(tmp_path / "j"), CSVLog(tmp_path / "c"), Checkpoint(tmp_path / "k", epochs=1)
    ]  # fmt: skip
    trainer = make(callbacks=callbacks)
    with pytest.raises(ConfigError, match=r"cannot be saved: .*column 'note' is .*, of Notes"):
        fit(trainer, until=2)
    assert latest_checkpoint(tmp_path / "k") is None
    assert (tmp_path / "j").read_text(encoding="utf-8") == (tmp_path / "c").read_text(encoding="utf-8") == ""
    assert "note" not in trainer.history.records[-1]
    trainer.callbacks = ()
    fit(trainer, until=2)  # the network is whole, and so is its history
    trainer.save(tmp_path / "whole")
    again = make(callbacks=())
    again.load(tmp_path / "whole")
    assert again.epoch == 2


def test_names_of_columns_are_text():
    with pytest.raises(ConfigError, match="a name that is no text cannot be saved: .*column 7 is 1.0"):
        fit(make(callbacks=[Notes(1.0, 7)]), until=1)


def test_a_record_that_was_changed_by_hand(tmp_path):
    trainer = fit(make(callbacks=()), until=2)
    trainer.history.records[1]["note"] = "good"
    with pytest.raises(ConfigError, match="column 'note' is 'good'"):
        trainer.save(tmp_path / "c")
    assert not (tmp_path / "c").exists()


# ---- callbacks


class Remembers(Callback):
    def __init__(self, value):
        self.value, self.found = value, None

    def state(self):
        return {"value": self.value}

    def restore(self, trainer, state, arrays):
        self.found = state["value"]


STATES = [
    (None, None), (True, True), ("words", "words"), ([1, [2.5, "a"]], [1, [2.5, "a"]]), ((1, 2), [1, 2]),
    ({"a": {"b": np.float32(0.5)}}, {"a": {"b": 0.5}}), (np.bool_(True), True), (np.str_("a"), "a"), (np.int8(3), 3),
    (math.inf, math.inf),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), STATES, ids=lambda v: type(v).__name__)
def test_the_state_of_a_callback_comes_back(value, expected, tmp_path):
    fit(make(callbacks=[Remembers(value), Checkpoint(tmp_path, epochs=1)]), until=1)
    reader = Remembers(None)
    make(callbacks=[reader]).load(latest_checkpoint(tmp_path))
    assert reader.found == expected
    assert type(reader.found) is type(expected)


@pytest.mark.parametrize(
    "value", [{1: "a"}, {1, 2}, np.ones(3), object(), b"bytes", [np.ones(3)]], ids=lambda v: type(v).__name__
)
def test_a_state_that_could_not_come_back_is_refused(value, tmp_path):
    with pytest.raises(ConfigError, match=r"Remembers.state\(\)\['value'\].* cannot be saved"):
        fit(make(callbacks=[Remembers(value), Checkpoint(tmp_path, epochs=1)]), until=1)
    assert latest_checkpoint(tmp_path) is None


# ---- fields


def other_than(value):
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [{"epoch": 1, "loss": 0.5}]
    return {int: 3, float: 0.25, str: "told"}[type(value)]


@pytest.mark.parametrize("kind", [History, Progress])
def test_every_field_is_written_and_read(kind, tmp_path):
    """Also one that is added tomorrow: none is named."""
    longer = dataclasses.make_dataclass(
        "Longer", [("tomorrow", int, 0), ("names", list[str], dataclasses.field(default_factory=list))], bases=(kind,)
    )
    for each in (kind, longer):
        value = each(
            **{f.name: other_than(getattr(each(), f.name)) for f in dataclasses.fields(each) if f.name != "names"}
        )
        said = json.loads(json.dumps(write_fields(value)))
        assert set(said) == {f.name for f in dataclasses.fields(each)}
        assert read_fields(each, said) == value
        assert read_fields(each, {}) == each()  # a file of before these fields


def test_every_field_of_the_history_is_in_a_checkpoint(tmp_path):
    trainer = make(callbacks=(), augment=None)
    for field in dataclasses.fields(History):
        setattr(trainer.history, field.name, other_than(getattr(trainer.history, field.name)))
    trainer.save(tmp_path / "c")
    again = make(callbacks=(), augment=None)
    again.load(tmp_path / "c")
    assert again.history == trainer.history


def test_how_a_full_batch_run_ended(tmp_path):
    trainer = make(optimizer=LBFGS(), callbacks=(), augment=None)
    fit(trainer, until=2, batch_size=None)
    trainer.save(tmp_path / "c")
    again = make(optimizer=LBFGS(), callbacks=(), augment=None)
    again.load(tmp_path / "c")
    ours, theirs = again.history, trainer.history
    assert (ours.status, ours.minimum, ours.message) == (theirs.status, theirs.minimum, theirs.message)
    assert ours.status != 0


def test_attributes_that_could_not_be_read_are_not_written(tmp_path):
    for change in (
        lambda t: setattr(t.history, "message", None),
        lambda t: setattr(t.progress, "batches", "two"),
        lambda t: setattr(t, "lr_factor", "half"),
    ):
        trainer = make(optimizer=Adam(), callbacks=())
        change(trainer)
        with pytest.raises(ConfigError):
            trainer.save(tmp_path / "c")
        assert not (tmp_path / "c").exists()
    with pytest.raises(DataError, match="no list"):
        read_fields(History, {"records": 3})


@pytest.mark.parametrize("seed", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_seed_of_64_bits_comes_back(seed, tmp_path):
    trainer = make(callbacks=())
    trainer.rng = Stream(seed)
    trainer.save(tmp_path / "c")
    again = make(callbacks=())
    again.load(tmp_path / "c")
    assert again.rng == Stream(seed)
