"""The course of a run from tapes: ways to feed it, what happens between its steps, and what is held on to meanwhile."""

import contextlib
import copy
import itertools
import os
import pickle
import threading
import time
import types

import numpy as np
import pytest
from portnn_backends.on_numpy.compile import loops
from portnn_backends.on_numpy.tape import tape
from portnn_backends.on_numpy.workspace import _Cores
from tapes import Losses, assert_by_tapes, assert_same_bits, by_both, needs_numba

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import DivergenceError
from portnn.training import Callback

pytestmark = needs_numba

RNG = np.random.default_rng(0)
N = 44
X, Y = RNG.normal(size=(N, 5)).astype(np.float32), RNG.integers(0, 3, N)
WEIGHT = RNG.uniform(0.0, 2.0, size=N).astype(np.float32)
LAYER = nn.Sequential([nn.Affine(7), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.2), nn.Affine(3)])


def make(*callbacks, seed=0, layer=LAYER, **options):
    network = Network(layer, 5, device="cpu", rng=seed)
    optimizer = optim.Adam(lr=optim.schedules.Exponential(0.01, factor=0.999))
    loss = losses.SoftmaxCrossEntropy()
    return Trainer(network, loss, optimizer, rng=seed, callbacks=[Losses(), *callbacks], **options)


def fit(trainer, epochs=5, batch_size=11, **options):
    """20 steps."""
    trainer.fit(X, Y, epochs=epochs, batch_size=batch_size, **options)
    return trainer


def assert_both(course, tapes=None):
    taped, plain = by_both(course)
    assert_by_tapes(taped)
    if tapes is not None:
        assert len(taped.stepper.loop.tapes) == tapes
    assert_same_bits(taped, plain)


def pieces(size=11, weighted=False):
    data = (X, Y, WEIGHT) if weighted else (X, Y)
    return [tuple(a[start : start + size] for a in data) for start in range(0, N, size)]


class Batches:
    """New arrays each time, as a loader makes them."""

    def __iter__(self):
        return (tuple(a.copy() for a in piece) for piece in pieces())


def by_batches():
    trainer = make()
    trainer.fit_batches(Batches(), epochs=5)
    return trainer


def by_weighted_batches():
    trainer = make()
    trainer.fit_batches(pieces(weighted=True), epochs=5)
    return trainer


def by_batches_in_float64():
    trainer = make()
    trainer.fit_batches([(x.astype(np.float64), y.astype(np.int32)) for x, y in pieces()], epochs=5)
    return trainer


def by_columns():
    """Arrays that lie otherwise in memory."""
    trainer = make()
    trainer.fit(np.asfortranarray(X), Y[::-1], epochs=5, batch_size=11)
    return trainer


def one_by_one():
    trainer = make()
    for x, y in itertools.chain.from_iterable(pieces() for _ in range(5)):
        trainer.callbacks[0].seen.append(trainer.partial_fit(x, y))
    return trainer


@pytest.mark.parametrize(
    "course",
    [lambda: fit(make()), by_batches, by_weighted_batches, by_batches_in_float64, by_columns, one_by_one],
    ids=["fit", "batches", "weighted batches", "float64", "columns", "partial_fit"],
)
def test_ways_to_feed_it(course):
    assert_both(course)


def test_memory_maps(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)

    def course():
        trainer = make()
        trainer.fit(np.load(tmp_path / "x.npy", "r"), np.load(tmp_path / "y.npy", "r"), epochs=5, batch_size=11)
        return trainer

    assert_both(course)


def test_targets_that_are_the_examples():
    def course():
        network = Network(nn.Sequential([nn.Affine(3), nn.Tanh(), nn.Affine(5)]), 5, device="cpu", rng=0)
        trainer = Trainer(network, losses.MeanSquaredError(), optim.Adam(), rng=0, callbacks=[Losses()])
        trainer.fit(X, X, epochs=5, batch_size=11)
        return trainer

    assert_both(course)


def test_columns_of_one_table():
    table = RNG.normal(size=(N, 7)).astype(np.float32)

    def course():
        network = Network(nn.Sequential([nn.Affine(3), nn.Tanh(), nn.Affine(1)]), 5, device="cpu", rng=0)
        trainer = Trainer(network, losses.MeanSquaredError(), optim.Adam(), rng=0, callbacks=[Losses()])
        weight = np.abs(table[:, 6])
        trainer.fit(table[:, :5], table[:, 5:6], sample_weight=weight, epochs=5, batch_size=11)
        return trainer

    assert_both(course)


