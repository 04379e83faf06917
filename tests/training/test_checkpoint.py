"""The folder of checkpoints: when one is written, what stays, and what happens where none can be written."""

import math
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import files_of_at_most
from resumed_runs import X, Y, assert_same_run, fit, make

from portnn import Network, nn, optim, storage
from portnn.errors import ConfigError, DivergenceError, ModelFileError
from portnn.training import Callback, Checkpoint, checkpoints, latest_checkpoint, stop_on_signals


def names(folder):
    return sorted(os.listdir(folder))


def run(callback, **kwargs):
    trainer = make(callbacks=[callback], **kwargs)
    return fit(trainer, until=3)


def test_steps_and_keep(tmp_path):
    run(Checkpoint(tmp_path, seconds=math.inf, steps=2, keep=3))
    assert names(tmp_path) == [f"checkpoint-{step:09d}.safetensors" for step in (8, 10, 12)]
    assert latest_checkpoint(tmp_path).name == "checkpoint-000000012.safetensors"


def test_epochs_and_the_end(tmp_path):
    run(Checkpoint(tmp_path / "new" / "folder", seconds=math.inf, epochs=2, keep=9))
    assert [path.name[11:20] for path in checkpoints(tmp_path / "new" / "folder")] == ["000000008", "000000012"]


def test_seconds(tmp_path, monkeypatch):
    clock = [0.0]

    class Tick(Callback):
        def on_epoch_end(self, trainer, record):
            clock[0] += 40.0

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    fit(make(callbacks=[Checkpoint(tmp_path, keep=9), Tick()]), until=6)
    # After 80 s, 160 s, 240 s: at the ends of epochs 2, 4 and 6, of four steps each.
    assert [int(path.name[11:20]) for path in checkpoints(tmp_path)] == [8, 16, 24]


def test_nothing_but_a_name_is_there_when_the_old_one_goes(tmp_path, monkeypatch):
    """With keep=1, the new file is whole before the old one is removed."""
    seen = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **kw: (seen.append(names(tmp_path)), unlink(path, **kw))[1])
    run(Checkpoint(tmp_path, seconds=math.inf, steps=4, keep=1))
    assert [len(files) for files in seen] == [2, 2]
    assert all(Network.load(path) for path in checkpoints(tmp_path))


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(Checkpoint(tmp_path))
    with pytest.raises(ConfigError, match=r"has checkpoints of another run, up to checkpoint-000000012.safetensors"):
        Checkpoint(tmp_path)
    trainer = make(callbacks=[Checkpoint(tmp_path, resume=True)])
    with pytest.raises(ConfigError, match=r"goes on from step 0, and .* has later checkpoints, up to checkpoint-0000"):
        fit(trainer)
    trainer.load(latest_checkpoint(tmp_path))
    fit(trainer, until=4)
    assert latest_checkpoint(tmp_path).name == "checkpoint-000000016.safetensors"


def test_a_stop_saves_the_step_whatever_the_order_of_the_callbacks(tmp_path):
    class StopAt(Callback):
        def due(self, trainer):
            return True

        def on_losses(self, trainer, losses):
            if trainer.step == 6:
                trainer.stop()

    alone = fit(make(callbacks=()))
    for i, order in enumerate((lambda a, b: [a, b], lambda a, b: [b, a])):
        folder = tmp_path / str(i)
        first = fit(make(callbacks=order(Checkpoint(folder), StopAt())))
        assert first.history.stopped
        assert latest_checkpoint(folder).name == "checkpoint-000000006.safetensors"
        second = make(callbacks=[])
        second.load(latest_checkpoint(folder))
        assert_same_run(alone, fit(second))


def test_a_full_batch_method_that_ends_early_is_saved(tmp_path):
    class StopAt(Callback):
        def on_epoch_end(self, trainer, record):
            if stop and trainer.epoch == 2:
                trainer.stop()

    for stop in (True, False):
        folder = tmp_path / str(stop)
        layer, method = nn.Sequential([nn.Flatten(), nn.Affine(3)]), optim.LBFGS(gtol=1e-2)
        callbacks = [Checkpoint(folder), StopAt()]
        trainer = make(layer=layer, optimizer=method, augment=None, callbacks=callbacks)
        trainer.fit(X, Y, epochs=500)
        assert trainer.history.stopped == stop
        assert trainer.epoch < 500
        assert latest_checkpoint(folder).name == f"checkpoint-{trainer.step:09d}.safetensors"


