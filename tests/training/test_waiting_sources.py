"""Runs whose data do not come: they are told of, stopped and ended all the same."""

import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from resumed_runs import X_NEW, Y_NEW, X, Y, assert_same_run, make
from sources import Stuck, no_thread_is_left, on_disk

from portnn import nn, optim
from portnn.errors import DivergenceError
from portnn.training import Callback, Checkpoint, latest_checkpoint, stop_on_signals


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    with no_thread_is_left():
        yield


class Late(Stuck):
    """Two batches of 16 examples, and then nothing for a long time."""

    def __init__(self):
        super().__init__([(X[:16], Y[:16]), (X[16:32], Y[16:32])])


class Sees(Callback):
    def __init__(self, act):
        self.act = act

    def on_losses(self, trainer, losses):
        assert losses
        self.act(trainer)


@contextmanager
def soon(late):
    """What is in the block ends while the source waits, and not because it comes back."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20
    assert late.waits.is_set()
    assert not late.closed.is_set()
    late.come_back.set()


def test_a_divergence_is_told_while_the_source_waits():
    late = Late()
    trainer = make(optimizer=optim.SGD(lr=1e38), layer=nn.Sequential([nn.Flatten(), nn.Affine(3)]), callbacks=())
    with soon(late), pytest.raises(DivergenceError, match="at step 2"):
        trainer.fit_batches(late)


def test_what_a_callback_raises_comes_out_while_the_source_waits():
    late = Late()

    def fail(trainer):
        if trainer.step == 2:
            raise LookupError("no")

    with soon(late), pytest.raises(LookupError, match="no"):
        make(callbacks=[Sees(fail)]).fit_batches(late)


def when_waiting(late, act):
    """Do something in another thread once the source waits and its batches are trained on."""

    def work():
        assert late.waits.wait(60)
        time.sleep(0.3)
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_run_can_be_stopped_while_the_source_waits_and_goes_on_later(tmp_path):
    late, trainer = Late(), make(callbacks=[])
    trainer.callbacks = (Checkpoint(tmp_path),)
    thread = when_waiting(late, trainer.stop)
    with soon(late):
        assert trainer.fit_batches(late).stopped
    thread.join()
    assert trainer.step == 2
    second, alone = make(callbacks=[]), make(callbacks=[])
    second.load(latest_checkpoint(tmp_path))
    assert second.progress.batches == 2
    every = Late()
    every.come_back.set()
    second.fit_batches(every)
    every.come_back.set()
    alone.fit_batches(every)
    assert_same_run(alone, second)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_a_run_whose_source_waits(number):
    late, trainer = Late(), make(callbacks=[])
    thread = when_waiting(late, lambda: signal.pthread_kill(threading.main_thread().ident, number))
    with soon(late), stop_on_signals(trainer) as stopped:
        trainer.fit_batches(late)
    thread.join()
    assert stopped.exit_code == 128 + number


def test_ctrl_c_ends_a_run_whose_source_waits(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        late, trainer = Late(), make(callbacks=[Checkpoint(tmp_path)])
        thread = when_waiting(late, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
        with soon(late), pytest.raises(KeyboardInterrupt):
            trainer.fit_batches(late)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert latest_checkpoint(tmp_path).name == "checkpoint-000000002.safetensors"


class StuckMap(np.memmap):
    """A memory map on a disk that does not answer any more."""

    waits, come_back = threading.Event(), threading.Event()

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            StuckMap.waits.set()
            assert StuckMap.come_back.wait(60)
        return super().__getitem__(index)


def test_a_run_ends_while_its_validation_data_do_not_come(tmp_path):
    StuckMap.waits, StuckMap.come_back = threading.Event(), threading.Event()
    x = on_disk(tmp_path, "x", X_NEW).view(StuckMap)
    trainer = make(callbacks=[])
    thread = when_waiting(StuckMap, trainer.stop)
    began = time.monotonic()
    history = trainer.fit(X, Y, epochs=2, validation_data=(x, Y_NEW))
    assert time.monotonic() - began < 20
    StuckMap.come_back.set()
    thread.join()
    assert history.stopped
    assert (trainer.epoch, len(history)) == (0, 0)


def test_a_full_batch_run_ends_while_its_validation_data_do_not_come(tmp_path):
    StuckMap.waits, StuckMap.come_back = threading.Event(), threading.Event()
    x = on_disk(tmp_path, "x", X_NEW).view(StuckMap)
    trainer = make(optimizer=optim.LBFGS(), callbacks=[], augment=None)
    thread = when_waiting(StuckMap, trainer.stop)
    history = trainer.fit(X, Y, epochs=2, validation_data=(x, Y_NEW))
    assert not StuckMap.come_back.is_set()
    StuckMap.come_back.set()
    thread.join()
    assert history.stopped
    assert history.message == "stopped"
    assert (trainer.epoch, len(history)) == (0, 0)


def test_a_run_ends_while_its_memory_map_does_not_come(tmp_path):
    StuckMap.waits, StuckMap.come_back = threading.Event(), threading.Event()
    x = on_disk(tmp_path, "x", X).view(StuckMap)
    trainer = make(callbacks=[])
    thread = when_waiting(StuckMap, trainer.stop)
    assert trainer.fit(x, Y, batch_size=16).stopped
    assert not StuckMap.come_back.is_set()
    StuckMap.come_back.set()
    thread.join()
