"""Loops over the rows of a batch, compiled by Numba. Arrays are C-contiguous; flat ones have one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compile import compiled

__all__ = ["are_rows", "class_slopes", "class_values", "divided_rows", "relu_slopes"]


@compiled
def are_rows(index: Any, n: int) -> bool:
    """Whether all entries of index, flat, are numbers of n rows; negative ones count from the end."""
    inside = True
    for i in range(index.size):
        inside &= -n <= index[i] < n
    return inside


@compiled
def divided_rows(x: Any, index: Any, divisor: float, out: Any) -> None:
    """``out[i] = x[index[i]] / divisor``, for x and out of two axes."""
    scale = out.dtype.type(divisor)
    for i in range(index.size):
        row, to = x[index[i]], out[i]
        for j in range(to.size):
            to[j] = row[j] / scale


@compiled
def relu_slopes(dy: Any, y: Any, dx: Any) -> None:
    """``dx = dy`` where ``y > 0``, else 0, or NaN where y is; flat."""
    zero = y.dtype.type(0.0)
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > 0 else zero * y[i]


@compiled
def class_values(logits: Any, target: Any, smoothing: float, p: Any, values: Any) -> None:
    """``p = softmax(logits)``, and the cross-entropy of each row, for class numbers as targets.

    As in the portable form an infinite score takes all, and what is undecided is NaN.
    """
    real, k = p.dtype.type, logits.shape[1]
    others, nothing, infinity = real(smoothing / k), real(np.nan), real(np.inf)
    for i in range(logits.shape[0]):
        row, out = logits[i], p[i]
        largest = row[0]
        for j in range(1, k):
            largest = max(largest, row[j])
        total, spread = 0.0, 0.0
        for j in range(k):
            below = row[j] - largest if row[j] != largest else real(0.0)
            out[j] = np.exp(below)
            total += out[j]
            spread += below
        if largest == -infinity or (largest == infinity and total > 1.0):
            total = np.nan
        divisor = real(total)
        for j in range(k):
            out[j] /= divisor
        logarithm, value = np.log(total), 0.0
        if 0 <= target[i] < k:
            own = row[target[i]]
            value = (1.0 - smoothing) * (logarithm - (own - largest if own != largest else real(0.0)))
        else:
            value = nothing
        if smoothing:
            value += others * (k * logarithm - spread)
        values[i] = value


@compiled
def class_slopes(p: Any, target: Any, smoothing: float, dvalues: Any, dlogits: Any) -> None:
    """The gradient of `class_values`."""
    real, k = p.dtype.type, p.shape[1]
    others = real(smoothing / k)
    for i in range(p.shape[0]):
        row, out, slope = p[i], dlogits[i], dvalues[i]
        if 0 <= target[i] < k:
            for j in range(k):
                out[j] = (row[j] - others) * slope
            out[target[i]] -= real(1.0 - smoothing) * slope
        else:
            out[:] = real(np.nan)
