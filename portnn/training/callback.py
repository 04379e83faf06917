"""What watches a run from outside: the protocol of what it sees, and what it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from portnn._typing import Array, Tree
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.training.history import History
from portnn.training.interrupts import Stoppable
from portnn.training.progress import Progress
from portnn.training.records import tidy

__all__ = ["Callback", "CallbackList", "Training"]


class Training(Stoppable, Protocol):
    """A run under way as callbacks see it: a `portnn.Trainer`, which says what each of these is."""

    lr_factor: float

    @property
    def network(self) -> Network: ...

    @property
    def loss(self) -> Loss: ...

    @property
    def optimizer(self) -> Optimizer | FullBatch: ...

    @property
    def callbacks(self) -> Sequence[Callback]: ...

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def history(self) -> History: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def within_fit(self) -> bool: ...

    @property
    def resuming(self) -> bool: ...

    @property
    def learning_rate(self) -> float | None: ...

    def save(self, path: str | os.PathLike[str]) -> None: ...


class Callback:
    """Called by a `Trainer`; override what you need. ``trainer.stop()`` ends the run after the current step."""

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        """Before the first step of a call of ``fit``; the number of steps is None where nobody knows it."""

    def on_losses(self, trainer: Training, losses: Sequence[float]) -> None:
        """With the losses of the steps since the last call, about ten times a second."""

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        """After an epoch and its validation; the record may be added to.

        It holds numbers by names: what a callback adds becomes an int or float (a truth value 0 or 1) before the next
        callback sees it. What is no number ends the run with ConfigError, and comes into no log and no checkpoint.
        """

    def on_fit_end(self, trainer: Training) -> None:
        """After the last step of a call of ``fit``, also when an error ends it."""

    def due(self, trainer: Training) -> bool:
        """Whether `on_losses` and `on_pause` are to be called right after the current step; see `steps_until_due`."""
        return False

    def steps_until_due(self, trainer: Training) -> int | None:
        """After how many steps `due` is asked again at the latest, > 0; None: never.

        Several steps may be done at once, and callbacks are called after all of them. So whoever overrides `due` is
        asked at every step, unless it says here how long that is not needed.
        """
        return None if type(self).due is Callback.due else 1

    def on_pause(self, trainer: Training) -> None:
        """Between two steps, after all callbacks have had their `on_losses` or `on_epoch_end`: the time to save."""

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint is to hold of this callback: numbers, text, None, and lists and dicts of those.

        It comes back as it was, but for tuples, which become lists, and numbers of other libraries, which become
        Python's; anything else is a ConfigError when it is to be saved. None: nothing, arrays neither.
        """
        return None

    def arrays(self) -> Tree:
        """The arrays that a checkpoint is to hold of this callback."""
        return {}

    def restore(self, trainer: Training, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take back what `state` gave, and the host arrays of `arrays` by their paths; raises if they do not fit.

        The next `on_fit_begin` is that of the resumed run: ``trainer.resuming`` is True in it.
        """


class CallbackList:
    """Several callbacks, and the run that they are told of."""

    def __init__(self, training: Training, callbacks: Iterable[Callback]) -> None:
        self.training, self._callbacks = training, tuple(callbacks)

    def begin(self, epochs: int, steps_per_epoch: int | None, stack: ExitStack) -> None:
        """`on_fit_begin`, and `on_fit_end` when the stack is unwound."""
        for callback in self._callbacks:
            stack.callback(callback.on_fit_end, self.training)
            callback.on_fit_begin(self.training, epochs, steps_per_epoch)

    def due(self) -> bool:
        """Whether one is due after the current step."""
        return any(callback.due(self.training) for callback in self._callbacks)

    def steps_until_due(self) -> int:
        """How many steps may be done before one has to be asked whether it is due."""
        steps = [callback.steps_until_due(self.training) for callback in self._callbacks]
        return min([n for n in steps if n is not None], default=sys.maxsize)

    def losses(self, losses: Sequence[float]) -> None:
        for callback in self._callbacks:
            callback.on_losses(self.training, losses)

    def epoch_end(self, record: dict[str, float]) -> None:
        for callback in self._callbacks:
            callback.on_epoch_end(self.training, record)
            tidy(record, f", of {type(callback).__name__}")  # before the next one writes it down

    def pause(self) -> None:
        """Tell that nothing is under way; between steps."""
        for callback in self._callbacks:
            callback.on_pause(self.training)

    def states(self) -> list[tuple[Callback, dict[str, Any]]]:
        """Those that have something to remember, and what."""
        states = [(callback, callback.state()) for callback in self._callbacks]
        return [(callback, state) for callback, state in states if state is not None]
