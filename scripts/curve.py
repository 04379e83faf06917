"""The losses of the first steps, which are compared between devices."""

from __future__ import annotations

from collections.abc import Sequence

from portnn.training import Callback, Training


class Watch(Callback):
    """Keeps the losses, and ends the run after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def on_losses(self, trainer: Training, losses: Sequence[float]) -> None:
        self.losses += losses
        if trainer.step >= self.steps:
            trainer.stop()
