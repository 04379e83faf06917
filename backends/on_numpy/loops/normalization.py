"""Loops of batch normalisation, compiled by Numba.

Arrays are C-contiguous, (rows, columns). To keep the inner loops long, a row may hold several rows of the batch, one
after the other: then the vectors, (columns,), repeat themselves, and so do the parts of a sum. Sums are in double
precision.
"""

from __future__ import annotations

from typing import Any

from ..compile import compiled


@compiled
def centred_sums(x: Any, centre: Any, sums: Any, squares: Any) -> None:
    """Add up ``x - centre`` and its square."""
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(row.size):
            apart = float(row[j] - centre[j])
            sums[j] += apart
            squares[j] += apart * apart


@compiled
def normalise(x: Any, mean: Any, scale: Any, shift: Any, y: Any) -> None:
    """``y = (x - mean) scale + shift``"""
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        for j in range(row.size):
            out[j] = (row[j] - mean[j]) * scale[j] + shift[j]


@compiled
def slope_sums(dy: Any, x: Any, mean: Any, sums: Any, products: Any) -> None:
    """Add up ``dy`` and ``dy (x - mean)``."""
    for i in range(x.shape[0]):
        row, slope = x[i], dy[i]
        for j in range(row.size):
            sums[j] += slope[j]
            products[j] += float(slope[j] * (row[j] - mean[j]))


@compiled
def slopes(dy: Any, x: Any, mean: Any, scale: Any, constant: Any, linear: Any, dx: Any) -> None:
    """``dx = scale dy - constant - linear (x - mean)``"""
    for i in range(x.shape[0]):
        row, slope, out = x[i], dy[i], dx[i]
        for j in range(row.size):
            out[j] = scale[j] * slope[j] - constant[j] - linear[j] * (row[j] - mean[j])
