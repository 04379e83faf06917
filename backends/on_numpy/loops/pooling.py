"""Loops of pooling, compiled by Numba. Images and windows as in `portnn_backends.on_numpy.loops.convolution`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compile import compiled

__all__ = ["pool_backward", "pool_forward"]


@compiled
def pool_forward(x: Any, y: Any, places: Any, rows: Any, columns: Any) -> None:
    """The largest value of each window, or NaN if there is one, and the number of its place in the window."""
    n, h, w, c = x.shape
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                largest, place, empty = y[m, i, j], places[m, i, j], True
                for u in range(rows[1]):
                    p = i * rows[2] + u - rows[4]
                    for v in range(columns[1]):
                        q = j * columns[2] + v - columns[4]
                        if 0 <= p < h and 0 <= q < w:
                            source, number = x[m, p, q], np.int32(u * columns[1] + v)
                            if empty:
                                for k in range(c):
                                    largest[k] = source[k]
                                    place[k] = number
                                empty = False
                            else:
                                for k in range(c):
                                    better = source[k] > largest[k] or source[k] != source[k]
                                    largest[k] = source[k] if better else largest[k]
                                    place[k] = number if better else place[k]


@compiled
def pool_backward(dy: Any, places: Any, dx: Any, tiled: bool, rows: Any, columns: Any) -> None:
    """Add each gradient to the place that had the largest value.

    Where the windows are tiles, each place is met once, and what ``dx`` held before does not matter.
    """
    n, h, w, c = dx.shape
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                slope, place = dy[m, i, j], places[m, i, j]
                for u in range(rows[1]):
                    p = i * rows[2] + u - rows[4]
                    for v in range(columns[1]):
                        q = j * columns[2] + v - columns[4]
                        if 0 <= p < h and 0 <= q < w:
                            to, number = dx[m, p, q], np.int32(u * columns[1] + v)
                            if tiled:
                                for k in range(c):
                                    to[k] = slope[k] if place[k] == number else 0.0
                            else:
                                for k in range(c):
                                    to[k] += slope[k] if place[k] == number else 0.0
