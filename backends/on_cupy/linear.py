"""Twins for CuPy of what is done to the rows of a batch: one launch each, beside the matrix products.

Matrix products are cuBLAS's. The bias is added in place of what it has written, and the gradients of biases are summed
in an order that does not change from run to run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnn.functional.linear import matmul
from portnn.functional.losses import softmax_cross_entropy
from portnn.functional.rows import take_rows
from portnn.kernels import Kernel

from .compile import FLOATS, by_columns, dense, each, empty, kernel
from .normalization import add_row, column_sums

__all__ = ["KERNELS"]


def _affine(x: Any, w: Any, b: Any) -> Any:
    y = add_row(matmul(x, w), b)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx = matmul(dy, w.T) if input_grad else None
        return dx, matmul(x.T, dy), column_sums(dense(dy))

    return y, backward


def _relu(x: Any) -> Any:
    x, y = dense(x), empty(x.shape, x.dtype)
    kernel("rows", "relu_values", REAL=x.dtype, INDEX=_INT64)(*each(x.size), (x, x.size, y))

    def backward(dy: Any) -> Any:
        dx = empty(y.shape, y.dtype)
        kernel("rows", "relu_slopes", REAL=y.dtype, INDEX=_INT64)(*each(y.size), (dense(dy), y, y.size, dx))
        return dx

    return y, backward


def _softmax_cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0) -> Any:
    if logits.dtype not in FLOATS or target.ndim != 1 or target.dtype.kind not in "iu" or not logits.size:
        return softmax_cross_entropy.portable(logits, target, label_smoothing)
    logits, target, (n, k) = dense(logits), dense(target), logits.shape
    types, smoothing = {"REAL": logits.dtype, "INDEX": target.dtype}, float(label_smoothing)
    p, values = empty((n, k), logits.dtype), empty((n,), logits.dtype)
    # A warp for each row.
    kernel("rows", "class_values", **types)(*each(32 * n), (logits, target, smoothing, n, k, p, values))

    def backward(dvalues: Any) -> Any:
        dlogits = empty((n, k), p.dtype)
        arguments = (p, target, smoothing, dense(dvalues), n, k, dlogits)
        kernel("rows", "class_slopes", **types)(*by_columns(n, k), arguments)
        return dlogits

    return values, backward


def _take_rows(x: Any, index: Any, dtype: Any) -> Any:
    whole = x.dtype == np.uint8 and x.flags.c_contiguous and x.size
    if not whole or np.dtype(dtype) not in FLOATS or index.dtype.kind not in "iu":
        return take_rows.portable(x, index, dtype)
    out = empty((len(index), *x.shape[1:]), np.dtype(dtype))
    index, n, width = dense(index), len(out), math.prod(x.shape[1:])
    gather = kernel("rows", "divided_rows", REAL=out.dtype, INDEX=index.dtype)
    gather(*by_columns(n, width), (x, index, len(x), n, width, out))
    return out


_INT64 = np.dtype(np.int64)

KERNELS = {
    "affine": Kernel(_affine, dtypes=FLOATS, ndims=(2,)),
    "relu": Kernel(_relu, dtypes=FLOATS),
    "softmax_cross_entropy": Kernel(_softmax_cross_entropy),
    "take_rows": Kernel(_take_rows),
}
