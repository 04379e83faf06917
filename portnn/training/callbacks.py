"""The callbacks that come along: early stopping, a rate that falls on a plateau, a progress bar."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_count, check_number
from portnn.errors import ConfigError
from portnn.storage import rebuild
from portnn.training.callback import Callback, Training
from portnn.training.showing import Display

__all__ = ["Callback", "EarlyStopping", "ProgressBar", "ReduceOnPlateau"]


class _Watch(Callback):
    """Acts when a measure has not become better for some epochs."""

    def __init__(self, monitor: str, patience: int, min_delta: float, larger_is_better: bool) -> None:
        self.monitor = monitor
        self.patience = check_count("patience", patience)
        self.min_delta = check_number("min_delta", min_delta, 0)
        self.larger_is_better = larger_is_better
        self.best, self.best_epoch = math.inf, 0
        self._waiting_since = 0
        self._seen_one = False

    def state(self) -> dict[str, Any] | None:
        own = {"best": self.best, "best_epoch": self.best_epoch, "waiting_since": self._waiting_since}
        return own | {"seen_one": self._seen_one}

    def restore(self, trainer: Training, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        best, best_epoch, waiting_since = float(state["best"]), int(state["best_epoch"]), int(state["waiting_since"])
        self.best, self.best_epoch, self._waiting_since = best, best_epoch, waiting_since
        self._seen_one = state.get("seen_one", math.isfinite(best)) is True  # older files do not say

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        self._check_monitor(trainer, epochs)
        if trainer.resuming:
            return
        self.best, self.best_epoch = -math.inf if self.larger_is_better else math.inf, trainer.epoch
        self._waiting_since, self._seen_one = trainer.epoch, False

    def _check_monitor(self, trainer: Training, epochs: int) -> None:
        """Tell of a column that no epoch will have, unless another callback may add it."""
        if epochs and self.monitor not in trainer.columns and not any(map(_may_add_columns, trainer.callbacks)):
            self._refuse(trainer.columns)

    def _refuse(self, columns: Iterable[str]) -> NoReturn:
        needs = " (val_... needs validation_data)" if self.monitor.startswith("val_") else ""
        raise ConfigError(
            f"{type(self).__name__} watches {self.monitor!r}, and the history has {', '.join(columns)}{needs}"
        )

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        if self.monitor not in record:
            self._refuse(record)
        value = record[self.monitor]
        gain = value - self.best if self.larger_is_better else self.best - value
        # The first epoch is the best so far whatever its value is, as in Keras: the epochs after it are counted. After
        # one that is not a number, any number is better.
        first = not self._seen_one or (math.isnan(self.best) and not math.isnan(value))
        self._seen_one = True
        if first or gain > self.min_delta:
            self.best, self.best_epoch, self._waiting_since = value, trainer.epoch, trainer.epoch
            self._better(trainer)
        elif trainer.epoch - self._waiting_since >= self.patience:
            self._waiting_since = trainer.epoch
            self._no_better(trainer)

    def _better(self, trainer: Training) -> None:
        """After an epoch that was the best so far."""

    def _no_better(self, trainer: Training) -> None:
        """After ``patience`` epochs in a row that were not."""


def _may_add_columns(callback: Callback) -> bool:
    """Whether a callback does something of its own with the record of an epoch."""
    own = "on_epoch_end" in vars(callback) or not isinstance(callback, Callback)
    return own or not type(callback).on_epoch_end.__module__.startswith("portnn.training.")


class EarlyStopping(_Watch):
    """Ends the run when a measure has not become better for some epochs, and goes back to the best parameters.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A column of the history.
    patience : int, default 5
        After how many epochs in a row without a better value the run ends. The first epoch counts as the best so far,
        also where its value is NaN or infinite.
    min_delta : float, default 0.0
        What counts as better: by more than this, >= 0.
    larger_is_better : bool, default False
        As for an accuracy.
    restore_best : bool, default True
        Whether the network gets the parameters and state of its best epoch back at the end.

    Attributes
    ----------
    best, best_epoch : float, int
        The best value, and the epoch that reached it.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        larger_is_better: bool = False,
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, patience, min_delta, larger_is_better)
        self.restore_best = restore_best
        self._kept: Any = None
        self._done = False

    def state(self) -> dict[str, Any] | None:
        return {**(super().state() or {}), "done": self._done, "kept": self._kept is not None}

    def arrays(self) -> Tree:
        return {} if self._kept is None else self._kept

    def restore(self, trainer: Training, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        net, kept = trainer.network, None
        if state["kept"]:
            kept = net.to_device(rebuild({"params": net.params, "state": net.state}, arrays, net.dtype))
        super().restore(trainer, state, arrays)
        self._kept, self._done = kept, state["done"] is True

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        super().on_fit_begin(trainer, epochs, steps_per_epoch)
        if not trainer.resuming:
            self._kept, self._done = None, False
        if self._done:  # the run had come to its end, but for what follows it
            trainer.stop()

    def _better(self, trainer: Training) -> None:
        if self.restore_best:
            net = trainer.network
            net.settle()  # a callback before us may have put other parameters there, and a checkpoint holds these
            with net.trees.reading() as (params, state):
                self._kept = tree.map(net.backend.copy, {"params": params, "state": state})

    def _no_better(self, trainer: Training) -> None:
        self._done = True
        trainer.stop()

    def on_fit_end(self, trainer: Training) -> None:
        if self._kept is not None:
            trainer.network.trees.take(self._kept["params"], self._kept["state"])
            self._kept = None


class ReduceOnPlateau(_Watch):
    """Lowers the learning rate when a measure has not become better for some epochs.

    It multiplies ``trainer.lr_factor``, and so goes with every optimizer and schedule; the history's ``lr`` shows it.

    Parameters
    ----------
    monitor : str, default "val_loss"
        A column of the history.
    factor : float, default 0.1
        What the rate is multiplied by, in (0, 1).
    patience : int, default 5
        After how many epochs in a row without a better value (torch counts one less). Then the count starts anew. The
        first epoch counts as the best so far, also where its value is NaN or infinite.
    min_delta : float, default 0.0
        What counts as better: by more than this, >= 0.
    larger_is_better : bool, default False
        As for an accuracy.
    lowest : float, default 0.0
        The factor on the optimizer's rate does not fall below this, in [0, 1).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        larger_is_better: bool = False,
        lowest: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta, larger_is_better)
        self.factor = check_number("factor", factor, 0, 1, open_low=True)
        self.lowest = check_number("lowest", lowest, 0, 1)

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        super().on_fit_begin(trainer, epochs, steps_per_epoch)
        if trainer.learning_rate is None:
            raise ConfigError(f"{type(trainer.optimizer).__name__} has no learning rate for ReduceOnPlateau to lower")

    def _no_better(self, trainer: Training) -> None:
        lower = max(trainer.lr_factor * self.factor, self.lowest)
        trainer.lr_factor = min(trainer.lr_factor, lower)


class ProgressBar(Callback):
    """A tqdm bar over the steps of each epoch, on standard error; shown only where that is a terminal.

    Where that has gone away, or was never there, the run goes on without a bar.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._epochs = 0
        self._steps: int | None = None
        self._display = Display()

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        self._epochs, self._steps, self._display = trainer.epoch + epochs, steps_per_epoch, Display()

    def on_losses(self, trainer: Training, losses: Sequence[float]) -> None:
        if not self._display.show(lambda: self._show(trainer, losses)):
            self._give_up()

    def _show(self, trainer: Training, losses: Sequence[float]) -> None:
        if sys.stderr is None or getattr(sys.stderr, "closed", False):
            raise ValueError("no stream")
        if self._bar is None:
            from tqdm.auto import tqdm

            title = f"epoch {trainer.epoch + 1}/{self._epochs}"
            done = trainer.progress.batches - len(losses)  # before a checkpoint
            # A bar left half made complains when it is deleted. tqdm flushes both streams while it makes one, so what
            # fails there fails here before; and the delay keeps it from being drawn before it is made.
            for stream in (sys.stderr, sys.stdout):
                getattr(stream, "flush", bool)()
            options: dict[str, Any] = {"unit": "step", "leave": False, "disable": None, "delay": 1e-9}
            self._bar = tqdm(total=self._steps, initial=done, desc=title, **options)
            self._bar.refresh()
        self._bar.update(len(losses))
        self._bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        self._close()

    def on_fit_end(self, trainer: Training) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None and self._display.show(self._bar.close):
            self._bar = None
        self._give_up()

    def _give_up(self) -> None:
        if self._bar is not None:
            self._bar.disable = True  # or it would write once more when it is thrown away
            self._bar = None
