"""Batches as index arrays: the data themselves stay where they are until they are gathered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from portnn.random import Stream

__all__ = ["batches", "in_batches", "shuffled_batches"]


def batches(n: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers ``0`` to ``n-1`` in order, ``batch_size`` at a time; the last batch may be smaller.

    >>> list(batches(5, 2))
    [array([0, 1]), array([2, 3]), array([4])]
    """
    return in_batches(np.arange(n), batch_size)


def shuffled_batches(n: int, batch_size: int, rng: Stream) -> Iterator[NDArray[np.int64]]:
    """The numbers ``0`` to ``n-1`` in the random order of ``rng``, ``batch_size`` at a time."""
    return in_batches(rng.permutation(n), batch_size)


def in_batches(order: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """The entries of ``order``, shape (n,), ``batch_size`` at a time; the last batch may be smaller."""
    return (order[i : i + batch_size] for i in range(0, len(order), batch_size))