def test_images_of_bytes():
    images = RNG.integers(0, 256, (N, 6, 6, 1)).astype(np.uint8)

    def course():
        layer = nn.Sequential([nn.Conv2D(2), nn.ReLU(), nn.MaxPool2D(), nn.Flatten(), nn.Affine(3)])
        network = Network(layer, (6, 6, 1), device="cpu", rng=0)
        trainer = Trainer(network, losses.SoftmaxCrossEntropy(), optim.SGD(lr=0.1), rng=0, callbacks=[Losses()])
        trainer.fit(images, Y, epochs=5, batch_size=11)
        return trainer

    assert_both(course)


def test_a_smaller_batch_has_a_tape_of_its_own():
    """Once it has come often enough, here once in each epoch."""
    assert_both(lambda: fit(make(), batch_size=10), tapes=1)  # the last one has 4
    assert_both(lambda: fit(make(), batch_size=10, epochs=10), tapes=2)


def test_batches_that_differ_in_size_each_time_are_not_recorded():
    """To record one and to look at what it gives takes as long as some ten steps."""
    sizes = np.random.default_rng(0).permutation(np.arange(2, 42))

    def course():
        trainer = make()
        trainer.fit_batches([(X[:size], Y[:size]) for size in sizes], epochs=2)
        return trainer

    taped, plain = by_both(course)
    assert taped.stepper.loop.reason is None
    assert not taped.stepper.loop.tapes
    assert_same_bits(taped, plain)


def test_other_sizes_of_batches_and_other_data():
    def course():
        trainer = fit(make())
        fit(trainer, batch_size=4, epochs=1)
        fit(trainer, sample_weight=WEIGHT, epochs=4)
        trainer.fit(X[:30], Y[:30], epochs=3, batch_size=6)
        return fit(trainer)

    assert_both(course, tapes=4)


def test_a_batch_of_one_example():
    assert_both(lambda: fit(make(layer=nn.Sequential([nn.Affine(4), nn.Tanh(), nn.Affine(3)])), batch_size=1, epochs=1))


def test_parameters_put_in_between():
    def course():
        trainer = fit(make())
        trainer.network.params = tree.map(lambda p: (p * 0.5)[::-1], trainer.network.params)
        return fit(trainer)

    assert_both(course)


