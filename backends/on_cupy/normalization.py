"""Sums over the rows of matrices for CuPy, and the twins of batch normalisation that are made of them.

A matrix is parted into slabs of rows if it has many of them: a first launch sums each slab, and a second one the sums.
What is in them depends on the shape alone, so results are the same in every run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnn.functional.normalization import batch_norm, channel_moments
from portnn.kernels import Kernel

from .compile import FLOATS, by_columns, dense, empty, kernel

__all__ = ["KERNELS", "add_row", "column_sums"]

#: Rows that one thread sums by itself before more blocks are worth a second launch.
_ROWS = 16

#: Of sums that are summed again.
_DOUBLE = np.dtype(np.float64)

#: Blocks that keep any GPU busy.
_BLOCKS = 1024


def _slabs(n: int, m: int) -> int:
    (across, _), (_, high) = by_columns(n, m)
    return max(min(math.ceil(n / (high * _ROWS)), _BLOCKS // across), 1)


def add_row(y: Any, b: Any) -> Any:
    """``y + b``, written into the matrix ``y``, which nobody else may hold."""
    n, m = y.shape
    kernel("columns", "add_row", REAL=y.dtype)(*by_columns(n, m), (y, dense(b), n, m))
    return y


def column_sums(x: Any) -> Any:
    """The sum over the rows of a C-contiguous matrix (n, m): shape (m,)."""
    n, m = x.shape
    slabs = _slabs(n, m)
    sums, add = empty((slabs, m), x.dtype), kernel("columns", "column_sums", REAL=x.dtype)
    add(*by_columns(n, m, slabs), (x, n, m, sums))
    if slabs == 1:
        return sums.reshape(m)
    total = empty((m,), x.dtype)
    add(*by_columns(slabs, m, 1), (sums, slabs, m, total))
    return total


def _moments(x: Any, n: int, m: int) -> tuple[Any, Any]:
    """Mean and variance of the columns of x, C-contiguous, which is read as a matrix (n, m)."""
    slabs, real = _slabs(n, m), x.dtype
    sums, mean, variance = empty((slabs, 2, m), _DOUBLE), empty((m,), real), empty((m,), real)
    kernel("columns", "centred_sums", REAL=real)(*by_columns(n, m, slabs), (x, n, m, sums))
    kernel("columns", "moments", REAL=real)(*by_columns(slabs, m, 1), (sums, slabs, x, n, m, mean, variance))
    return mean, variance


def _channel_moments(x: Any) -> Any:
    if not x.size:
        return channel_moments.portable(x)
    return _moments(dense(x), math.prod(x.shape[:-1]), x.shape[-1])


def _batch_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    if not x.size:
        return batch_norm.portable(x, gamma, beta, eps)
    x, gamma, beta, real, shape = dense(x), dense(gamma), dense(beta), x.dtype, x.shape
    n, m, eps = math.prod(shape[:-1]), shape[-1], float(eps)
    mean, variance = _moments(x, n, m)
    y = empty(shape, real)
    kernel("columns", "normalise", REAL=real)(*by_columns(n, m), (x, mean, variance, gamma, beta, eps, n, m, y))

    def backward(dy: Any) -> Any:
        given, slabs = dense(dy), _slabs(n, m)
        sums, dgamma, dbeta = empty((slabs, 2, m), _DOUBLE), empty((m,), real), empty((m,), real)
        kernel("columns", "slope_sums", REAL=real)(*by_columns(n, m, slabs), (given, x, mean, n, m, sums))
        arguments = (sums, slabs, m, variance, eps, dgamma, dbeta)
        kernel("columns", "parameter_slopes", REAL=real)(*by_columns(slabs, m, 1), arguments)
        dx = empty(shape, real)
        everything = (given, x, mean, variance, gamma, dgamma, dbeta, eps, n, m, dx)
        kernel("columns", "slopes", REAL=real)(*by_columns(n, m), everything)
        return dx, dgamma, dbeta

    return y, backward


KERNELS = {
    "batch_norm": Kernel(_batch_norm, dtypes=FLOATS),
    "channel_moments": Kernel(_channel_moments, dtypes=FLOATS),
}
