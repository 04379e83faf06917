"""Loops over images, compiled by Numba: what NumPy would do in many passes over memory, in one.

Images are (n, h, w, c), C-contiguous, or (n, h, w c) where a loop asks for it. An axis of windows is given as the tuple
(count, kernel, stride, dilation, before).
"""

from __future__ import annotations

from typing import Any

from ..compile import compiled

__all__ = ["fold", "unfold", "unfold_narrow"]


@compiled
def unfold(x: Any, windows: Any, rows: Any, columns: Any, c: int) -> None:
    """Fill ``windows``, (n rows columns, kh kw c), with those of ``x``, (n, h, w c): one row after the other."""
    n, h, w = x.shape[0], x.shape[1], x.shape[2] // c
    dense, run = columns[3] == 1, columns[1] * c
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                # Views, and not sums of indices: the compiler must test those, as they might be negative.
                window, left = windows[(m * rows[0] + i) * columns[0] + j], j * columns[2] - columns[4]
                for u in range(rows[1]):
                    y, line = i * rows[2] + u * rows[3] - rows[4], window[u * run : (u + 1) * run]
                    if y < 0 or y >= h:
                        line[:] = 0.0
                    elif dense and left >= 0 and left + columns[1] <= w:
                        # The values of a row of the window lie side by side.
                        source = x[m, y, left * c : left * c + run]
                        for k in range(run):
                            line[k] = source[k]
                    else:
                        for v in range(columns[1]):
                            z, pixel = left + v * columns[3], line[v * c : (v + 1) * c]
                            if 0 <= z < w:
                                source = x[m, y, z * c : (z + 1) * c]
                                for k in range(c):
                                    pixel[k] = source[k]
                            else:
                                pixel[:] = 0.0


@compiled
def unfold_narrow(x: Any, windows: Any, rows: Any, columns: Any) -> None:
    """As `unfold`, for few channels, where the innermost loop goes along the image: column after column.

    ``windows`` is (kh kw c, n rows columns) here.
    """
    n, h, w, c = x.shape
    for u in range(rows[1]):
        for v in range(columns[1]):
            shift = v * columns[3] - columns[4]
            # The first and the last window whose value at this place is within the image, and one more.
            first = min(max(0, -(shift // columns[2])), columns[0])
            last = max(min(columns[0], (w - 1 - shift) // columns[2] + 1), first)
            for k in range(c):
                q = (u * columns[1] + v) * c + k
                for m in range(n):
                    for i in range(rows[0]):
                        y = i * rows[2] + u * rows[3] - rows[4]
                        start = (m * rows[0] + i) * columns[0]
                        if 0 <= y < h:
                            for j in range(first):
                                windows[q, start + j] = 0.0
                            for j in range(first, last):
                                windows[q, start + j] = x[m, y, j * columns[2] + shift, k]
                            for j in range(last, columns[0]):
                                windows[q, start + j] = 0.0
                        else:
                            for j in range(columns[0]):
                                windows[q, start + j] = 0.0


@compiled
def fold(windows: Any, x: Any, rows: Any, columns: Any, c: int) -> None:
    """The adjoint of `unfold`: add every value of the windows to its place in ``x``."""
    n, h, w = x.shape[0], x.shape[1], x.shape[2] // c
    dense, run = columns[3] == 1, columns[1] * c
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                window, left = windows[(m * rows[0] + i) * columns[0] + j], j * columns[2] - columns[4]
                for u in range(rows[1]):
                    y, line = i * rows[2] + u * rows[3] - rows[4], window[u * run : (u + 1) * run]
                    if 0 <= y < h:
                        if dense and left >= 0 and left + columns[1] <= w:
                            to = x[m, y, left * c : left * c + run]
                            for k in range(run):
                                to[k] += line[k]
                        else:
                            for v in range(columns[1]):
                                z, pixel = left + v * columns[3], line[v * c : (v + 1) * c]
                                if 0 <= z < w:
                                    to = x[m, y, z * c : (z + 1) * c]
                                    for k in range(c):
                                        to[k] += pixel[k]
