"""Batches as index arrays: the data themselves stay where they are until they are gathered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from portnn.random import Stream

__all__ = ["batches", "shuffled_batches"]


def batches(n: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers ``0 .. n-1`` in order, ``batch_size`` at a time; the last batch may be smaller.

    >>> list(batches(5, 2))
    [array([0, 1]), array([2, 3]), array([4])]
    """
    return _split(np.arange(n), batch_size)


def shuffled_batches(n: int, batch_size: int, rng: Stream) -> Iterator[NDArray[np.int64]]:
    """The numbers ``0 .. n-1`` in the random order of ``rng``, ``batch_size`` at a time."""
    return _split(rng.permutation(n), batch_size)


def _split(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (index[i : i + size] for i in range(0, len(index), size))
