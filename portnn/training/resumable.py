"""A run that can be saved and loaded, copied and pickled."""

from __future__ import annotations

import copy
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from portnn.nn.network import Network
from portnn.random import Stream
from portnn.training.callback import CallbackList
from portnn.training.epochs import settled
from portnn.training.recipe import Recipe
from portnn.training.resume import load_training, save_training
from portnn.training.run import HasRun, Run
from portnn.training.stepper import Stepper

__all__ = ["Resumable"]


class Resumable(HasRun, ABC):
    """What of a trainer has to do with files, copies and pickles; it has the attributes of a `Recipe`, too."""

    rng: Stream
    stepper: Stepper
    #: The thread in which a call of fit is under way.
    _thread: int | None = None

    @property
    def network(self) -> Network:
        return self.stepper.network

    @network.setter
    def network(self, network: Network) -> None:
        self.stepper.network = network

    @abstractmethod
    def callback_list(self) -> CallbackList:
        """The callbacks, as they are told of this run."""

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Around a call of fit: copies that other threads make meanwhile share nothing with it."""
        before, self._thread = self._thread, threading.get_ident()
        try:
            yield
        finally:
            self._thread = before

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network and the state of its training as one safetensors file, atomically.

        The file is one that `Network.load` reads; it holds besides what the optimizer remembers, the place in the order
        of the batches and in the random numbers, the history, ``lr_factor``, and what callbacks remember of a
        call of `fit` under way. Of a full-batch method, which has a memory of its own, it holds nothing.

        Raises
        ------
        ModelFileError
            If the file cannot be written; what was at the path before is still there then.
        DivergenceError
            If a parameter or the layers' state is not finite.
        ConfigError
            If a layer has a field, or a callback or record a value, that cannot be described.
        """
        save_training(Recipe.of(self), self.stepper, self.callback_list(), path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from what `save` wrote, on any backend: the next `fit` continues as if the run had never ended.

        The trainer is built as the one that was saved was: an equal network (its parameters do not matter), and an
        optimizer and callbacks of the same types. If the file was saved within a call of `fit` (as `Checkpoint` does),
        the next call finishes its epoch first, with the same data; the ``epochs`` that it needs to come to
        epoch ``n`` are ``n - trainer.epoch``. On the backend that saved it, the result equals that of the run
        left alone bit for bit, on another one to rounding. ``rng`` is taken from the file.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged, or no checkpoint.
        ConfigError
            If it is of another network, optimizer, or list of callbacks.
        """
        self.rng = load_training(Recipe.of(self), self.stepper, self.callback_list(), path)

    def __getstate__(self) -> dict[str, Any]:
        with self.network.trees.turn():
            network, run = self.network, replace(self.run, progress=settled(Recipe.of(self), self.stepper))
            if self._thread not in (None, threading.get_ident()):  # the run goes on while the rest is pickled
                network, run.history = copy.copy(network), copy.copy(run.history)
            return vars(self) | {"run": run, "stepper": self.stepper.copied(network, run), "_thread": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state if "stepper" in state else _of_version_0_1(state))


def _of_version_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a trainer that had not been taken apart yet."""
    gone = ("_steps", "_compiled_for", "pending", "epoch_began", "_usual_weight", "_slots_given")
    kept = {name: value for name, value in state.items() if name not in gone}
    of_run = {name: kept.pop(name) for name in Run.__dataclass_fields__ if name in kept}
    run = Run(optimizer_step=kept.pop("_optimizer_step"), **of_run)
    stepper = Stepper(kept.pop("network"), run)
    stepper.remember(kept.pop("_slots_of"), kept.pop("_slots"))
    return kept | {"run": run, "stepper": stepper}
