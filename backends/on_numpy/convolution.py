"""Twins of convolution for NumPy: windows laid out in a buffer that stays in the cache.

Without Numba (the extra ``fast``) the buffer is filled by strided copies.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from portnn.functional.windows import Axis, extend
from portnn.kernels import Kernel

from .arrays import FLOATS
from .compile import loops
from .products import product, product_cost
from .sums import column_sums
from .windows import numbers
from .workspace import contiguous, empty, share, zeros

__all__ = ["KERNELS"]

#: Bytes of windows that are worked on at a time: what a last-level cache holds, and enough for a matrix product.
_CACHE = 2**20

#: Up to so many channels, windows are laid out one value of all windows after the other.
_NARROW = 4


def _unfold(x: Any, buffer: Any, rows: Axis, columns: Axis) -> Any:
    """The windows of ``x``, (places, values), in the memory of a buffer that is large enough."""
    n, c = x.shape[0], x.shape[3]
    places, values = n * rows.count * columns.count, rows.kernel * columns.kernel * c
    windows, compiled = buffer[: places * values], loops("convolution")
    if compiled is not None and c <= _NARROW:
        compiled.unfold_narrow(x, windows.reshape(values, places), numbers(rows), numbers(columns))
        return windows.reshape(values, places).T
    if compiled is not None:
        lines = x.reshape(n, x.shape[1], x.shape[2] * c)
        compiled.unfold(lines, windows.reshape(places, values), numbers(rows), numbers(columns), c)
        return windows.reshape(places, values)
    padded = extend(x, rows.ends, columns.ends)
    a, b, d, e = padded.strides
    shape = (n, rows.count, columns.count, rows.kernel, columns.kernel, c)
    strides = (a, b * rows.stride, d * columns.stride, b * rows.dilation, d * columns.dilation, e)
    windows.reshape(shape)[...] = np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)
    return windows.reshape(places, values)


def _fold(windows: Any, dx: Any, rows: Axis, columns: Axis) -> None:
    compiled, (n, h, w, c) = loops("convolution"), dx.shape
    if compiled is not None:
        compiled.fold(windows, dx.reshape(n, h, w * c), numbers(rows), numbers(columns), c)
        return
    padded = np.zeros((n, h + rows.before + rows.after, w + columns.before + columns.after, c), dx.dtype)
    parts = windows.reshape(n, rows.count, columns.count, rows.kernel, columns.kernel, c)
    for i in range(rows.kernel):
        for j in range(columns.kernel):
            padded[:, rows.part(i), columns.part(j)] += parts[:, :, :, i, j]
    dx += padded[:, rows.before : rows.before + h, columns.before : columns.before + w]


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    if groups != 1:
        return NotImplemented
    x, n, f = contiguous(x), x.shape[0], w.shape[3]
    kernel, places = w.reshape(-1, f), rows.count * columns.count
    size = max(1, min(memory, _CACHE) // (places * kernel.shape[0] * x.itemsize))
    cost = 2 * product_cost(n * places, kernel.shape[0], f, x.dtype)
    y = empty((n, places, f), x.dtype)

    def slabs(images: slice) -> Any:
        """Some images at a time, with their windows and the buffer that these are in."""
        buffer = empty((min(size, n) * places * kernel.shape[0],), x.dtype)
        for start in range(images.start, images.stop, size):
            slab = slice(start, min(start + size, images.stop))
            yield slab, _unfold(x[slab], buffer, rows, columns), buffer

    def forward(images: slice) -> None:
        for slab, windows, _ in slabs(images):
            out = y[slab].reshape(-1, f)
            product(windows, kernel, out)
            out += b

    share(forward, n, cost=cost)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        slopes = contiguous(dy).reshape(n, places, f)
        dx = empty(x.shape, x.dtype) if input_grad else None
        sums: dict[int, tuple[Any, Any]] = {}

        def part(images: slice) -> None:
            # In double precision: there may be as many slabs as images.
            dw, db = zeros(kernel.shape, np.dtype(np.float64)), zeros(b.shape, np.dtype(np.float64))
            if dx is not None:
                dx[images] = 0.0
            for slab, windows, buffer in slabs(images):
                slope = slopes[slab].reshape(-1, f)
                dw += product(windows.T, slope, empty(kernel.shape, x.dtype))
                db += column_sums(slope)
                if dx is not None:
                    reuse = buffer[: windows.size].reshape(len(slope), -1)
                    _fold(product(slope, kernel.T, reuse), dx[slab], rows, columns)
            sums[images.start] = dw, db

        share(part, n, cost=2 * cost)  # with and without dx in the same parts: the same bits
        dw, db = (functools.reduce(np.add, [sums[start][i] for start in sorted(sums)]) for i in range(2))
        return dx, dw.reshape(w.shape).astype(x.dtype), db.astype(x.dtype)

    return y.reshape(n, rows.count, columns.count, f), backward


KERNELS = {"conv2d": Kernel(_conv2d, dtypes=FLOATS)}
