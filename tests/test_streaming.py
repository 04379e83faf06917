"""Data that no memory holds: arrays on disk, and batches that somebody else makes."""

import itertools
import threading
import time
import tracemalloc
from contextlib import closing

import numpy as np
import pytest
from lanes import USABLE, open_lane
from test_resume import X_NEW, Y_NEW, X, Y, assert_same_run, cut, fit, make, resumed, timeless

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import batches, prefetch
from portnn.errors import ConfigError, DataError, DivergenceError, ShapeError
from portnn.training import Callback, Checkpoint, latest_checkpoint


def on_disk(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def prefetching():
    """The threads of `prefetch` that are alive."""
    return [t for t in threading.enumerate() if t.name == "portnn prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert prefetching() == []


# ---- prefetch


def test_prefetch_gives_the_items_in_order():
    assert list(prefetch(iter(range(100)), depth=3)) == list(range(100))
    assert list(prefetch(iter([]))) == []


def test_prefetch_is_ahead_by_no_more_than_its_depth():
    made = []
    source = (made.append(i) or i for i in range(100))
    with closing(prefetch(source, depth=2)) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(made) == 4  # one is used, two wait, one waits for a place
    assert len(made) <= 5


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_prefetch_passes_exceptions_on_in_their_place(error):
    class Source:
        count = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.count += 1
            if self.count == 3:
                raise error
            return self.count

    items = prefetch(Source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(items)
    assert raised.value is error


def test_prefetch_closes_its_source():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread().name)

    with closing(prefetch(source())) as items:
        assert [next(items) for _ in range(5)] == list(range(5))
    assert closed == ["portnn prefetch"]


def test_prefetch_refuses_a_depth_of_nothing():
    with pytest.raises(ConfigError, match="depth must be a positive int"):
        prefetch(iter([]), depth=0)


# ---- memory maps


@pytest.mark.parametrize("lane", [name for name in USABLE if name not in ("strict:no_x64", "jax")])
def test_a_memory_map_trains_as_the_array_does(lane, tmp_path):
    weight = np.linspace(0.5, 1.5, 50)
    mapped = {"x": on_disk(tmp_path, "x", X), "y": on_disk(tmp_path, "y", Y)}
    new = on_disk(tmp_path, "x_new", X_NEW), on_disk(tmp_path, "y_new", Y_NEW)
    with open_lane(lane) as backend:
        trainers = []
        for data, validation in (({"x": X, "y": Y}, (X_NEW, Y_NEW)), (mapped, new)):
            trainer = make(backend)
            trainer.fit(**data, sample_weight=weight, epochs=3, batch_size=16, validation_data=validation)
            trainers.append(trainer)
        assert_same_run(*trainers)
        assert trainers[1].evaluate(*new) == trainers[0].evaluate(X_NEW, Y_NEW)


@pytest.mark.parametrize("dtype", ["uint8", "float64", ">f4", "int16"])
def test_memory_maps_of_other_types(dtype, tmp_path):
    x = (np.abs(X) * 50).astype(dtype)
    first, second = make(callbacks=()), make(callbacks=())
    first.fit(x, Y, epochs=2)
    second.fit(on_disk(tmp_path, "x", x), Y.tolist(), epochs=2)
    assert_same_run(first, second)


def test_resume_with_a_memory_map(tmp_path):
    cut(tmp_path / "c", 6)
    trainer = resumed(tmp_path / "c")
    mapped = on_disk(tmp_path, "x", X)
    trainer.fit(mapped, Y, epochs=8 - trainer.epoch, batch_size=16, validation_data=(X_NEW, Y_NEW))
    assert_same_run(fit(make()), trainer)


def test_a_memory_map_stays_on_disk(tmp_path):
    """200 MB of examples train and are measured with a few."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(50_000, 1000))  # all 0
    y = np.arange(50_000) % 3
    trainer = Trainer(Network(nn.Affine(3), 1000, rng=0), losses.SoftmaxCrossEntropy(), optim.SGD(), rng=0)
    tracemalloc.start()
    trainer.fit(x, y, batch_size=500, validation_data=(x, y))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.nbytes == 200_000_000
    assert peak < 60_000_000, f"{peak:,} bytes"


def test_bad_memory_maps(tmp_path):
    bad = np.array(X)
    bad[49, 2, 1, 0] = np.inf
    trainer = make(callbacks=())
    with pytest.raises(ShapeError, match=r"x has shape \(50, 4, 4\); the network takes \(n, 4, 4, 1\)"):
        trainer.fit(on_disk(tmp_path, "flat", X[..., 0]), Y)
    with pytest.raises(ShapeError, match="x has 50 examples, but y has 49 targets"):
        trainer.fit(on_disk(tmp_path, "x", X), Y[:49])
    with pytest.raises(DataError, match="sample_weight must be >= 0"):
        trainer.fit(on_disk(tmp_path, "x", X), Y, sample_weight=-np.ones(50))
    with pytest.raises(ShapeError, match=r"validation x has shape \(50, 4, 4\)"):
        trainer.fit(X, Y, validation_data=(on_disk(tmp_path, "flat", X[..., 0]), Y))
    assert trainer.step == 0
    with pytest.raises(
        DataError, match=r"batch \d of the epoch: x has 1 values that are NaN or infinite, the first at"
    ):
        trainer.fit(on_disk(tmp_path, "bad", bad), Y, batch_size=16)
    with pytest.raises(DataError, match=r"batch 1 of the epoch: the class numbers in y must lie in 0 \.\. 2"):
        trainer.fit(on_disk(tmp_path, "x", X), Y + 9)
    assert trainer.step < 8


def test_a_single_example_on_disk_is_refused_at_the_door(tmp_path):
    with pytest.raises(ShapeError, match="BatchNorm cannot train on a batch of one value"):
        make().fit(on_disk(tmp_path, "x", X), Y, batch_size=7)


# ---- iterables


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
