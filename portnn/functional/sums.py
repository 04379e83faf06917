"""Sums over many values, rounded as few times as there are halvings.

A library may add the rows of a matrix one after the other, as NumPy does, and its rounding error then grows with their
number: by 3 % for a million in float32. Here halves are added to each other until little is left, with the standard's
means alone. Accumulators of double precision are no cure for all: not every device has float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.kernels import array_function

__all__ = ["as_rows", "mean_over", "pairwise", "sum_leading", "sum_over"]

#: So many values the library may add in its own way: one call, as for the batches of small networks.
_FEW = 128

#: And so many are left to it where halves were added.
_LAST = 8


@array_function(shapes="... -> *rest")
def sum_over(x: Array, axis: int) -> Array:
    """The sum along one axis, counted from the first, which the result lacks.

    A library whose own sums are as exact has a twin.
    """
    xp, rest = array_namespace(x), None
    if x.shape[axis] > _FEW:
        while x.shape[axis] > _LAST:
            half = x.shape[axis] // 2
            if x.shape[axis] % 2:
                last = _part(x, axis, -1, None)
                rest = last if rest is None else rest + last
            x = _part(x, axis, 0, half) + _part(x, axis, half, 2 * half)
    total = xp.sum(x, axis=axis)
    return total if rest is None else total + xp.sum(rest, axis=axis)


def sum_leading(x: Array) -> Array:
    """The sum over all axes but the last: (..., k) to (k,)."""
    return sum_over(x if x.ndim == 2 else as_rows(x), 0)


def mean_over(x: Array, axis: int) -> Array:
    """The mean along one axis; NaN of no values."""
    total, count = sum_over(x, axis), x.shape[axis]
    return total / count if count else total + math.nan


def pairwise(parts: Sequence[Array]) -> Array:
    """The sum of some arrays of one shape, in the order of a tree."""
    while len(parts) > 1:
        halved = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = halved + list(parts[len(parts) - len(parts) % 2 :])
    return parts[0]


def as_rows(x: Array) -> Array:
    """(..., k) as a matrix, (n, k)."""
    return array_namespace(x).reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _part(x: Array, axis: int, start: int, stop: int | None) -> Array:
    return x[(*(slice(None),) * axis, slice(start, stop), ...)]
