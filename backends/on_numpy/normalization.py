"""Twins of batch normalisation for NumPy; they need Numba."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .arrays import FLOATS
from .compile import HAS_NUMBA, loops
from .workspace import contiguous, empty, share, zeros

__all__ = ["KERNELS"]

#: Numbers in a row of the loops, if the rows of the batch have fewer: their vectors stay in the first-level cache.
_WIDE = 512


def _repeats(x: Any) -> int:
    """How many rows of the batch make up a row of the loops."""
    channels, count = x.shape[-1], math.prod(x.shape[:-1])
    repeats = 1
    while count % (2 * repeats) == 0 and 2 * repeats * channels <= _WIDE:
        repeats *= 2
    return repeats


def _sums(loop: Any, arrays: tuple[Any, ...], vector: Any, channels: int) -> tuple[Any, Any]:
    """The two sums of a loop over all rows, by channel, in double precision."""
    rows, wide = arrays[0].shape
    found: dict[int, Any] = {}

    def part(some: slice) -> None:
        two = zeros((2, wide), np.dtype(np.float64))
        loop(*(a[some] for a in arrays), vector, *two)
        found[some.start] = two

    share(part, rows, cost=rows * wide / 2)
    total = functools.reduce(np.add, [found[start] for start in sorted(found)])
    first, second = total.reshape(2, -1, channels).sum(axis=1)
    return first, second


def _moments(x: Any) -> tuple[Any, Any]:
    """Mean and variance by channel, in double precision."""
    channels, count, repeats = x.shape[-1], math.prod(x.shape[:-1]), _repeats(x)
    wide = x.reshape(-1, repeats * channels)
    # Around a value of the channel itself, so that a mean far from zero costs no precision.
    centre = contiguous(x.reshape(-1, channels)[0])
    sums, squares = _sums(loops("normalization").centred_sums, (wide,), np.tile(centre, repeats), channels)
    away = sums / count
    return centre + away, np.maximum(squares / count - away * away, 0.0)


def _channel_moments(x: Any) -> Any:
    if not x.size or loops("normalization") is None:
        return NotImplemented
    return tuple(a.astype(x.dtype) for a in _moments(contiguous(x)))


def _batch_norm(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    made = _batch_norm_with_moments(x, gamma, beta, eps)
    return made if made is NotImplemented else (made[0][0], made[1])


def _batch_norm_with_moments(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    compiled = loops("normalization")
    if not x.size or compiled is None:
        return NotImplemented
    x, channels, count = contiguous(x), x.shape[-1], math.prod(x.shape[:-1])
    repeats = _repeats(x)
    mean, variance = _moments(x)
    inverse = 1.0 / np.sqrt(variance + eps)
    values, y = x.reshape(-1, repeats * channels), empty(x.shape, x.dtype)
    result = y.reshape(values.shape)

    def repeated(vector: Any) -> Any:
        return np.tile(vector.astype(x.dtype), repeats)

    vectors = repeated(mean), repeated(gamma * inverse), repeated(beta)
    share(lambda some: compiled.normalise(values[some], *vectors, result[some]), len(values), cost=x.size / 2)

    def backward(dy: Any) -> Any:
        given = contiguous(dy).reshape(values.shape)
        dbeta, products = _sums(compiled.slope_sums, (given, values), vectors[0], channels)
        dgamma, scale = products * inverse, gamma * inverse
        rest = vectors[:2] + (repeated(scale * dbeta / count), repeated(scale * inverse * dgamma / count))
        dx = empty(x.shape, x.dtype)
        out = dx.reshape(values.shape)
        share(lambda some: compiled.slopes(given[some], values[some], *rest, out[some]), len(values), cost=x.size)
        return dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype)

    return (y, mean.astype(x.dtype), variance.astype(x.dtype)), backward


KERNELS: dict[str, Kernel] = {}
if HAS_NUMBA:
    KERNELS["batch_norm"] = Kernel(_batch_norm, dtypes=FLOATS)
    KERNELS["batch_norm_with_moments"] = Kernel(_batch_norm_with_moments, dtypes=FLOATS)
    KERNELS["channel_moments"] = Kernel(_channel_moments, dtypes=FLOATS)