def test_arrays_that_somebody_holds_stay_as_they_are():
    held = []

    class Hold(Callback):
        def on_epoch_end(self, trainer, record):
            params = trainer.network.params
            held.append((params, tree.map(np.copy, params)))

    assert_both(lambda: fit(make(Hold())))
    assert len(held) == 10
    for params, then in held:
        tree.map(np.testing.assert_array_equal, params, then)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(*(tree.leaves(held[i][1]) for i in (3, 4)), strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copied", "pickled"])
def test_copies_go_on_by_themselves(again):
    def course():
        trainer = fit(make())
        other = again(trainer)
        fit(trainer)
        return fit(other)

    assert_both(course)


def test_a_saved_run_goes_on(tmp_path):
    def course():
        trainer = fit(make())
        trainer.save(tmp_path / "run.safetensors")
        other = make()
        other.load(tmp_path / "run.safetensors")
        return fit(other)

    taped, plain = by_both(course)
    assert_by_tapes(taped)
    alone = fit(fit(make()))
    for name in ("params", "state"):
        tree.map(np.testing.assert_array_equal, getattr(alone.network, name), getattr(taped.network, name))
    assert_same_bits(taped, plain)


class Broken(Exception):
    pass


def test_an_error_of_a_callback_leaves_all_whole():
    class Break(Callback):
        def on_losses(self, trainer, losses):
            if trainer.step in (12, 16):
                raise Broken

    def course():
        trainer = make(Break())
        for _ in range(2):
            with pytest.raises(Broken):
                fit(trainer)
        return fit(trainer)

    assert_both(course)


def test_a_row_that_is_not_there_ends_the_run():
    """A tape looks at the numbers of examples, as the step does."""
    trainer = fit(make(layer=nn.Sequential([nn.Affine(3)])))
    assert_by_tapes(trainer)
    (tape,) = trainer.stepper.loop.tapes
    rows, numbers = np.arange(33).reshape(3, 11), trainer.optimizer.hyper(1)
    with trainer.network.backend.context():
        for wrong in (N, -N - 1):
            rows[1, 5] = wrong
            with pytest.raises(IndexError, match="out of range"):
                tape.run(rows, [{"step": step, "optimizer": numbers} for step in range(3)])


def test_a_step_that_skips_what_is_not_finite():
    x = X.copy()
    x[3] = 3e38  # Adam remembers the square of its gradient

    def course():
        trainer = make(on_nonfinite="skip", layer=nn.Sequential([nn.Affine(3)]))
        trainer.fit(x, Y, epochs=5, batch_size=11)
        assert np.isnan(trainer.callbacks[0].seen).sum() == 5  # of 20 steps
        return trainer

    assert_both(course)


def test_a_loss_that_is_not_finite_is_told_of():
    class Spoil(Callback):
        def on_epoch_end(self, trainer, record):
            if trainer.epoch == 4:
                trainer.network.params = tree.map(lambda p: p * np.float32(np.nan), trainer.network.params)

    said = []

    def course():
        trainer = make(Spoil())
        with pytest.raises(DivergenceError, match="the loss is nan") as error:
            fit(trainer, epochs=6)
        said.append(str(error.value))
        return trainer

    assert_both(course)
    assert said[0] == said[1]


def test_threads_that_train_at_once():
    """Each its own network; the cores are one's own only where nobody else computes."""
    taped: dict[int, Trainer] = {}
    plain = {}

    def course(seed, into):
        into[seed] = fit(make(seed=seed, layer=nn.Sequential([nn.Affine(400), nn.Tanh(), nn.Affine(3)])), epochs=8)

    threads = [threading.Thread(target=course, args=(seed, taped)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        _, plain[seed] = by_both(lambda: (course(seed, plain), plain[seed])[1])  # noqa: B023
        assert_by_tapes(taped[seed])
        assert_same_bits(taped[seed], plain[seed])


def test_cores_do_not_wait_for_a_thread_that_was_interrupted(monkeypatch):
    """Ctrl-C may come when the other threads have begun, and this one has not."""
    replay, threads = loops("replay").replay, []

    class Interrupted:
        @staticmethod
        def now(*args):
            part, together = args[5:7]
            threads.append(together)
            if together > 1 and part == 0:
                raise KeyboardInterrupt
            return replay.now(*args)

    trainer = make(layer=nn.Sequential([nn.Affine(3000), nn.Tanh(), nn.Affine(3)]))
    with trainer.network.backend.context():
        fit(trainer)
        monkeypatch.setattr(tape, "loops", lambda subject: types.SimpleNamespace(replay=Interrupted))
        with contextlib.suppress(KeyboardInterrupt):
            fit(trainer)
        monkeypatch.undo()
        if max(threads) == 1:
            pytest.skip("one core")
        assert all(np.isfinite(leaf).all() for leaf in tree.leaves(trainer.network.params))
        fit(trainer)
    assert trainer.history["loss"][-1] < trainer.history["loss"][0]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there are no several threads on one core")
def test_several_threads_that_are_slower_are_left_for_a_while(monkeypatch):
    """As where another process has a core: each meeting then waits until that one gives it up."""
    calls = []

    def slow(self, function, abandon):
        calls.append(function)
        real(self, function, abandon)
        time.sleep(0.1)

    real = _Cores.together
    monkeypatch.setattr(_Cores, "together", slow)
    monkeypatch.setattr(tape, "_WORTH", 0.0)
    monkeypatch.setattr(tape, "_PATIENCE", 3600.0)

    def train():
        net = Network(nn.Sequential([nn.Affine(64), nn.ReLU(), nn.Affine(3)]), input_shape=20, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
        x, y = np.random.default_rng(0).normal(size=(640, 20)).astype("f"), np.arange(640) % 3
        trainer.fit(x, y, epochs=5, batch_size=32)
        return trainer

    ours, theirs = by_both(train)
    assert_by_tapes(ours)
    assert_same_bits(ours, theirs)
    assert len(calls) == 1
