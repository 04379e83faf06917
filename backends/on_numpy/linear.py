"""Twins for NumPy of what is done to the rows of a batch: fewer passes over memory, each on all cores.

Without Numba (the extra ``fast``) what NumPy does well is written with its ``out=`` arguments, and the rest is left to
the portable forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.functional.losses import softmax_cross_entropy
from portnn.functional.rows import take_rows
from portnn.functional.sums import sum_over
from portnn.kernels import Kernel

from .compile import HAS_NUMBA, loops
from .workspace import empty, share

__all__ = ["FLOATS", "KERNELS", "column_sums", "flat", "product_cost"]

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


#: Rows that are summed by one matrix product.
_SUMMED_BY_PRODUCT = 1024


def flat(x: Any) -> Any:
    """The values one after the other, as they lie in memory."""
    return np.ascontiguousarray(x).reshape(-1)


def product_cost(rows: int, inner: int, columns: int, dtype: Any) -> float:
    """What a matrix product takes on one core, in nanoseconds, at 80 billion float32 operations a second."""
    return rows * inner * columns * int(dtype.itemsize) / 160.0


def column_sums(x: Any) -> Any:
    """The sum of the rows of a matrix, by products with ones: three times as fast as a sum over short rows.

    Within a product rounding errors add up as in a serial sum, so each has a bounded number of rows.
    """
    n, most = len(x), _SUMMED_BY_PRODUCT
    if n <= most:
        return np.ones(n, x.dtype) @ x
    blocks = np.ones(most, x.dtype) @ x[: n // most * most].reshape(n // most, most, x.shape[1])
    return column_sums(np.concatenate([blocks, column_sums(x[n // most * most :])[None]]))


def _sum_over(x: Any, axis: int) -> Any:
    return column_sums(x) if x.ndim == 2 and axis == 0 else sum_over.portable(x, axis)


def _affine(x: Any, w: Any, b: Any) -> Any:
    (n, k), m = x.shape, w.shape[1]
    cost, y = product_cost(n, k, m, x.dtype), empty((n, m), x.dtype)

    # Each core has to read one factor whole, and rearranges it for its cache: the smaller one, if it may be.
    def by_rows(rows: slice) -> None:
        np.matmul(x[rows], w, out=y[rows])
        y[rows] += b

    def by_columns(columns: slice) -> None:
        np.matmul(x, w[:, columns], out=y[:, columns])
        y[:, columns] += b[columns]

    if n > m:
        share(by_rows, n, cost=cost)
    else:
        share(by_columns, m, cost=cost)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx, dw = empty(x.shape, x.dtype) if input_grad else None, empty(w.shape, x.dtype)

        def part(rows: slice, inputs: slice) -> None:
            np.matmul(x[:, inputs].T, dy, out=dw[inputs])
            if dx is not None and n > k:
                np.matmul(dy[rows], w.T, out=dx[rows])
            elif dx is not None:
                np.matmul(dy, w[inputs].T, out=dx[:, inputs])

        share(part, n, k, cost=cost * (1 + input_grad))
        return dx, dw, column_sums(dy)

    return y, backward


def _relu(x: Any) -> Any:
    values, y = flat(x), empty(x.shape, x.dtype)
    result = y.reshape(-1)

    def forward(part: slice) -> None:
        np.maximum(values[part], 0.0, out=result[part])

    share(forward, x.size, cost=x.size / 2)

    def backward(dy: Any) -> Any:
        slopes, dx = flat(dy), empty(x.shape, x.dtype)
        given, compiled = dx.reshape(-1), loops("losses")

        def part(some: slice) -> None:
            if compiled is not None:
                compiled.relu_slopes(slopes[some], result[some], given[some])
            else:
                _relu_slopes(slopes[some], result[some], given[some])

        share(part, x.size, cost=x.size / 2)
        return dx

    return y, backward


def _relu_slopes(dy: Any, y: Any, dx: Any) -> None:
    """As the loop of this name. A choice between two arrays takes ten times as long as a product with truth values."""
    np.multiply(dy, y > 0, out=dx)
    if np.isnan(y.max(initial=0.0)) or np.isnan(dx.max(initial=0.0)):  # a product with 0 is not what the choice gives
        dx[...] = np.where(y > 0, dy, 0.0 * y)


def _softmax_cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0) -> Any:
    compiled = loops("losses")
    if compiled is None or target.ndim != 1 or target.dtype.kind not in "iu":
        return softmax_cross_entropy.portable(logits, target, label_smoothing)
    logits, p, values = np.ascontiguousarray(logits), np.empty_like(logits), np.empty(len(logits), logits.dtype)
    compiled.class_values(logits, target, label_smoothing, p, values)

    def backward(dvalues: Any) -> Any:
        dlogits = np.empty_like(p)
        compiled.class_slopes(p, target, label_smoothing, dvalues, dlogits)
        return dlogits

    return values, backward


def _take_rows(x: Any, index: Any, dtype: Any) -> Any:
    compiled = loops("losses")
    if compiled is None or x.dtype != np.uint8 or not x.flags.c_contiguous or not x.size or not index.size:
        return take_rows.portable(x, index, dtype)
    if not compiled.are_rows(index, len(x)):  # the loops do not look
        raise IndexError(f"rows {index.min()} .. {index.max()} of {len(x)}")
    out = empty((len(index), *x.shape[1:]), np.dtype(dtype))
    rows, to = x.reshape(len(x), -1), out.reshape(len(index), -1)

    def part(some: slice) -> None:
        compiled.divided_rows(rows, index[some], 255.0, to[some])

    share(part, len(index), cost=out.size / 3)
    return out


KERNELS = {
    "affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,)),
    "relu": Kernel(_relu, dtypes=FLOATS),
    "sum_over": Kernel(_sum_over, dtypes=FLOATS),
}
if HAS_NUMBA:
    KERNELS["softmax_cross_entropy"] = Kernel(_softmax_cross_entropy)
    KERNELS["take_rows"] = Kernel(_take_rows)
