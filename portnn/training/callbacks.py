"""Callbacks: what watches a training run from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portnn.training.trainer import Trainer

__all__ = ["Callback", "ProgressBar"]


class Callback:
    """Called by a `Trainer`; override what you need. ``trainer.stop()`` ends the run after the current step."""

    def on_fit_begin(self, trainer: Trainer, epochs: int, steps_per_epoch: int) -> None:
        """Before the first step of a call of ``fit``."""

    def on_losses(self, trainer: Trainer, losses: Sequence[float]) -> None:
        """With the losses of the steps since the last call, about ten times a second."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        """After an epoch and its validation; the record may be added to."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last step of a call of ``fit``, also when an error ends it."""


class ProgressBar(Callback):
    """A tqdm bar over the steps of each epoch, on standard error; shown only where that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._epochs = 0
        self._steps = 0

    def on_fit_begin(self, trainer: Trainer, epochs: int, steps_per_epoch: int) -> None:
        self._epochs, self._steps = trainer.epoch + epochs, steps_per_epoch

    def on_losses(self, trainer: Trainer, losses: Sequence[float]) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            title = f"epoch {trainer.epoch + 1}/{self._epochs}"
            self._bar = tqdm(total=self._steps, desc=title, unit="step", leave=False, disable=None)
        self._bar.update(len(losses))
        self._bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
