"""Loops of activations, compiled by Numba. Arrays are flat."""

from __future__ import annotations

from typing import Any

from ..compile import compiled

__all__ = ["relu_slopes", "relu_values"]


@compiled
def relu_values(x: Any, y: Any) -> None:
    """``y = x``, or 0 where ``x <= 0``: in a sixth of the time of ``np.maximum`` with a number."""
    zero = x.dtype.type(0.0)
    for i in range(x.size):
        y[i] = zero if x[i] <= 0 else x[i]


@compiled
def relu_slopes(dy: Any, y: Any, dx: Any) -> None:
    """``dx = dy`` where ``y > 0``, else 0, or NaN where y is."""
    zero = y.dtype.type(0.0)
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > 0 else zero * y[i]
