"""How many steps are done at once, without Python between them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from portnn.training.batch import Piece
from portnn.training.stepper import Stepper

__all__ = ["Pace", "in_chunks"]

#: Seconds of a chunk: between two of them signals are answered, losses looked at, and checkpoints written.
_CHUNK = 0.05


class Pace:
    """Finds out how many steps take about 50 ms. What is computed does not depend on it.

    Parameters
    ----------
    most : callable
        How many may be done at once now.

    Attributes
    ----------
    steps : int
        Of the next chunk.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.steps = 1

    def advance(self, stepper: Stepper, chunk: Sequence[Piece], usual_weight: float) -> None:
        """Do the steps of a chunk, and learn from how long they took."""
        began = time.perf_counter()
        stepper.advance(chunk, usual_weight)
        seconds = max(time.perf_counter() - began, 1e-9)
        self.steps = max(1, min(self._most(), 2 * self.steps, int(len(chunk) * _CHUNK / seconds)))


def in_chunks(pieces: Iterator[Piece], steps: Callable[[], int]) -> Iterator[Sequence[Piece]]:
    """Batches of one size, so many at once as are asked for when they are needed."""
    while some := list(itertools.islice(pieces, steps())):
        for _, chunk in itertools.groupby(some, key=lambda piece: piece.size):
            yield tuple(chunk)
