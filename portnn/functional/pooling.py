"""Pooling: each window of an image becomes one value, channel by channel. Images are (n, h, w, c)."""

from __future__ import annotations

import functools
import math
from typing import Any

from array_api_compat import array_namespace, device

from portnn._typing import Array, Backward, Shape
from portnn.errors import ConfigError
from portnn.functional.sums import mean_over, pairwise
from portnn.functional.windows import Axis, Padding, Pair, axes, extend, spread, views
from portnn.kernels import differentiable

__all__ = ["average_pool2d", "global_average_pool", "inside", "max_pool2d", "pool_axes"]


def _windows(x: Array, *, size: Pair = 2, stride: Pair | None = None, padding: Padding = 0) -> dict[str, Axis]:
    """What pooling computes with, from what it is given."""
    rows, columns = pool_axes(x.shape[1:3], size, stride, padding)
    return {"rows": rows, "columns": columns}


@differentiable(shapes="n h w c -> n rows columns c", options=_windows)
def max_pool2d(x: Array, *, rows: Axis, columns: Axis) -> tuple[Array, Backward]:
    """The largest value of each window; of equal ones, the first in reading order gets the gradient, as in torch.

    NaN is larger than any number, and of several the last one gets the gradient, as in torch, too.

    Parameters
    ----------
    x : array, shape (n, h, w, c)
    size : int or two ints, default 2
        Of the windows.
    stride : int or two ints, optional
        Steps between the windows; by default their size, so that they do not overlap.
    padding : default 0
        See ``portnn.functional.windows.Padding``; what is added counts as minus infinity.

    Returns
    -------
    y : array, shape (n, rows, columns, c)
        With ``rows = (h + top + bottom - size) // stride + 1``, and columns alike.
    backward : callable
        ``backward(dy) -> dx``.

    Raises
    ------
    ShapeError
        If a window is larger than the padded image.
    ConfigError
        If there is as much padding on a side as a window is long: it would hold nothing else.
    """
    xp = array_namespace(x)

    def windows() -> list[Array]:
        return views(extend(x, rows.ends, columns.ends, value=-math.inf), rows, columns)

    y = functools.reduce(xp.maximum, windows())

    def backward(dy: Array) -> Array:
        found, chosen, free = windows(), [], xp.ones_like(y, dtype=xp.bool)
        for view, here in zip(found, inside(x, rows, columns), strict=True):
            first = free & (view == y) if here is None else free & here & (view == y)
            free = free & ~first
            chosen.append(first)
        # What is free still is NaN, which equals nothing.
        for k in reversed(range(len(found))):
            last = free & (found[k] != found[k])
            free = free & ~last
            chosen[k] = chosen[k] | last
        return _sum_of_views([xp.where(part, dy, 0.0) for part in chosen], rows, columns)

    return y, backward


def inside(x: Array, rows: Axis, columns: Axis) -> list[Any]:
    """Whether each place of each window is in the image, (1, rows, columns, 1); None where there is no padding.

    Minus infinity in an image is more than what padding adds, which never gets a gradient.
    """
    if not any(map(any, (rows.ends, columns.ends))):
        return [None] * (rows.kernel * columns.kernel)
    xp = array_namespace(x)
    image = xp.ones((1, *x.shape[1:3], 1), dtype=x.dtype, device=device(x))
    return [view > 0 for view in views(extend(image, rows.ends, columns.ends), rows, columns)]


@differentiable(shapes="n h w c -> n rows columns c", options=_windows)
def average_pool2d(x: Array, *, rows: Axis, columns: Axis) -> tuple[Array, Backward]:
    """The mean of each window; what padding adds counts as 0, as in torch. Arguments and results as `max_pool2d`."""
    share = 1.0 / (rows.kernel * columns.kernel)
    padded = extend(x, rows.ends, columns.ends)
    y = pairwise(views(padded, rows, columns)) * share

    def backward(dy: Array) -> Array:
        return _sum_of_views([dy * share] * (rows.kernel * columns.kernel), rows, columns)

    return y, backward


@differentiable(shapes="n h w c -> n c")
def global_average_pool(x: Array) -> tuple[Array, Backward]:
    """The mean of each channel over the whole image: (n, h, w, c) to (n, c)."""
    xp, (n, h, w, c) = array_namespace(x), x.shape

    def backward(dy: Array) -> Array:
        return xp.broadcast_to(xp.reshape(dy / (h * w), (n, 1, 1, c)), x.shape)

    return mean_over(xp.reshape(x, (n, h * w, c)), 1), backward


def pool_axes(image: Shape, size: Pair, stride: Pair | None, padding: Padding) -> tuple[Axis, Axis]:
    """The windows of pooling; errors as `max_pool2d`."""
    rows, columns = axes(image, size, size if stride is None else stride, padding, 1)
    for axis in (rows, columns):
        if max(axis.before, axis.after) >= axis.kernel:
            raise ConfigError(f"padding of {axis.before} and {axis.after} must be less than the window, {axis.kernel}")
    return rows, columns


def _sum_of_views(parts: list[Array], rows: Axis, columns: Axis) -> Array:
    """The adjoint of `extend` and `views`: every part goes back to its place in the windows, and what meets adds up."""
    if (rows.stride, columns.stride) == (rows.kernel, columns.kernel):
        return _side_by_side(parts, rows, columns)
    total = None
    for k, part in enumerate(parts):
        i, j = divmod(k, columns.kernel)
        apart = spread(part, (rows.stride, columns.stride))
        ends = [
            (place - axis.before, axis.kernel - 1 - place - axis.after + axis.unused)
            for place, axis in ((i, rows), (j, columns))
        ]
        placed = extend(apart, *ends)
        total = placed if total is None else total + placed
    return total


def _side_by_side(parts: list[Array], rows: Axis, columns: Axis) -> Array:
    """As `_sum_of_views`, of windows that neither overlap nor leave gaps: nothing is added, all is moved once."""
    xp, (n, _, _, c) = array_namespace(parts[0]), parts[0].shape
    places = xp.reshape(xp.stack(parts, axis=3), (n, rows.count, columns.count, rows.kernel, columns.kernel, c))
    image = (n, rows.count * rows.kernel, columns.count * columns.kernel, c)
    laid = xp.reshape(xp.permute_dims(places, (0, 1, 3, 2, 4, 5)), image)
    return extend(laid, *((-axis.before, axis.unused - axis.after) for axis in (rows, columns)))
