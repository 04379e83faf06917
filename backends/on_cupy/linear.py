"""Twins of affine maps for CuPy.

Matrix products are cuBLAS's. The bias is added in place of what it has written, and the gradients of biases are summed
in an order that does not change from run to run.
"""

from __future__ import annotations

from typing import Any

from portnn.functional.linear import matmul
from portnn.kernels import Kernel

from .compile import FLOATS, dense, each_column, kernel, lanes
from .sums import column_sums

__all__ = ["KERNELS", "add_row"]


def add_row(y: Any, b: Any) -> Any:
    """``y + b``, written into the matrix ``y``, which nobody else may hold."""
    n, m = y.shape
    kernel("linear", "add_row", REAL=y.dtype)(*each_column(n, m, lanes(y.dtype)), (y, dense(b), n, m))
    return y


def _affine(x: Any, w: Any, b: Any) -> Any:
    y = add_row(matmul(x, w), b)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx = matmul(dy, w.T) if input_grad else None
        return dx, matmul(x.T, dy), column_sums(dense(dy))

    return y, backward


KERNELS = {"affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,))}
