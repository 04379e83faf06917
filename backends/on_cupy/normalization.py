"""Twins of batch normalisation for CuPy, made of sums over the rows of matrices: see `portnn_backends.on_cupy.sums`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .compile import FLOATS, by_columns, dense, each_column, empty, kernel, lanes
from .sums import by_slabs, slabs_of

__all__ = ["KERNELS"]

#: Of sums that are summed again.
_DOUBLE = np.dtype(np.float64)


def _moments(x: Any, n: int, m: int) -> tuple[Any, Any]:
    """Mean and variance of the columns of x, C-contiguous, which is read as a matrix (n, m)."""
    slabs, real = slabs_of(n, m), x.dtype
    sums, mean, variance = empty((slabs, 2, m), _DOUBLE), empty((m,), real), empty((m,), real)
    kernel("normalization", "centred_sums", REAL=real)(*by_slabs(n, m, slabs, real), (x, n, m, sums))
    kernel("normalization", "moments", REAL=real)(*by_columns(slabs, m, 1), (sums, slabs, x, n, m, mean, variance))
    return mean, variance


def _channel_moments(x: Any) -> Any:
    if not x.size:
        return NotImplemented
    return _moments(dense(x), math.prod(x.shape[:-1]), x.shape[-1])


def _batch_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    made = _batch_norm_with_moments(x, gamma, beta, eps)
    return made if made is NotImplemented else (made[0][0], made[1])


def _batch_norm_with_moments(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    if not x.size:
        return NotImplemented
    x, gamma, beta, real, shape = dense(x), dense(gamma), dense(beta), x.dtype, x.shape
    n, m, eps = math.prod(shape[:-1]), shape[-1], float(eps)
    mean, variance = _moments(x, n, m)
    y = empty(shape, real)
    grid = each_column(n, m, lanes(real))
    kernel("normalization", "normalise", REAL=real)(*grid, (x, mean, variance, gamma, beta, eps, n, m, y))

    def backward(dy: Any) -> Any:
        given, slabs = dense(dy), slabs_of(n, m)
        sums, dgamma, dbeta = empty((slabs, 2, m), _DOUBLE), empty((m,), real), empty((m,), real)
        kernel("normalization", "slope_sums", REAL=real)(*by_slabs(n, m, slabs, real), (given, x, mean, n, m, sums))
        arguments = (sums, slabs, m, variance, eps, dgamma, dbeta)
        kernel("normalization", "parameter_slopes", REAL=real)(*by_columns(slabs, m, 1), arguments)
        dx = empty(shape, real)
        everything = (given, x, mean, variance, gamma, dgamma, dbeta, eps, n, m, dx)
        kernel("normalization", "slopes", REAL=real)(*grid, everything)
        return dx, dgamma, dbeta

    return (y, mean, variance), backward


KERNELS = {
    "batch_norm": Kernel(_batch_norm, dtypes=FLOATS),
    "batch_norm_with_moments": Kernel(_batch_norm_with_moments, dtypes=FLOATS),
    "channel_moments": Kernel(_channel_moments, dtypes=FLOATS),
}
