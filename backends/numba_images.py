"""Loops over images, compiled by Numba: what NumPy would do in many passes over memory, in one.

Images are (n, h, w, c), C-contiguous. An axis of windows is given as the tuple
(count, kernel, stride, dilation, before).
"""

from __future__ import annotations

from typing import Any

from .numba_compile import compiled

__all__ = ["fold", "pool_backward", "pool_forward", "unfold", "unfold_narrow"]


@compiled
def unfold(x: Any, windows: Any, rows: Any, columns: Any) -> None:
    """Fill ``windows``, (n rows columns, kh kw c), with those of ``x``: one row after the other."""
    n, h, w, c = x.shape
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
                        source = x[m, y].reshape(w * c)[left * c : left * c + run]
                        for k in range(run):
                            line[k] = source[k]
                    else:
                        for v in range(columns[1]):
                            z, pixel = left + v * columns[3], line[v * c : (v + 1) * c]
                            if 0 <= z < w:
                                source = x[m, y, z]
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
def fold(windows: Any, x: Any, rows: Any, columns: Any) -> None:
    """The adjoint of `unfold`: add every value of the windows to its place in ``x``."""
    n, h, w, c = x.shape
    place = 0
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                q = 0
                for u in range(rows[1]):
                    y = i * rows[2] + u * rows[3] - rows[4]
                    for v in range(columns[1]):
                        z = j * columns[2] + v * columns[3] - columns[4]
                        if 0 <= y < h and 0 <= z < w:
                            for k in range(c):
                                x[m, y, z, k] += windows[place, q + k]
                        q += c
                place += 1


@compiled
def pool_forward(x: Any, y: Any, rows: Any, columns: Any) -> None:
    """The largest value of each window, or NaN if there is one."""
    n, h, w, c = x.shape
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                empty = True
                for u in range(rows[1]):
                    p = i * rows[2] + u - rows[4]
                    for v in range(columns[1]):
                        q = j * columns[2] + v - columns[4]
                        if 0 <= p < h and 0 <= q < w:
                            if empty:
                                for k in range(c):
                                    y[m, i, j, k] = x[m, p, q, k]
                                empty = False
                            else:
                                for k in range(c):
                                    a, b = x[m, p, q, k], y[m, i, j, k]
                                    y[m, i, j, k] = a if a > b or a != a else b


@compiled
def pool_backward(dy: Any, x: Any, y: Any, dx: Any, free: Any, tiled: bool, rows: Any, columns: Any) -> None:
    """Add each gradient to the first place that has the largest value; ``free`` is scratch of shape (c,).

    Where the windows are tiles, each place is met once, and what ``dx`` held before does not matter.
    """
    n, h, w, c = x.shape
    for m in range(n):
        for i in range(rows[0]):
            for j in range(columns[0]):
                for k in range(c):
                    free[k] = dy[m, i, j, k]
                for u in range(rows[1]):
                    p = i * rows[2] + u - rows[4]
                    for v in range(columns[1]):
                        q = j * columns[2] + v - columns[4]
                        if 0 <= p < h and 0 <= q < w:
                            for k in range(c):
                                hit = x[m, p, q, k] == y[m, i, j, k]
                                given = free[k] if hit else 0.0
                                dx[m, p, q, k] = given if tiled else dx[m, p, q, k] + given
                                free[k] = 0.0 if hit else free[k]
