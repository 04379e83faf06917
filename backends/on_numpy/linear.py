"""Twins of affine maps for NumPy: products that are shared out between the cores, and the bias added in place."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

from .arrays import FLOATS
from .products import product, product_cost
from .sums import column_sums
from .workspace import empty, share

__all__ = ["KERNELS"]


def _affine(x: Any, w: Any, b: Any) -> Any:
    (n, k), m = x.shape, w.shape[1]
    cost, y = product_cost(n, k, m, x.dtype), empty((n, m), x.dtype)

    # Each core has to read one factor whole, and rearranges it for its cache: the smaller one, if it may be.
    def by_rows(rows: slice) -> None:
        product(x[rows], w, y[rows])
        y[rows] += b

    def by_columns(columns: slice) -> None:
        product(x, w[:, columns], y[:, columns])
        y[:, columns] += b[columns]

    if n > m:
        share(by_rows, n, cost=cost)
    else:
        share(by_columns, m, cost=cost)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx, dw, db = empty(x.shape, x.dtype) if input_grad else None, empty(w.shape, x.dtype), empty((m,), x.dtype)

        def part(rows: slice, inputs: slice, outputs: slice) -> None:
            column_sums(dy[:, outputs], db[outputs])
            product(x[:, inputs].T, dy, dw[inputs])
            if dx is not None and n > k:
                product(dy[rows], w.T, dx[rows])
            elif dx is not None:
                product(dy, w[inputs].T, dx[:, inputs])

        share(part, n, k, m, cost=2 * cost)  # with and without dx in the same parts: the same bits
        return dx, dw, db

    return y, backward


KERNELS = {"affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,))}
