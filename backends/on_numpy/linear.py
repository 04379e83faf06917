"""Twins of affine maps for NumPy: products that are shared out between the cores, and the bias added in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .arrays import FLOATS
from .sums import column_sums
from .workspace import empty, share

__all__ = ["KERNELS", "product_cost"]


def product_cost(rows: int, inner: int, columns: int, dtype: Any) -> float:
    """What a matrix product takes on one core, in nanoseconds, at 80 billion float32 operations a second."""
    return rows * inner * columns * int(dtype.itemsize) / 160.0


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
        dx, dw, db = empty(x.shape, x.dtype) if input_grad else None, empty(w.shape, x.dtype), empty((m,), x.dtype)

        def part(rows: slice, inputs: slice, outputs: slice) -> None:
            column_sums(dy[:, outputs], db[outputs])
            np.matmul(x[:, inputs].T, dy, out=dw[inputs])
            if dx is not None and n > k:
                np.matmul(dy[rows], w.T, out=dx[rows])
            elif dx is not None:
                np.matmul(dy, w[inputs].T, out=dx[:, inputs])

        share(part, n, k, m, cost=2 * cost)  # with and without dx in the same parts: the same bits
        return dx, dw, db

    return y, backward


KERNELS = {"affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,))}
