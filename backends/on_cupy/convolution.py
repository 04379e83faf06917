"""Twins of convolution for CuPy: windows are laid out by one launch, and multiplied by cuBLAS.

Where windows overlap, every value collects its own, so that gradients are the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portnn.functional.linear import matmul
from portnn.functional.windows import Axis
from portnn.kernels import Kernel

from .compile import FLOATS, dense, empty
from .linear import add_row
from .sums import column_sums
from .windows import launch

__all__ = ["KERNELS"]


def _slabs(n: int, places: int, values: int, dtype: Any, memory: int) -> Iterator[slice]:
    """Some images at a time, whose windows fit into so many bytes; at least one."""
    size = max(1, memory // max(places * values * dtype.itemsize, 1))
    yield from (slice(start, min(start + size, n)) for start in range(0, n, size))


def _unfold(x: Any, rows: Axis, columns: Axis) -> Any:
    """The windows of images as the rows of a matrix."""
    n, _, _, c = x.shape
    windows = empty((n * rows.count * columns.count, rows.kernel * columns.kernel * c), x.dtype)
    launch("convolution", "unfold", (x,), rows, columns, (windows,))
    return windows


def _correlate(x: Any, w: Any, rows: Axis, columns: Axis, memory: int) -> Any:
    """Images (n, h, w, c) and kernel (kh, kw, c, f) to a matrix (n rows columns, f)."""
    f = w.shape[-1]
    x, kernel_matrix, places = dense(x), dense(w).reshape(-1, f), rows.count * columns.count
    slabs = list(_slabs(len(x), places, len(kernel_matrix), x.dtype, memory))
    if len(slabs) == 1:
        return matmul(_unfold(x, rows, columns), kernel_matrix)
    y = empty((len(x) * places, f), x.dtype)
    for images in slabs:
        y[images.start * places : images.stop * places] = matmul(_unfold(x[images], rows, columns), kernel_matrix)
    return y


def _scatter(dy: Any, w: Any, rows: Axis, columns: Axis, memory: int) -> Any:
    """The adjoint: images (n, rows, columns, f) and kernel (kh, kw, c, f) to images (n, h, w, c)."""
    n, (c, f), places = len(dy), w.shape[2:], rows.count * columns.count
    kernel_matrix, slopes = dense(w).reshape(-1, f).T, dense(dy).reshape(-1, f)
    dx = empty((n, rows.size, columns.size, c), dy.dtype)
    for images in _slabs(n, places, kernel_matrix.shape[1], dy.dtype, memory):
        windows = matmul(slopes[images.start * places : images.stop * places], kernel_matrix)
        launch("convolution", "fold", (windows,), rows, columns, (dx[images],))
    return dx


def _kernel_gradient(x: Any, dy: Any, rows: Axis, columns: Axis, memory: int) -> Any:
    """Images (n, h, w, c) and gradients (n, rows, columns, f) to (kh, kw, c, f)."""
    c, f, places = x.shape[3], dy.shape[3], rows.count * columns.count
    x, slopes = dense(x), dense(dy).reshape(-1, f)
    total: Any = None
    for images in _slabs(len(x), places, rows.kernel * columns.kernel * c, x.dtype, memory):
        slope = slopes[images.start * places : images.stop * places]
        part = matmul(_unfold(x[images], rows, columns).T, slope)
        total = part if total is None else total + part
    return total.reshape(rows.kernel, columns.kernel, c, f)


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    if groups != 1 or not x.size:
        return NotImplemented
    y = add_row(_correlate(x, w, rows, columns, memory), b)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx = _scatter(dy, w, rows, columns, memory) if input_grad else None
        return dx, _kernel_gradient(x, dy, rows, columns, memory), _bias_gradient(dy)

    return y.reshape(len(x), rows.count, columns.count, -1), backward


def _conv_transpose2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    if groups != 1 or not x.size:
        return NotImplemented
    y = _scatter(x, w, rows, columns, memory)
    add_row(y.reshape(-1, y.shape[3]), b)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx = _correlate(dy, w, rows, columns, memory).reshape(x.shape) if input_grad else None
        return dx, _kernel_gradient(dy, x, rows, columns, memory), _bias_gradient(dy)

    return y, backward


def _bias_gradient(dy: Any) -> Any:
    return column_sums(dense(dy).reshape(-1, dy.shape[3]))


KERNELS = {
    "conv2d": Kernel(_conv2d, dtypes=FLOATS),
    "conv_transpose2d": Kernel(_conv_transpose2d, dtypes=FLOATS),
}
