"""Twins of pooling for CuPy, in one launch each way.

Where windows overlap, every value collects its own, so that gradients are the same in every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.functional.windows import Axis
from portnn.kernels import Kernel

from .compile import FLOATS, dense, empty
from .windows import launch

__all__ = ["KERNELS"]


def _max_pool2d(x: Any, *, rows: Axis, columns: Axis) -> Any:
    x = dense(x)
    y = empty((len(x), rows.count, columns.count, x.shape[3]), x.dtype)
    places = empty(y.shape, np.dtype(np.int32))
    launch("pooling", "largest_values", (x,), rows, columns, (y, places))

    def backward(dy: Any) -> Any:
        dx = empty(x.shape, x.dtype)
        launch("pooling", "largest_slopes", (dense(dy), places), rows, columns, (dx,))
        return dx

    return y, backward


def _average_pool2d(x: Any, *, rows: Axis, columns: Axis) -> Any:
    shape, real = x.shape, x.dtype
    y = empty((len(x), rows.count, columns.count, shape[3]), real)
    launch("pooling", "mean_values", (dense(x),), rows, columns, (y,))

    def backward(dy: Any) -> Any:
        dx = empty(shape, real)
        launch("pooling", "mean_slopes", (dense(dy),), rows, columns, (dx,))
        return dx

    return y, backward


KERNELS = {
    "max_pool2d": Kernel(_max_pool2d, dtypes=FLOATS),
    "average_pool2d": Kernel(_average_pool2d, dtypes=FLOATS),
}
