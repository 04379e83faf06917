"""Where the time of a recorded step goes, instruction by instruction."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..subnormal import flushed
from .tape import Tape

__all__ = ["Line", "Profile", "profile"]

#: So often all the steps are done at once, for the time of a step of the whole tape.
_ROUNDS = 7


@dataclass(frozen=True)
class Line:
    """An instruction of a tape.

    Attributes
    ----------
    part : int
        The core that does it.
    meetings : int
        How often the cores have met before.
    name : str
    sizes : tuple of int
        Those of a product, (m, k, n), or of some products of such sizes; else ().
    microseconds : float
        The median over steps, done by one thread in the order of the tape.
    bytes, operations : int
        That it reads and writes; of products, two for each multiplication.
    """

    part: int
    meetings: int
    name: str
    sizes: tuple[int, ...]
    microseconds: float
    bytes: int
    operations: int


@dataclass(frozen=True)
class Profile:
    """What a step of a tape takes.

    Attributes
    ----------
    parts : int
        Into how many parts work is split.
    lines : list of Line
        In the order of the tape: from meeting to meeting, and there part after part.
    replayed : float
        Microseconds a step of the whole tape, as training replays it.
    """

    parts: int
    lines: list[Line]
    replayed: float

    @property
    def alone(self) -> float:
        """Microseconds of all instructions, one after the other."""
        return sum(line.microseconds for line in self.lines)

    def regions(self) -> dict[int, list[float]]:
        """By the meetings before it, the microseconds of each part from one meeting to the next."""
        spent: dict[int, list[float]] = defaultdict(lambda: [0.0] * self.parts)
        for line in self.lines:
            spent[line.meetings][line.part] += line.microseconds
        return dict(spent)

    def waits(self) -> dict[int, list[float]]:
        """For how long each part waits at the end of a region for the one that takes the longest."""
        return {meetings: [max(parts) - own for own in parts] for meetings, parts in self.regions().items()}

    def by_name(self) -> dict[str, tuple[int, float]]:
        """How many instructions of each name there are, and their microseconds; the longest first."""
        sums: dict[str, tuple[int, float]] = {}
        for line in self.lines:
            count, spent = sums.get(line.name, (0, 0.0))
            sums[line.name] = count + 1, spent + line.microseconds
        return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def profile(tape: Tape, rows: Any, hyper: Sequence[Mapping[str, Any]]) -> Profile:
    """Measure a tape that is bound to arrays (`Tape.bind`), which it goes on to train.

    Parameters
    ----------
    tape : Tape
    rows : integer array, shape (steps, b)
    hyper : sequence of mapping
        The numbers of each step.

    Raises
    ------
    BackendError
        If the system has no clock that compiled code can read.
    """
    with flushed():
        spent, look = tape.timed(rows, hyper)
        rounds = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            tape.run(rows, hyper)
            rounds.append(time.perf_counter() - began)
    middle, before = np.maximum(np.median(spent, axis=0) - look, 0.0) / 1e3, tape.meetings
    lines = [
        Line(
            one.part,
            int(before[one.place]),
            one.name,
            one.sizes,
            float(middle[one.part, one.place]),
            one.bytes,
            2 * math.prod(one.sizes) if one.sizes else 0,
        )
        for one in tape.instructions
    ]
    lines.sort(key=lambda line: (line.meetings, line.part))
    return Profile(len(middle), lines, statistics.median(rounds) / len(hyper) * 1e6)
