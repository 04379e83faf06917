"""Data that no memory holds: arrays on disk, and batches that somebody else makes."""

import itertools
import signal
import threading
import time
import tracemalloc
from collections import namedtuple
from contextlib import closing, contextmanager

import numpy as np
import pytest
from lanes import USABLE, open_lane
from resumed_runs import X_NEW, Y_NEW, X, Y, assert_same_run, cut, fit, make, resumed, timeless

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import batches, prefetch
from portnn.data.prefetch import handed_over
from portnn.errors import ConfigError, DataError, DivergenceError, ShapeError
from portnn.training import Callback, Checkpoint, latest_checkpoint, stop_on_signals


def on_disk(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def prefetching():
    """The threads of `prefetch` that are alive."""
    return [t for t in threading.enumerate() if t.name == "portnn prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    deadline = time.monotonic() + 10  # nobody waits for them, but they end
    while prefetching() and time.monotonic() < deadline:
        time.sleep(0.01)
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


class Stuck:
    """Gives some items, and then waits for an event; afterwards it says whether it was closed."""

    def __init__(self, items):
        self.items, self.waits, self.come_back, self.closed = items, *(threading.Event() for _ in range(3))

    def __iter__(self):
        try:
            yield from self.items
            self.waits.set()
            assert self.come_back.wait(60)
            yield from self.items
        finally:
            self.closed.set()


def test_the_end_does_not_wait_for_the_source():
    stuck = Stuck([1, 2])
    items = prefetch(iter(stuck))
    assert [next(items), next(items)] == [1, 2]
    assert stuck.waits.wait(10)
    began = time.monotonic()
    items.close()
    assert time.monotonic() - began < 2
    assert not stuck.closed.is_set()
    stuck.come_back.set()
    assert stuck.closed.wait(10)


def test_what_is_called_while_waiting_may_end_it():
    stuck, calls = Stuck([1]), []

    def look():
        calls.append(threading.current_thread())
        if len(calls) == 3:
            raise ArithmeticError("enough")

    items = handed_over(iter(stuck), while_waiting=look)
    assert next(items) == 1
    with pytest.raises(ArithmeticError, match="enough"):
        next(items)
    assert calls == [threading.current_thread()] * 3
    stuck.come_back.set()


Named = namedtuple("Named", "x y")


@pytest.mark.parametrize(
    "pack", [lambda a: a, lambda a: (a, 1), lambda a: [a], lambda a: {"x": a}, lambda a: Named(a, 2)]
)
def test_what_is_read_ahead_is_not_overwritten(pack):
    def source():
        buffer = np.empty(3)
        for i in range(5):
            buffer[...] = i
            yield pack(buffer)

    with closing(prefetch(source(), depth=3)) as items:
        found = list(items)
    assert [type(item) for item in found] == [type(pack(np.empty(3)))] * 5
    for i, item in enumerate(found):
        expected = pack(np.full(3, float(i)))
        np.testing.assert_equal(item, expected)


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


# ---- a source that waits


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
