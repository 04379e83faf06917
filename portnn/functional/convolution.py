"""Convolution of images, as matrix products, and its transpose.

What is called convolution here, as everywhere in this field, is a correlation: the kernel is not flipped. Three
products are one another's derivatives: `_correlate` (images and kernel to images), its adjoint `_scatter`, and
`_kernel_gradient`. They lay the windows of some images out as the rows of a matrix (im2col), as many images at a time
as fit into ``memory`` bytes. Nothing of that is kept for the way back: it is laid out again.

Callers give stride, padding and dilation; what stands here, and what twins replace, is given the windows that come of
them, an `Axis` for the rows and one for the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.errors import ShapeError
from portnn.functional.linear import matmul
from portnn.functional.sums import sum_leading
from portnn.functional.windows import Axis, Padding, Pair, axes, extend, pair, spread, views
from portnn.kernels import differentiable

__all__ = ["MEMORY", "check_groups", "conv2d", "conv_transpose2d", "transposed_axes"]

#: Bytes that the windows of a slab of images may take, by default.
MEMORY = 2**26


def _windows(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    memory: int = MEMORY,
) -> dict[str, Any]:
    """What `conv2d` computes with, from what it is given."""
    check_groups(x.shape[3], w.shape[2], w.shape[3], groups)
    rows, columns = axes(x.shape[1:3], (w.shape[0], w.shape[1]), stride, padding, dilation)
    return {"rows": rows, "columns": columns, "groups": groups, "memory": memory}


@differentiable(shapes="n h w c, kh kw g f, f -> n rows columns f", options=_windows, input_grad=True)
def conv2d(
    x: Array, w: Array, b: Array, *, rows: Axis, columns: Axis, groups: int, memory: int
) -> tuple[Array, Backward]:
    """``y[n, i, j, f] = b[f] + sum_uvc x[n, i s + u d - p, j s + v d - p, c] w[u, v, c, f]``.

    Parameters
    ----------
    x : array, shape (n, h, w, c)
    w : array, shape (kh, kw, c / groups, f)
    b : array, shape (f,)
    stride, dilation : int or two ints, default 1
        Steps between the windows, and within them.
    padding : default 0
        Zeros around the image: see ``portnn.functional.windows.Padding``.
    groups : int, default 1
        Channels and outputs are parted into so many groups, each output seeing the channels of its own alone;
        ``groups = c`` is the depthwise convolution.
    memory : int, default 64 MiB
        Bytes that the windows laid out at a time may take; one image is always laid out whole.

    Returns
    -------
    y : array, shape (n, rows, columns, f)
        With ``rows = (h + top + bottom - (kh - 1) dilation - 1) // stride + 1``, and columns alike.
    backward : callable
        ``backward(dy, input_grad=True) -> (dx, dw, db)``; dx is None where it is not wanted.

    Raises
    ------
    ShapeError
        If channels and groups do not fit, or a window is larger than the padded image.
    """
    y = _correlate(x, w, rows, columns, groups, memory) + b

    def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Array, Array]:
        db = sum_leading(dy)
        dw = _kernel_gradient(x, dy, rows, columns, groups, memory)
        return (_scatter(dy, w, rows, columns, groups, memory) if input_grad else None), dw, db

    return y, backward


def _transposed_windows(
    x: Array,
    w: Array,
    b: Array,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    memory: int = MEMORY,
) -> dict[str, Any]:
    """What `conv_transpose2d` computes with, from what it is given."""
    check_groups(b.shape[0], w.shape[2], w.shape[3], groups)
    if x.shape[3] != w.shape[3]:
        raise ShapeError(
            f"the images have {x.shape[3]} channels, the kernel of shape {tuple(w.shape)} takes {w.shape[3]}"
        )
    rows, columns = transposed_axes(x.shape[1:3], (w.shape[0], w.shape[1]), stride, padding, dilation)
    return {"rows": rows, "columns": columns, "groups": groups, "memory": memory}


@differentiable(shapes="n h w c, kh kw g c, f -> n rows columns f", options=_transposed_windows, input_grad=True)
def conv_transpose2d(
    x: Array, w: Array, b: Array, *, rows: Axis, columns: Axis, groups: int, memory: int
) -> tuple[Array, Backward]:
    """The adjoint of `conv2d`, plus ``b``: each value of ``x`` adds the kernel, times itself, to its window of ``y``.

    Parameters
    ----------
    x : array, shape (n, h, w, c)
    w : array, shape (kh, kw, f / groups, c)
        The kernel of the `conv2d` from f to c channels.
    b : array, shape (f,)
    stride, padding, dilation, groups, memory
        Of that `conv2d`: a larger stride makes larger images, and padding cuts their edges off. "same" makes images of
        size ``h stride``.

    Returns
    -------
    y : array, shape (n, rows, columns, f)
        With ``rows = (h - 1) stride + (kh - 1) dilation + 1 - top - bottom``, and columns alike.
    backward : callable
        ``backward(dy, input_grad=True) -> (dx, dw, db)``; dx is None where it is not wanted.

    Raises
    ------
    ShapeError
        If channels and groups do not fit, or nothing would be left of the image.
    """
    y = _scatter(x, w, rows, columns, groups, memory) + b

    def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Array, Array]:
        db = sum_leading(dy)
        dw = _kernel_gradient(dy, x, rows, columns, groups, memory)
        return (_correlate(dy, w, rows, columns, groups, memory) if input_grad else None), dw, db

    return y, backward


def check_groups(channels: int, kernel_channels: int, outputs: int, groups: int) -> None:
    """Raise ShapeError unless a kernel fits the channels, and the outputs the groups."""
    if groups < 1 or channels % groups or outputs % groups or kernel_channels * groups != channels:
        raise ShapeError(
            f"{channels} channels in {groups} groups need a kernel of {channels} / {groups} channels and a number of "
            f"outputs that {groups} divides, not a kernel of {kernel_channels} channels and {outputs} outputs"
        )


def transposed_axes(
    size: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> tuple[Axis, Axis]:
    """The windows of the convolution whose outputs have ``size``: the geometry of `conv_transpose2d`."""
    strides, kernels, dilations = pair("stride", stride), pair("kernel", kernel), pair("dilation", dilation)
    if padding == "same":
        whole = [n * s for n, s in zip(size, strides, strict=True)]
        return axes(tuple(whole), kernel, stride, padding, dilation)
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, strides, kernels, dilations, strict=True)]
    unpadded = axes(tuple(whole), kernel, stride, padding, dilation)
    cut = [replace(axis, size=axis.size - axis.before - axis.after) for axis in unpadded]
    for name, axis in zip(("height", "width"), cut, strict=True):
        if axis.size < 1:
            raise ShapeError(
                f"nothing is left of the {name}: {axis.size + axis.before + axis.after} - {axis.before} - {axis.after} "
                "(padding) < 1"
            )
    return cut[0], cut[1]


def _slabs(x: Array, rows: Axis, columns: Axis, memory: int) -> Iterator[tuple[slice, Array]]:
    """Some images at a time, and their windows: arrays (images rows columns, kh kw, c)."""
    xp, (n, _, _, c) = array_namespace(x), x.shape
    bits: int = xp.finfo(x.dtype).bits
    bytes_each = rows.count * columns.count * rows.kernel * columns.kernel * c * bits // 8
    size = max(1, memory // max(bytes_each, 1))
    for start in range(0, max(n, 1), size):
        images = slice(start, min(start + size, n))
        padded = extend(x[images, ...], rows.ends, columns.ends)
        found = xp.stack(views(padded, rows, columns), axis=3)
        yield images, xp.reshape(found, (-1, rows.kernel * columns.kernel, c))


def _by_group(a: Array, groups: int) -> Array:
    """(m, k, channels) to (groups, m, k channels / groups)."""
    xp, (m, k, channels) = array_namespace(a), a.shape
    parted = xp.reshape(a, (m, k, groups, channels // groups))
    return xp.reshape(xp.permute_dims(parted, (2, 0, 1, 3)), (groups, m, k * channels // groups))


def _correlate(x: Array, w: Array, rows: Axis, columns: Axis, groups: int, memory: int) -> Array:
    """Images (n, h, w, c) and kernel (kh, kw, c / groups, f) to images (n, rows, columns, f)."""
    xp, (kh, kw, c, f) = array_namespace(x), w.shape
    kernel = xp.permute_dims(xp.reshape(w, (kh * kw * c, groups, f // groups)), (1, 0, 2))
    parts = []
    for images, windows in _slabs(x, rows, columns, memory):
        product = xp.permute_dims(matmul(_by_group(windows, groups), kernel), (1, 0, 2))
        parts.append(xp.reshape(product, (images.stop - images.start, rows.count, columns.count, f)))
    return parts[0] if len(parts) == 1 else xp.concat(parts)


def _kernel_gradient(x: Array, dy: Array, rows: Axis, columns: Axis, groups: int, memory: int) -> Array:
    """Images (n, h, w, c) and gradients (n, rows, columns, f) to (kh, kw, c / groups, f)."""
    xp, f, c = array_namespace(x), dy.shape[3], x.shape[3]
    total = None
    for images, windows in _slabs(x, rows, columns, memory):
        slopes = _by_group(xp.reshape(dy[images, ...], (-1, 1, f)), groups)
        product = matmul(xp.matrix_transpose(_by_group(windows, groups)), slopes)
        total = product if total is None else total + product
    return xp.reshape(xp.permute_dims(total, (1, 0, 2)), (rows.kernel, columns.kernel, c // groups, f))


def _scatter(dy: Array, w: Array, rows: Axis, columns: Axis, groups: int, memory: int) -> Array:
    """Gradients (n, rows, columns, f) and kernel to the gradient of the images, (n, h, w, c).

    Itself a correlation, of the gradients set apart by the stride, with the kernel turned around: no two values are
    ever written to one place.
    """
    xp, (kh, kw, c, f) = array_namespace(dy), w.shape
    apart = spread(dy, (rows.stride, columns.stride))
    ends = [(a.span - 1 - a.before, a.span - 1 - a.after + a.unused) for a in (rows, columns)]
    turned = xp.permute_dims(xp.reshape(xp.flip(w, axis=(0, 1)), (kh, kw, c, groups, f // groups)), (0, 1, 4, 3, 2))
    once = [Axis(a.size + a.span - 1, a.kernel, 1, a.dilation, 0, 0) for a in (rows, columns)]
    kernel = xp.reshape(turned, (kh, kw, f // groups, groups * c))
    return _correlate(extend(apart, *ends), kernel, once[0], once[1], groups, memory)
