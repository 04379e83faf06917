"""Twins of pooling for NumPy; they need Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.functional.windows import Axis
from portnn.kernels import Kernel

from .arrays import FLOATS
from .compile import HAS_NUMBA, loops
from .windows import numbers
from .workspace import contiguous, empty, share

__all__ = ["KERNELS"]


def _max_pool2d(x: Any, *, rows: Axis, columns: Axis) -> Any:
    compiled = loops("pooling")
    if compiled is None:
        return NotImplemented
    geometry = numbers(rows), numbers(columns)
    x, n = contiguous(x), x.shape[0]
    y = empty((n, rows.count, columns.count, x.shape[3]), x.dtype)
    places = empty(y.shape, np.dtype(np.int32))
    share(lambda images: compiled.pool_forward(x[images], y[images], places[images], *geometry), n, cost=x.size)

    def backward(dy: Any) -> Any:
        tiled = all(a.stride == a.kernel and a.size == a.count * a.kernel and not a.before for a in (rows, columns))
        dx, slopes = empty(x.shape, x.dtype), contiguous(dy)

        def part(images: slice) -> None:
            if not tiled:
                dx[images] = 0.0
            compiled.pool_backward(slopes[images], places[images], dx[images], tiled, *geometry)

        share(part, n, cost=x.size)
        return dx

    return y, backward


KERNELS: dict[str, Kernel] = {}
if HAS_NUMBA:
    KERNELS["max_pool2d"] = Kernel(_max_pool2d, dtypes=FLOATS)
