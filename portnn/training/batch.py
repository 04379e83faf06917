"""What a step is given: examples on the device, and which of them make up its batch."""

from __future__ import annotations

from typing import Any, NamedTuple

from portnn._typing import Array

__all__ = ["Batch", "Examples", "Piece"]


class Examples(NamedTuple):
    """Examples on the device: ``x`` (n, ...), their targets ``y`` (n, ...), and their weights (n,), or None."""

    x: Array
    y: Array
    weight: Array | None = None

    def batch(self, index: Array) -> Batch:
        """Those of some numbers, shape (b,), as a step takes them."""
        return Batch(*self, index)


class Batch(NamedTuple):
    """`Examples`, and the numbers of those that make up a batch, shape (b,): a step gathers them."""

    x: Array
    y: Array
    weight: Array | None
    index: Array


class Piece(NamedTuple):
    """A batch of an epoch: of which examples, and their numbers, shape (b,), on the host."""

    examples: Examples
    index: Any

    @property
    def size(self) -> int:
        """How many examples it has."""
        return len(self.index)
