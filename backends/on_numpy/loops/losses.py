"""Loops of losses, compiled by Numba. Arrays are C-contiguous; a row for each example."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compile import compiled

__all__ = ["class_slopes", "class_values"]


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
