"""Loops that take rows of a data set, compiled by Numba. Arrays are C-contiguous."""

from __future__ import annotations

from typing import Any

from ..compile import compiled

__all__ = ["are_rows", "divided_rows"]


@compiled
def are_rows(index: Any, n: int) -> bool:
    """Whether all entries of index, flat, are numbers of n rows; negative ones count from the end."""
    inside = True
    for i in range(index.size):
        inside &= -n <= index[i] < n
    return inside


@compiled
def divided_rows(x: Any, index: Any, divisor: float, out: Any) -> None:
    """``out[i] = x[index[i]] / divisor``, for x and out of two axes."""
    scale = out.dtype.type(divisor)
    for i in range(index.size):
        row, to = x[index[i]], out[i]
        for j in range(to.size):
            to[j] = row[j] / scale
