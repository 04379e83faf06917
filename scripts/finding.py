"""What a check of `gpu_check.py` finds, and the time that there is for it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

__all__ = ["Finding", "TimeBudget"]


#: Seconds. On a GPU, less than half of it suffices for the longest of the runs.
_LEAST = 30.0


class Finding(NamedTuple):
    """What a check found: whether all held, in one line, and more for the JSON file."""

    held: bool
    line: str
    more: dict[str, Any]


class TimeBudget:
    """So many seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    def left(self) -> float:
        """Seconds; negative when they are over."""
        return self._end - time.perf_counter()

    def at_least(self) -> float:
        """The same, but some in any case: for what a device does first, without which there is nothing to tell."""
        return max(self.left(), _LEAST)
