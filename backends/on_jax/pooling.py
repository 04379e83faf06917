"""Twins of pooling for JAX."""

from __future__ import annotations

import math
from typing import Any

import jax

from portnn.functional.pooling import inside
from portnn.functional.windows import Axis, extend, views
from portnn.kernels import Kernel

__all__ = ["KERNELS"]


def _largest(x: Any, rows: Axis, columns: Axis) -> Any:
    """The largest value of each window, or the last NaN, and the number of its place."""
    xp = jax.numpy
    y, *others = views(extend(x, rows.ends, columns.ends, value=-math.inf), rows, columns)
    place, (known, *within) = xp.zeros(y.shape, xp.int32), inside(x, rows, columns)
    for k, (value, here) in enumerate(zip(others, within, strict=True), start=1):
        better = (value > y) | (value != value)
        if here is not None:
            better, known = better | (here & ~known), known | here
        y, place = xp.where(better, value, y), xp.where(better, k, place)
    return y, place


def _max_pool2d(x: Any, *, rows: Axis, columns: Axis) -> Any:
    if (rows.stride, columns.stride) == (rows.kernel, columns.kernel):
        return NotImplemented
    y, place = _largest(x, rows, columns)

    def backward(dy: Any) -> Any:
        # Where windows overlap, XLA would find the places anew for each of the sums that the portable form makes. Its
        # own gradient of a maximum over windows takes five times as long, and drops NaN.
        n, h, w, c = (jax.numpy.arange(length) for length in dy.shape)
        i = h[:, None, None] * rows.stride - rows.before + place // columns.kernel
        j = w[:, None] * columns.stride - columns.before + place % columns.kernel
        return jax.numpy.zeros_like(x).at[n[:, None, None, None], i, j, c].add(dy)

    return y, backward


KERNELS = {"max_pool2d": Kernel(_max_pool2d)}
