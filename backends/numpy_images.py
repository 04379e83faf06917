"""Twins of convolution and pooling for NumPy: windows laid out in a buffer that stays in the cache.

Without Numba (the extra ``fast``) the buffer is filled by strided copies, and pooling keeps its portable form.
"""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from portnn.backend import first_line
from portnn.functional.convolution import MEMORY, check_groups, conv2d
from portnn.functional.pooling import max_pool2d, pool_axes
from portnn.functional.windows import Axis, Padding, Pair, axes, extend
from portnn.kernels import Kernel

__all__ = ["KERNELS"]

_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

#: Bytes of windows that are worked on at a time: what a last-level cache holds, and enough for a matrix product.
_CACHE = 2**22

#: Up to so many channels, windows are laid out one value of all windows after the other.
_NARROW = 4


@functools.cache
def _loops() -> Any:
    """The compiled loops, or None; loaded when they are first needed, as Numba takes a while."""
    if find_spec("numba") is None:
        return None
    try:
        from . import numba_images
    except ImportError as error:  # as where NumPy is newer than Numba knows
        warnings.warn(
            f"Numba cannot be used, so convolution is slower: {first_line(error)}", RuntimeWarning, stacklevel=2
        )
        return None
    return numba_images


def _numbers(axis: Axis) -> tuple[int, int, int, int, int]:
    return axis.count, axis.kernel, axis.stride, axis.dilation, axis.before


def _unfold(x: Any, buffer: Any, rows: Axis, columns: Axis) -> Any:
    """The windows of ``x``, (places, values), in the memory of a buffer that is large enough."""
    n, c = x.shape[0], x.shape[3]
    places, values = n * rows.count * columns.count, rows.kernel * columns.kernel * c
    windows, loops = buffer[: places * values], _loops()
    if loops is not None and c <= _NARROW:
        loops.unfold_narrow(x, windows.reshape(values, places), _numbers(rows), _numbers(columns))
        return windows.reshape(values, places).T
    if loops is not None:
        loops.unfold(x, windows.reshape(places, values), _numbers(rows), _numbers(columns))
        return windows.reshape(places, values)
    padded = extend(x, rows.ends, columns.ends)
    a, b, d, e = padded.strides
    shape = (n, rows.count, columns.count, rows.kernel, columns.kernel, c)
    strides = (a, b * rows.stride, d * columns.stride, b * rows.dilation, d * columns.dilation, e)
    windows.reshape(shape)[...] = np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)
    return windows.reshape(places, values)


def _fold(windows: Any, dx: Any, rows: Axis, columns: Axis) -> None:
    loops = _loops()
    if loops is not None:
        loops.fold(windows, dx, _numbers(rows), _numbers(columns))
        return
    n, h, w, c = dx.shape
    padded = np.zeros((n, h + rows.before + rows.after, w + columns.before + columns.after, c), dx.dtype)
    parts = windows.reshape(n, rows.count, columns.count, rows.kernel, columns.kernel, c)
    for i in range(rows.kernel):
        for j in range(columns.kernel):
            padded[:, rows.part(i), columns.part(j)] += parts[:, :, :, i, j]
    dx += padded[:, rows.before : rows.before + h, columns.before : columns.before + w]


def _conv2d(
    x: Any,
    w: Any,
    b: Any,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    memory: int = MEMORY,
) -> Any:
    if groups != 1:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "memory": memory}
        return conv2d.portable(x, w, b, **options)
    check_groups(x.shape[3], w.shape[2], w.shape[3], groups)
    rows, columns = axes(x.shape[1:3], (w.shape[0], w.shape[1]), stride, padding, dilation)
    x, n, f = np.ascontiguousarray(x), x.shape[0], w.shape[3]
    kernel, places = w.reshape(-1, f), rows.count * columns.count
    size = max(1, min(memory, _CACHE) // (places * kernel.shape[0] * x.itemsize))
    y = np.empty((n, places, f), x.dtype)

    def slabs() -> Any:
        """Some images at a time, with their windows and the buffer that these are in."""
        buffer = np.empty(min(size, n) * places * kernel.shape[0], x.dtype)
        for start in range(0, n, size):
            slab = slice(start, min(start + size, n))
            yield slab, _unfold(x[slab], buffer, rows, columns), buffer

    for slab, windows, _ in slabs():
        out = y[slab].reshape(-1, f)
        np.matmul(windows, kernel, out=out)
        out += b

    def backward(dy: Any, input_grad: bool = True) -> Any:
        slopes = np.ascontiguousarray(dy).reshape(n, places, f)
        dw, db, ones = np.zeros_like(kernel), np.zeros_like(b), np.ones(min(size, n) * places, x.dtype)
        dx = np.zeros_like(x) if input_grad else None
        for slab, windows, buffer in slabs():
            slope = slopes[slab].reshape(-1, f)
            dw += windows.T @ slope
            db += ones[: len(slope)] @ slope  # three times as fast as a sum over short rows
            if dx is not None:
                reuse = buffer[: windows.size].reshape(len(slope), -1)
                _fold(np.matmul(slope, kernel.T, out=reuse), dx[slab], rows, columns)
        return dx, dw.reshape(w.shape), db

    return y.reshape(n, rows.count, columns.count, f), backward


def _max_pool2d(x: Any, *, size: Pair = 2, stride: Pair | None = None, padding: Padding = 0) -> Any:
    rows, columns = pool_axes(x.shape[1:3], size, stride, padding)
    if _loops() is None:
        return max_pool2d.portable(x, size=size, stride=stride, padding=padding)
    numbers = _numbers(rows), _numbers(columns)
    x = np.ascontiguousarray(x)
    y = np.empty((x.shape[0], rows.count, columns.count, x.shape[3]), x.dtype)
    _loops().pool_forward(x, y, *numbers)

    def backward(dy: Any) -> Any:
        tiled = all(a.stride == a.kernel and a.size == a.count * a.kernel and not a.before for a in (rows, columns))
        dx, scratch = (np.empty_like if tiled else np.zeros_like)(x), np.empty(x.shape[3], x.dtype)
        _loops().pool_backward(np.ascontiguousarray(dy), x, y, dx, scratch, tiled, *numbers)
        return dx

    return y, backward


KERNELS = {"conv2d": Kernel(_conv2d, dtypes=_FLOATS)}
if find_spec("numba"):
    KERNELS["max_pool2d"] = Kernel(_max_pool2d, dtypes=_FLOATS)
