"""``~`` in a path is the user's home, at every door that takes one: only shells put it in, and not everywhere."""

import os
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes, small_mnist
from programs import TRAIN, script
from resumed_runs import fit, make
from table_files import put, songs

from portnn import Network
from portnn.data import load_mnist, read_idx, stream_year_prediction
from portnn.training import Checkpoint, CSVLog, JSONLinesLog, TensorBoardLog, checkpoints, latest_checkpoint


@pytest.fixture
def home(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))  # Windows
    monkeypatch.chdir(elsewhere)
    yield home
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("as_path", [str, Path])
def test_networks_and_runs(home, as_path):
    trainer = fit(make(callbacks=[Checkpoint(as_path("~/run"), epochs=1)]), until=2)
    trainer.network.save(as_path("~/net"))
    trainer.save(as_path("~/training"))
    assert trainer.last_checkpoint == str(home / "training")
    assert sorted(os.listdir(home)) == ["net", "run", "training"]
    assert Network.load(as_path("~/net")).parameter_count == trainer.network.parameter_count
    assert latest_checkpoint(as_path("~/run")) == home / "run" / "checkpoint-000000008.safetensors"
    assert len(checkpoints(as_path("~/run"))) == 2
    again = make()
    again.load(as_path("~/training"))
    assert again.step == 8


@pytest.mark.parametrize("kind", [JSONLinesLog, CSVLog])
def test_logs(home, kind):
    fit(make(callbacks=[kind("~/log")]), until=1)
    assert (home / "log").stat().st_size > 0


def test_a_folder_for_tensorboard(home):
    pytest.importorskip("tensorboardX")
    fit(make(callbacks=[TensorBoardLog("~/board")]), until=1)
    assert len(os.listdir(home / "board")) == 1


def test_readers(home, monkeypatch):
    (home / "a.idx").write_bytes(idx_bytes(np.arange(3, dtype=np.uint8)))
    assert read_idx("~/a.idx").tolist() == [0, 1, 2]
    small_mnist(home / "data")
    put(home / "data", songs(3)[1])
    assert len(load_mnist("~/data").x_train) == 20
    assert len(next(stream_year_prediction("~/data", train_rows=3))[0]) == 3
    monkeypatch.setenv("PORTNN_DATA_DIR", "~/data")
    assert len(load_mnist().x_train) == 20
    assert len(next(stream_year_prediction(train_rows=3))[0]) == 3


@pytest.mark.slow
def test_a_script(home):
    files = [f"--{flag}=~/{flag}" for flag in ("save", "json", "checkpoint", "plots")]
    done = script(*TRAIN, "--data", "digits", *files, "--log=~/log.jsonl", cwd=os.getcwd())
    assert (done.returncode, done.stderr) == (0, "")
    assert {"checkpoint", "json", "log.jsonl", "plots", "save"} <= set(os.listdir(home))  # and caches of others
