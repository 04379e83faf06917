"""Data that no memory holds: batches that somebody else makes."""

import itertools

import numpy as np
import pytest
from lanes import USABLE, open_lane
from resumed_runs import X_NEW, Y_NEW, X, Y, assert_same_run, make, resumed, timeless
from sources import no_thread_is_left

from portnn import nn, optim
from portnn.data import batches
from portnn.errors import ConfigError, DataError, DivergenceError, ShapeError
from portnn.training import Callback, Checkpoint, latest_checkpoint


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    with no_thread_is_left():
        yield


class Loader:
    """Batches in the order of their numbers; counts how often it was begun."""

    def __init__(self, size=16, fail_at=None):
        self.size, self.fail_at, self.begun = size, fail_at, 0

    def __iter__(self):
        self.begun += 1
        for number, index in enumerate(batches(50, self.size)):
            if number == self.fail_at:
                raise OSError("the connection was lost")
            yield X[index], Y[index]


def test_batches_of_an_iterable(backend):
    loader, trainer = Loader(), make(backend, callbacks=())
    history = trainer.fit_batches(loader, epochs=3)
    assert (trainer.epoch, trainer.step, loader.begun) == (3, 12, 3)
    by_hand = make(backend, callbacks=())
    sums = [sum(len(y) * by_hand.partial_fit(x, y) for x, y in Loader()) / 50 for _ in range(3)]
    np.testing.assert_allclose(history["loss"], sums, rtol=1e-6)


def test_validation_and_weights_of_batches():
    trainer = make()
    weighted = [(x, y, np.ones(len(y))) for x, y in Loader()]
    history = trainer.fit_batches(weighted, epochs=2, validation_data=(X_NEW, Y_NEW))
    assert timeless(history) == timeless(make().fit_batches(Loader(), epochs=2, validation_data=(X_NEW, Y_NEW)))


def test_exact_resume_of_batches(tmp_path):
    alone = make()
    alone.fit_batches(Loader(), epochs=3, validation_data=(X_NEW, Y_NEW))

    class Stop(Callback):
        def due(self, trainer):
            return trainer.step == 6

        def on_losses(self, trainer, losses):
            trainer.stop()

    for step in range(1, 12):
        first = make()
        stop = Stop()
        stop.due = lambda trainer, step=step: trainer.step == step
        stop.on_losses = lambda trainer, losses, step=step: trainer.stop() if trainer.step == step else None
        first.callbacks += (stop, Checkpoint(tmp_path / str(step)))
        first.fit_batches(Loader(), epochs=3, validation_data=(X_NEW, Y_NEW))
        assert first.step == step
        second = resumed(latest_checkpoint(tmp_path / str(step)))
        second.fit_batches(Loader(), epochs=3 - second.epoch, validation_data=(X_NEW, Y_NEW))
        assert_same_run(alone, second)


def test_what_an_iterable_raises_comes_out():
    trainer = make(callbacks=())
    with pytest.raises(OSError, match="the connection was lost"):
        trainer.fit_batches(Loader(fail_at=2), epochs=3)
    assert trainer.history.stopped


@pytest.mark.parametrize(
    ("made", "error", "sentence"),
    [
        ([], DataError, "the iterable gave no batches"),
        (
            [X],
            DataError,
            r"batch 1 of the epoch must be \(x, y\) or \(x, y, sample_weight\), not <class 'numpy.ndarray'>",
        ),
        ([(X, Y), (X, Y, Y, Y)], DataError, r"batch 2 of the epoch must be \(x, y\)"),
        ([(X, Y), (X[..., 0], Y)], ShapeError, r"batch 2 of the epoch: x has shape \(50, 4, 4\)"),
        ([(X, Y + 5)], DataError, "batch 1 of the epoch: the class numbers in y"),
        (3, ConfigError, "batches must be an iterable of"),
    ],
)
def test_bad_batches(made, error, sentence):
    with pytest.raises(error, match=sentence):
        make(callbacks=()).fit_batches(made)


def test_an_iterator_serves_one_epoch():
    trainer = make(callbacks=())
    with pytest.raises(DataError, match="an iterator serves one epoch only, a list, or an object whose __iter__"):
        trainer.fit_batches(iter(Loader()), epochs=2)
    assert trainer.epoch == 1


def test_fewer_batches_than_before(tmp_path):
    trainer = make(callbacks=())
    trainer.callbacks = (Checkpoint(tmp_path, steps=3, seconds=1e9, keep=99),)
    trainer.fit_batches(Loader())
    again = resumed(tmp_path / "checkpoint-000000003.safetensors", callbacks=())
    with pytest.raises(DataError, match="3 batches of this epoch are done, and the iterable gave 2 in all"):
        again.fit_batches(list(Loader())[:2])


def test_full_batch_methods_take_no_batches():
    with pytest.raises(ConfigError, match="LBFGS needs all examples at once: call fit"):
        make(optimizer=optim.LBFGS(), augment=None).fit_batches(Loader())


# ---- a source that fills the same arrays again and again


class OneBuffer:
    def __init__(self, new, reuse):
        self.new, self.reuse = new, reuse

    def __iter__(self):
        kept = [self.new(a[:10]) for a in (X, Y, np.ones(10, np.float32))]
        for i in range(0, 50, 10):
            arrays = kept if self.reuse else [self.new(a) for a in kept]
            for array, values in zip(
                arrays, (X[i : i + 10], Y[i : i + 10], np.arange(i, i + 10, dtype="f4")), strict=True
            ):
                array[...] = values if isinstance(array, np.ndarray) else self.new(values)
            yield tuple(arrays)


@pytest.mark.parametrize("lane", [name for name in USABLE if name != "strict:no_x64"])
@pytest.mark.parametrize("own", [False, True])
def test_an_iterable_that_fills_one_buffer(lane, own):
    with open_lane(lane) as backend:
        if own and backend.name == "jax":
            pytest.skip("arrays of JAX cannot be written to")
        new = (lambda a: backend.copy(backend.asarray(a))) if own and lane != "numpy-readonly" else np.array
        runs = [make(backend, callbacks=()) for _ in range(2)]
        for trainer, reuse in zip(runs, (False, True), strict=True):
            trainer.fit_batches(OneBuffer(new, reuse), epochs=2)
        assert_same_run(*runs)


def test_endless_batches_can_be_stopped():
    class StopSoon(Callback):
        def on_losses(self, trainer, losses):
            assert len(losses) <= 8  # no more batches than these are held
            if trainer.step > 20:
                trainer.stop()

    endless = ((X[:16], Y[:16]) for _ in itertools.count())
    trainer = make(callbacks=[StopSoon()])
    assert trainer.fit_batches(endless).stopped
    assert 20 < trainer.step < 40


def test_a_loop_that_fails_ends_the_thread():
    trainer = make(optimizer=optim.SGD(lr=1e38), layer=nn.Sequential([nn.Flatten(), nn.Affine(3)]), callbacks=())
    endless = ((X[:16], Y[:16]) for _ in itertools.count())
    with pytest.raises(DivergenceError):
        trainer.fit_batches(endless)
