"""Many steps at once: where chunks end changes nothing but the time."""

import itertools
import math
import types

import numpy as np
import pytest
from helpers import get
from lanes import USABLE, open_lane

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.data.augmentation import Shift
from portnn.optim import schedules
from portnn.training import Callback, Checkpoint, chunks, epochs, latest_checkpoint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(54, 4, 4, 1)).astype(np.float32)
Y, WEIGHT = RNG.integers(0, 3, size=54), RNG.uniform(0, 2, size=54).astype(np.float32)
LAYER = nn.Sequential([nn.Flatten(), nn.Affine(6), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.Affine(3)])
STEPS = 14  # of an epoch; the last batch is a smaller one


class Killed(BaseException):
    pass


class Kill(Callback):
    """Ends the run as a kill would, as soon as a step is done."""

    def __init__(self, step):
        self.step = step

    def on_losses(self, trainer, losses):
        if trainer.step >= self.step:
            raise Killed


def make(backend, *callbacks, **kwargs):
    optimizer = optim.Accumulate(3, optim.Adam(lr=schedules.OneCycle(0.05, steps=40)))
    return Trainer(
        Network(LAYER, (4, 4, 1), device=backend, rng=0),
        losses.SoftmaxCrossEntropy(),
        optimizer,
        augment=Shift(1),
        callbacks=callbacks,
        rng=0,
        **kwargs,
    )


def fit(trainer):
    trainer.fit(X, Y, sample_weight=WEIGHT, epochs=2 - trainer.epoch, batch_size=4)
    return trainer


def in_chunks_of(monkeypatch, *sizes):
    """Let chunks have these sizes, one after the other and again, whatever the clock says; the sizes that came."""
    seen = []

    class Fixed(chunks.Pace):
        def __init__(self, most):
            self.cycle = itertools.cycle(sizes)
            self.steps = next(self.cycle)

        def advance(self, stepper, chunk, usual_weight):
            stepper.advance(chunk, usual_weight)
            seen.append(len(chunk))
            self.steps = next(self.cycle)

    monkeypatch.setattr(epochs, "Pace", Fixed)
    return seen


def assert_same(first, second):
    backend = first.network.backend
    for part in ("params", "state"):
        ours, theirs = (get(backend, getattr(t.network, part)) for t in (first, second))
        tree.map(lambda a, b: np.testing.assert_array_equal(a, b), ours, theirs)
    assert first.history["loss"] == second.history["loss"]
    assert first.step == second.step


# Not on read-only NumPy: a twin that writes takes over there after the first step, which resuming puts elsewhere.
@pytest.mark.parametrize("lane", [name for name in USABLE if name not in ("numpy-readonly", "strict:no_x64")])
def test_bits_do_not_depend_on_chunks(lane, tmp_path, monkeypatch):
    with open_lane(lane) as backend:
        seen = in_chunks_of(monkeypatch, 1)
        alone = fit(make(backend))
        assert seen == [1] * 2 * STEPS
        for sizes, came in [((2,), [2] * 6), ((7,), [7, 6]), ((STEPS,), [STEPS - 1]), ((1, 2, 7), [1, 2, 7, 1, 2])]:
            seen = in_chunks_of(monkeypatch, *sizes)
            again = fit(make(backend))
            assert seen[: len(came)] == came
            assert_same(alone, again)
        # A kill in the middle of the second epoch, and a resumed run in other chunks.
        in_chunks_of(monkeypatch, 7)
        with pytest.raises(Killed):
            fit(make(backend, Checkpoint(tmp_path / "c", steps=5), Kill(20)))
        in_chunks_of(monkeypatch, 2, 3)
        resumed = make(backend)
        resumed.load(latest_checkpoint(tmp_path / "c"))
        assert resumed.step == 15
        assert_same(alone, fit(resumed))


@pytest.mark.skipif("jax" not in USABLE, reason="JAX is not installed")
def test_a_loop_of_one_program_is_used():
    """JAX does the steps of a chunk without Python between them, and with the bits of chunks of one."""
    with open_lane("jax") as backend:
        trainer = fit(make(backend))
        loop = trainer.stepper.loop
        assert loop.reason is None
        assert loop.most(4) > STEPS


def test_chunks_grow_with_the_pace_and_stop_where_a_callback_is_due(monkeypatch):
    ends = []

    class EverySix(Callback):
        def due(self, trainer):
            return trainer.step % 6 == 0

        def steps_until_due(self, trainer):
            return 6 - trainer.step % 6

        def on_pause(self, trainer):
            ends.append(trainer.step)

    seen = in_chunks_of(monkeypatch, 5)
    monkeypatch.setattr(epochs, "_LOOK_EVERY", math.inf)  # callbacks have a pause at each look, too
    fit(make("cpu", EverySix()))
    # 14 and 28: the ends of the epochs.
    assert ends == [6, 12, 14, 18, 24, 28]
    assert seen[:4] == [5, 1, 5, 1]


def test_a_callback_which_says_nothing_is_asked_after_every_step(monkeypatch):
    asked = []

    class Asked(Callback):
        def due(self, trainer):
            asked.append(trainer.step)
            return False

    in_chunks_of(monkeypatch, 9)
    fit(make("cpu", Asked()))
    assert asked == list(range(1, 2 * STEPS + 1))


def test_a_chunk_takes_some_fifty_milliseconds(monkeypatch):
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(chunks, "time", clock)

    class Stepper:
        def __init__(self, seconds):
            self.seconds = seconds

        def advance(self, chunk, usual_weight):
            clock.now += self.seconds * len(chunk)

    def sizes(pace, seconds, times):
        found = []
        for _ in range(times):
            pace.advance(Stepper(seconds), [None] * pace.steps, 1.0)
            found.append(pace.steps)
        return found

    pace = chunks.Pace(lambda: 1000)
    assert sizes(pace, 0.0051, 6) == [2, 4, 8, 9, 9, 9]
    assert sizes(pace, 0.1, 2) == [1, 1]
    assert sizes(chunks.Pace(lambda: 3), 0.0, 3) == [2, 3, 3]


def test_pieces_of_a_chunk_have_one_size():
    class Sized:
        def __init__(self, size):
            self.size = size

    pieces = iter([Sized(4), Sized(4), Sized(4), Sized(2), Sized(4)])
    assert [[p.size for p in chunk] for chunk in chunks.in_chunks(pieces, lambda: 9)] == [[4, 4, 4], [2], [4]]


@pytest.mark.skipif("jax" not in USABLE, reason="JAX is not installed")
def test_convolutions_go_one_by_one_where_a_loop_makes_them_slow():
    layer = nn.Sequential([nn.Conv2D(2, 3), nn.Flatten(), nn.Affine(3)])
    with open_lane("jax") as backend:
        trainer = Trainer(
            Network(layer, (4, 4, 1), device=backend, rng=0), losses.SoftmaxCrossEntropy(), optim.SGD(lr=0.1), rng=0
        )
        trainer.fit(X, Y, epochs=1, batch_size=27)
        assert "convolutions" in trainer.stepper.loop.reason
        assert trainer.stepper.loop.most(27) == 1
        assert trainer.step == 2