def test_ctrl_c_in_a_library_saves(tmp_path):
    class Interrupt(Callback):
        def due(self, trainer):
            if trainer.step == 5:
                signal.raise_signal(signal.SIGINT)
            return False

    trainer = make(callbacks=[Checkpoint(tmp_path), Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert latest_checkpoint(tmp_path).name == f"checkpoint-{trainer.step:09d}.safetensors"
    second = make(callbacks=[])
    second.load(latest_checkpoint(tmp_path))
    assert_same_run(fit(make(callbacks=())), fit(second))


def test_divergence_names_the_last_good_checkpoint(tmp_path):
    class Poison(Callback):
        def on_epoch_end(self, trainer, record):
            if trainer.epoch == 2:
                trainer.network.params[1]["w"][0, 0] = np.nan

    trainer = make(callbacks=[Checkpoint(tmp_path, seconds=math.inf, epochs=1), Poison()])
    with pytest.raises(
        DivergenceError, match="params.1.w is not finite after step 8, so no checkpoint.*the last good checkpoint is"
    ):
        fit(trainer)
    trainer.callbacks = ()
    with pytest.raises(DivergenceError, match=rf"the last good checkpoint is {tmp_path}/checkpoint-000000004.safetens"):
        fit(trainer)


# ---- files that cannot be written


class Full:
    """A disk on which writing fails after some checkpoints."""

    def __init__(self, monkeypatch, good, then_good_again=math.inf):
        self.count, fsync = 0, os.fsync

        def full(descriptor):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                self.count += 1
                if good < self.count <= then_good_again:
                    raise OSError(28, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch):
    Full(monkeypatch, good=1, then_good_again=2)
    with pytest.warns(
        RuntimeWarning, match=r"checkpoint-000000008.safetensors cannot be written: No space left on device: the run"
    ):
        trainer = run(Checkpoint(tmp_path, seconds=math.inf, epochs=1))
    assert trainer.epoch == 3
    assert [int(path.name[11:20]) for path in checkpoints(tmp_path)] == [4, 12]
    assert len(names(tmp_path)) == 2


def test_a_disk_that_is_full_at_the_end_is_an_error_and_loses_nothing(tmp_path, monkeypatch):
    Full(monkeypatch, good=2)
    trainer = make(callbacks=[Checkpoint(tmp_path / "c", seconds=math.inf, epochs=1)])
    with pytest.raises(ModelFileError, match=r"c/checkpoint-000000012.safetensors cannot be written: No space left"):
        fit(trainer, until=3)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path / "c").name == "checkpoint-000000008.safetensors"
    assert_same_run(fit(make(callbacks=()), until=3), trainer)
    trainer.save(tmp_path / "elsewhere")
    second = make(callbacks=())
    second.load(tmp_path / "elsewhere")
    assert second.step == 12


def test_a_file_system_that_is_really_full(tmp_path):
    """The system itself cuts the file short."""
    trainer = run(Checkpoint(tmp_path))
    before = names(tmp_path)
    with files_of_at_most(1000), pytest.raises(ModelFileError, match="big cannot be written: File too large"):
        trainer.save(tmp_path / "big")
    assert names(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ModelFileError, match="locked cannot be written to: no permission"):
        Checkpoint(tmp_path / "locked")
    with pytest.raises(ModelFileError, match="locked/below cannot be written to: Permission denied"):
        Checkpoint(tmp_path / "locked" / "below")
    with pytest.raises(ModelFileError, match="locked/c cannot be written: Permission denied"):
        make().save(tmp_path / "locked" / "c")


@pytest.mark.parametrize("number", [13, 30])
def test_a_refusal_of_the_system_names_the_path(number, tmp_path, monkeypatch):
    """Permission denied, and a read-only file system; root meets neither by itself."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage, "open", refuse, raising=False)
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/c cannot be written: {os.strerror(number)}"):
        make().save(tmp_path / "c")
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(ModelFileError, match=rf"{tmp_path}/new cannot be written to: {os.strerror(number)}"):
        Checkpoint(tmp_path / "new")


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="file cannot be written to: File exists"):
        Checkpoint(tmp_path / "file")
    with pytest.raises(ModelFileError, match="file cannot be read: Not a directory"):
        latest_checkpoint(tmp_path / "file")
    assert latest_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize("options", [{"seconds": 0}, {"steps": 0}, {"epochs": 0}, {"keep": 0}, {"seconds": math.nan}])
def test_bad_arguments(options, tmp_path):
    with pytest.raises(ConfigError):
        Checkpoint(tmp_path, **options)


# ---- killed while writing

KILLED_AT = """
import os, signal, sys
from portnn import Network, nn, optim, storage
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
class Half:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        die()
name, folder = sys.argv[1:]
if name == "write":
    storage.open = lambda *a: Half(open(*a))
elif name == "folder":
    storage._sync_folder = die
else:
    setattr(os, name, die)
Network(nn.Affine(3), 4, rng=2).save(folder + "/checkpoint-000000002.safetensors")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("where", ["write", "fsync", "replace", "folder"])
def test_a_kill_in_the_middle_of_writing(where, tmp_path):
    old = Network(nn.Affine(3), 4, rng=1)
    for name in ("checkpoint-000000001.safetensors", "checkpoint-000000002.safetensors"):
        old.save(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", KILLED_AT, where, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    there = checkpoints(tmp_path)
    assert len(there) == 2
    seeds = [Network.load(path).rng.seed for path in there]
    assert seeds == ([1, 2] if where == "folder" else [1, 1])
    assert len(names(tmp_path)) == (2 if where == "folder" else 3)
    Checkpoint(tmp_path, resume=True)  # clears away what the kill left
    assert len(names(tmp_path)) == 2


# ---- signals


@pytest.mark.parametrize("hook", ["due", "on_losses", "on_pause", "on_epoch_end"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_after_a_step_and_save_it(number, code, hook, tmp_path):
    def come(trainer, *_):
        if trainer.step >= 5 and stopped.signal is None:
            signal.raise_signal(number)
            assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        return hook == "on_losses"

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    disturbing = Callback()
    disturbing.due = lambda trainer: hook == "on_losses"
    setattr(disturbing, hook, come)
    trainer = make(callbacks=[Checkpoint(tmp_path), disturbing])
    with stop_on_signals(trainer) as stopped:
        fit(trainer)
    assert (stopped.signal, stopped.exit_code) == (number, code)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert 5 <= trainer.step <= 9
    assert latest_checkpoint(tmp_path).name == f"checkpoint-{trainer.step:09d}.safetensors"
    with stop_on_signals(trainer) as stopped:
        pass
    assert stopped.exit_code == 0
