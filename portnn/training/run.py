"""What a run has done so far: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from portnn.training.history import History
from portnn.training.progress import Progress

__all__ = ["HasRun", "Run"]


@dataclass
class Run:
    """All that a checkpoint holds of a run, but for arrays, the source of random numbers, and what callbacks remember.

    Attributes
    ----------
    epoch, step : int
        How many epochs and steps have been done in all calls.
    optimizer_step : int
        How many steps the slots of the optimizer have seen.
    lr_factor : float
        What the optimizer's learning rate is multiplied by.
    within_fit, resuming : bool
        Whether a call of `fit` is under way, and whether the next one goes on where a checkpoint was saved within one.
    data_shape : list of int or None
        Examples of an epoch, and in a batch, of the call under way.
    columns : tuple of str
        Of the records of that call, but for what callbacks add.
    last_checkpoint : str or None
        What was last saved or loaded.
    progress : Progress
        Of the epoch under way.
    history : History
        Of all calls.
    """

    epoch: int = 0
    step: int = 0
    optimizer_step: int = 0
    lr_factor: float = 1.0
    within_fit: bool = False
    resuming: bool = False
    data_shape: list[int | None] | None = None
    columns: tuple[str, ...] = ()
    last_checkpoint: str | None = None
    progress: Progress = field(default_factory=Progress)
    history: History = field(default_factory=History)


class HasRun:
    """Shows what a run has done as attributes of its own; see `Run`."""

    run: Run

    @property
    def epoch(self) -> int:
        return self.run.epoch

    @property
    def step(self) -> int:
        return self.run.step

    @property
    def lr_factor(self) -> float:
        return self.run.lr_factor

    @lr_factor.setter
    def lr_factor(self, factor: float) -> None:
        self.run.lr_factor = factor

    @property
    def within_fit(self) -> bool:
        return self.run.within_fit

    @property
    def resuming(self) -> bool:
        return self.run.resuming

    @property
    def columns(self) -> tuple[str, ...]:
        return self.run.columns

    @property
    def last_checkpoint(self) -> str | None:
        return self.run.last_checkpoint

    @property
    def progress(self) -> Progress:
        return self.run.progress

    @property
    def history(self) -> History:
        return self.run.history
