"""Schedules: the learning rate as a function of the number of the step, which is counted from 1.

Any optimizer takes one in the place of a number: ``optim.Adam(lr=schedules.Cosine(0.01, steps=1000))``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from portnn.checks import hold_count, hold_number
from portnn.errors import ConfigError

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseTime",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Step",
    "WarmUp",
]


class Schedule(ABC):
    """A rule for the learning rate; a frozen dataclass. Called with the number of the step, from 1.

    A rate that is beyond all floats is infinite: then the run diverges, and says so. Those of this module raise
    ConfigError for what is no number of a step.
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The learning rate of a step, a Python float."""


@dataclass(frozen=True)
class _From(Schedule):
    """A schedule that starts at ``lr``, > 0."""

    lr: float

    def __post_init__(self) -> None:
        hold_number(self, "lr", 0, open_low=True)


@dataclass(frozen=True)
class Constant(_From):
    """``lr``, always.

    >>> Constant(0.1)(1000)
    0.1
    """

    def __call__(self, step: int) -> float:
        _past(step)
        return float(self.lr)


@dataclass(frozen=True)
class Step(_From):
    """``lr factor^floor((step - 1) / every)``: another rate after every so many steps.

    >>> [Step(1.0, every=2, factor=0.5)(step) for step in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_count(self, "every")
        hold_number(self, "factor", 0, open_low=True)

    def __call__(self, step: int) -> float:
        return _geometric(self.lr, self.factor, _past(step) // self.every)


@dataclass(frozen=True)
class Exponential(_From):
    """``lr factor^(step - 1)``, factor in (0, 1]."""

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "factor", 0, math.nextafter(1, 2), open_low=True)

    def __call__(self, step: int) -> float:
        return _geometric(self.lr, self.factor, _past(step))


@dataclass(frozen=True)
class InverseTime(_From):
    """``lr / (1 + rate (step - 1))``, rate >= 0."""

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "rate", 0)

    def __call__(self, step: int) -> float:
        return self.lr / (1.0 + self.rate * _past(step))


@dataclass(frozen=True)
class _Until(_From):
    """A schedule that goes from ``lr`` to ``end`` (>= 0) in ``steps`` steps, and stays there."""

    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_count(self, "steps")
        hold_number(self, "end", 0)

    def _progress(self, step: int) -> float:
        return min(_past(step), self.steps) / self.steps


@dataclass(frozen=True)
class Polynomial(_Until):
    """``end + (lr - end) (1 - (step - 1) / steps)^power``, power > 0; ``end`` from step ``steps + 1`` on.

    >>> [Polynomial(1.0, steps=2)(step) for step in (1, 2, 3, 4)]
    [1.0, 0.5, 0.0, 0.0]
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "power", 0, open_low=True)

    def __call__(self, step: int) -> float:
        return self.end + (self.lr - self.end) * math.pow(1.0 - self._progress(step), self.power)


@dataclass(frozen=True)
class Cosine(_Until):
    """Half a wave of the cosine from ``lr`` to ``end`` (Loshchilov and Hutter 2017), reached at step ``steps + 1``."""

    def __call__(self, step: int) -> float:
        return self.end + (self.lr - self.end) * 0.5 * (1.0 + math.cos(math.pi * self._progress(step)))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line from 0 to the first rate of another schedule in ``steps`` steps, then that schedule.

    The first step has ``1 / steps`` of the rate.

    >>> [WarmUp(Constant(1.0), steps=2)(step) for step in (1, 2, 3)]
    [0.5, 1.0, 1.0]
    """

    then: Schedule
    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            raise ConfigError(f"WarmUp goes on with a schedule, not with {self.then!r}")
        hold_count(self, "steps")

    def __call__(self, step: int) -> float:
        past = _past(step)
        if past < self.steps:
            return self.then(1) * (past + 1) / self.steps
        return self.then(past + 1 - self.steps)


@dataclass(frozen=True)
class OneCycle(_From):
    """Up to ``lr`` and down to next to nothing, both along half a cosine (Smith and Topin 2018), as in torch.

    Parameters
    ----------
    lr : float
        The largest rate, > 0.
    steps : int
        Length of the cycle; the last rate stays.
    rise : float, default 0.3
        Share of the steps in which the rate rises, in (0, 1).
    start : float, default 25
        The first rate is ``lr / start``.
    end : float, default 1e4
        The last rate is ``lr / (start end)``.
    """

    steps: int
    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_count(self, "steps")
        hold_number(self, "rise", 0, 1, open_low=True)
        hold_number(self, "start", 0, open_low=True)
        hold_number(self, "end", 0, open_low=True)

    def __call__(self, step: int) -> float:
        position, top = min(_past(step), self.steps - 1.0), self.rise * self.steps - 1.0
        first, last = self.lr / self.start, self.lr / self.start / self.end
        if position == top:
            return self.lr
        if position < top:
            return _between(first, self.lr, position / top)
        return _between(self.lr, last, (position - top) / (self.steps - 1.0 - top))


def _past(step: Any) -> int:
    """How many steps there were before this one; ConfigError unless it is the number of a step."""
    if isinstance(step, bool) or not isinstance(step, Integral) or not 1 <= int(step) < 2**64:
        raise ConfigError(f"a schedule is called with the number of a step, an int from 1 on, not with {step!r}")
    return int(step) - 1


def _geometric(lr: float, factor: float, times: int) -> float:
    """``lr factor^times``"""
    try:
        return lr * factor**times
    except OverflowError:  # of Python's power; a product that is too large is infinite
        return math.inf


def _between(a: float, b: float, share: float) -> float:
    """From a to b along half a cosine."""
    return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * share))
