"""Training on NumPy from tapes, and step by step from Python, whose bits count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from portnn_backends.on_numpy.backend import NumpyBackend
from portnn_backends.on_numpy.compile import HAS_NUMBA
from portnn_backends.on_numpy.subnormal import FlushingLoop
from portnn_backends.on_numpy.workspace import workspace

if HAS_NUMBA:
    from portnn_backends.on_numpy.tape.tape import record

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.nn.layer import Parameterless
from portnn.training import Callback
from portnn.training.batch import Examples

__all__ = [
    "OTHER_NUMBERS",
    "Losses",
    "assert_by_tapes",
    "assert_found",
    "assert_same_bits",
    "by_both",
    "layer",
    "needs_numba",
    "replayed",
    "step_by_step",
    "trained",
]

#: What the loop says where a baked number was found out by a comparison with the step.
OTHER_NUMBERS = "gives other numbers"

#: For the tests of what is recorded.
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="without Numba no step is recorded")


class Losses(Callback):
    """The loss of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_losses(self, trainer: Any, losses: Any) -> None:
        self.seen += [float(loss) for loss in losses]


@contextmanager
def step_by_step() -> Iterator[None]:
    """Within the block, loops are made that record nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NumpyBackend, "loop", lambda self, *steps: FlushingLoop(self, steps))
        yield


def by_both(train: Callable[[], Any]) -> tuple[Any, Any]:
    """Two trainers that have run, the first one from tapes if it can."""
    taped = train()
    with step_by_step():
        plain = train()
    assert type(plain.stepper.loop) is FlushingLoop
    return taped, plain


def assert_by_tapes(trainer: Any) -> None:
    loop = trainer.stepper.loop
    assert loop.reason is None, f"the step is not recorded: {loop.reason}"
    assert loop.tapes
    assert loop.replayed


def _told(trainer: Any) -> dict[str, Any]:
    kind, slots = trainer.stepper.remembered()
    net = trainer.network
    leaves = tree.flatten({"params": net.params, "state": net.state, "slots": slots})
    told = {path: (leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in leaves.items()}
    seen = [np.array(c.seen).tobytes() for c in trainer.callbacks if isinstance(c, Losses)]
    history = repr(trainer.history["loss"] if trainer.epoch else [])
    return told | {"losses": seen, "history": history, "steps": trainer.step}


def assert_same_bits(ours: Any, theirs: Any) -> None:
    """Parameters, state, the optimizer's slots and losses of two trainers."""
    first, second = _told(ours), _told(theirs)
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if value != second[name]] == []


def replayed(function: Callable[..., Any], first: Any, second: Any, worth: float = math.inf) -> tuple[Any, Any]:
    """What a function of arrays gives for the ``second`` ones from a tape that was made with the ``first``, and itself.

    ``worth`` is from how many numbers on a pass over an array is split in two.
    """

    def step(arrays: Any, state: Any, slots: Any, batch: Any, hyper: Any) -> Any:
        made = np.copy(function(*arrays))  # a view of what it was given could not be kept
        return arrays, state, (made,), np.sum(made)

    with NumpyBackend().context():
        workspace().cores()  # taken as by the kernels of a step: BLAS may round otherwise on several threads
        expected = np.array(function(*[np.copy(a) for a in second]), order="C")
        blank = np.zeros_like(expected)
        data, index = Examples(np.zeros(3, np.float32), None), np.arange(2)
        tape = record(step, (tuple(first), (), (blank,)), data, index, {}, 2, worth)
        ours = [np.copy(a) for a in second]
        tape.bind({f"carry {i}": a for i, a in enumerate([*ours, blank])} | data._asdict())
        tape.run(index[None], [{}])
        for ours_, theirs in zip(ours, second, strict=True):
            assert ours_.tobytes() == theirs.tobytes(), "an input was changed"
    return blank, expected


def layer(function: Callable[[Any], Any]) -> Any:
    """A layer around ``function(x) -> y``, whose gradient is that of the identity."""

    def both(x: Any) -> Any:
        return function(x), lambda dy: dy

    return type("Own", (Parameterless,), {"function": staticmethod(both)})()


def trained(own: Any = None, first: Any = None, optimizer: Any = None, loss: Any = None, epochs: int = 3) -> Any:
    """15 steps or more on a small network, with the layer ``first`` before all others and ``own`` in the middle."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)
    layers = [first or nn.Identity(), nn.Affine(6), own or nn.Identity(), nn.Affine(6), nn.Affine(3)]
    optimizer = optimizer or optim.SGD(lr=optim.schedules.Exponential(0.05, factor=0.99))
    network = Network(nn.Sequential(layers), 4, device="cpu", rng=0)
    trainer = Trainer(network, loss or losses.SoftmaxCrossEntropy(), optimizer, rng=0, callbacks=[Losses()])
    trainer.fit(x, y, epochs=epochs, batch_size=8)
    return trainer


def assert_found(make: Callable[[], Any], reason: str) -> None:
    """The bits are those of the plain loop, and the loop says why it records nothing."""
    taped, plain = by_both(make)
    loop = taped.stepper.loop
    assert loop.reason is not None
    assert reason in loop.reason
    assert not loop.tapes
    assert loop.most(8) == 1
    assert_same_bits(taped, plain)
