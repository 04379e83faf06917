"""Sums, means and largest values for CuPy, by kernels of our own.

CuPy computes most of its reductions by CUB, and does not look at what CUB reports: see `portnn_backends.on_cupy.trial`.
What a recorded step reduces is in the graph, and nobody looks at it again, so it is none of these.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnn.functional.reductions import How
from portnn.kernels import Kernel

from .compile import FLOATS, dense, each, empty, kernel
from .sums import column_sums

__all__ = ["KERNELS"]

#: Of what largest values are found; the numbers of examples, too.
_ORDERED = FLOATS | {np.dtype(np.int32), np.dtype(np.int64)}

#: Values of a row, at least, where the largest one of all is found in two launches.
_ROW = 256


def _along_last(x: Any, how: How) -> Any:
    if not x.ndim or not x.size or x.dtype not in (_ORDERED if how == "max" else FLOATS):
        return NotImplemented
    x, k = dense(x), x.shape[-1]
    n, out = x.size // k, empty((*x.shape[:-1], 1), x.dtype)
    if how == "max":
        _row_maxima(x, n, k, out)
    else:
        divisor = float(k if how == "mean" else 1)
        kernel("reductions", "row_sums", REAL=x.dtype)(*each(32 * n), (x, n, k, divisor, out))
    return out


def _of_all(x: Any, how: How) -> Any:
    if not x.size or x.dtype not in (_ORDERED if how == "max" else FLOATS):
        return NotImplemented
    x = dense(x).reshape(-1)
    if how != "max":
        total = column_sums(x.reshape(-1, 1)).reshape(())
        return total / x.size if how == "mean" else total
    k = max(math.isqrt(x.size), _ROW)
    parts, out = empty((math.ceil(x.size / k),), x.dtype), empty((), x.dtype)
    _row_maxima(x, len(parts), k, parts)
    _row_maxima(parts, 1, len(parts), out)
    return out


def _row_maxima(x: Any, n: int, k: int, out: Any) -> None:
    kernel("reductions", "row_maxima", REAL=x.dtype)(*each(32 * n), (x, x.size, n, k, out))


def _sum_over(x: Any, axis: int) -> Any:
    if x.ndim == 1:
        return _of_all(x, "sum")
    if x.ndim == 2 and axis == 0:
        return column_sums(dense(x)) if x.size else NotImplemented
    others = [i for i in range(x.ndim) if i != axis]
    summed = _along_last(x.transpose(*others, axis), "sum")
    return summed if summed is NotImplemented else summed[..., 0]


KERNELS = {
    "along_last": Kernel(_along_last),
    "of_all": Kernel(_of_all),
    "sum_over": Kernel(_sum_over, dtypes=FLOATS),
}
