"""Twins of affine maps for CuPy.

Matrix products are cuBLAS's. The bias is added in place of what it has written, and the gradients of biases are summed
in an order that does not change from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnn.functional.linear import matmul
from portnn.kernels import Kernel

from .beside import beside
from .compile import FLOATS, dense, each_column, kernel, lanes
from .sums import column_sums

__all__ = ["KERNELS", "add_row", "gradients"]


def add_row(y: Any, b: Any) -> Any:
    """``y + b``, written into the matrix ``y``, which nobody else may hold."""
    n, m = y.shape
    kernel("linear", "add_row", REAL=y.dtype)(*each_column(n, m, lanes(y.dtype)), (y, dense(b), n, m))
    return y


def _affine(x: Any, w: Any, b: Any) -> Any:
    y = add_row(matmul(x, w), b)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        return gradients(x, w, dy, input_grad, lambda: column_sums(dense(dy)))

    return y, backward


def gradients(x: Any, w: Any, dy: Any, input_grad: bool, bias_gradient: Callable[[], Any]) -> tuple[Any, Any, Any]:
    """``dx``, or None, ``dw`` and ``db`` of an affine map; the last two beside the first, in recorded steps."""

    def of_weights() -> tuple[Any, Any]:
        return matmul(x.T, dy), bias_gradient()

    if not input_grad:
        return None, *of_weights()
    dx, sums = beside(lambda: matmul(dy, w.T), of_weights, x.size * w.shape[1])
    return dx, *sums


KERNELS = {"affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,))}
