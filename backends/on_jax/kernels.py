"""Twins for JAX: the convolution of XLA, with its own derivatives, and what XLA does better than the portable forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from portnn.functional.convolution import MEMORY, check_groups, transposed_axes
from portnn.functional.pooling import inside, max_pool2d, pool_axes
from portnn.functional.windows import Axis, Padding, Pair, axes, extend, views
from portnn.kernels import Kernel

from ..special import erf_kernels

__all__ = ["KERNELS"]


def _correlate(x: Any, w: Any, rows: Axis, columns: Axis, groups: int) -> Any:
    return lax.conv_general_dilated(
        x,
        w,
        (rows.stride, columns.stride),
        (rows.ends, columns.ends),
        rhs_dilation=(rows.dilation, columns.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _with_bias(product: Callable[[Any, Any], Any], x: Any, w: Any, b: Any) -> Any:
    """A product of images and kernel, plus biases, and the pullback of both."""
    y, pullback = jax.vjp(product, x, w)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx, dw = pullback(dy)
        return (dx if input_grad else None), dw, dy.sum(axis=(0, 1, 2))

    return y + b, backward


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
    check_groups(x.shape[3], w.shape[2], w.shape[3], groups)
    rows, columns = axes(x.shape[1:3], (w.shape[0], w.shape[1]), stride, padding, dilation)
    return _with_bias(lambda x, w: _correlate(x, w, rows, columns, groups), x, w, b)


def _conv_transpose2d(
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
    check_groups(b.shape[0], w.shape[2], w.shape[3], groups)
    rows, columns = transposed_axes(x.shape[1:3], (w.shape[0], w.shape[1]), stride, padding, dilation)
    image = jax.ShapeDtypeStruct((x.shape[0], rows.size, columns.size, b.shape[0]), x.dtype)

    def scatter(x: Any, w: Any) -> Any:
        (y,) = jax.linear_transpose(lambda image: _correlate(image, w, rows, columns, groups), image)(x)
        return y

    return _with_bias(scatter, x, w, b)


def _largest(x: Any, rows: Axis, columns: Axis) -> Any:
    """The largest value of each window, or the last NaN, and the number of its place."""
    xp = jax.numpy
    y, *others = views(extend(x, rows.ends, columns.ends, value=-math.inf), rows, columns)
    place, (known, *within) = xp.zeros(y.shape, xp.int32), inside(x, rows, columns)
    for k, (value, here) in enumerate(zip(others, within, strict=True), start=1):
        better = (value > y) | (value != value)
        if here is not None:
            better, known = better | (here & ~known), known | here
        y, place = xp.where(better, value, y), xp.where(better, k, place)
    return y, place


def _max_pool2d(x: Any, *, size: Pair = 2, stride: Pair | None = None, padding: Padding = 0) -> Any:
    rows, columns = pool_axes(x.shape[1:3], size, stride, padding)
    if (rows.stride, columns.stride) == (rows.kernel, columns.kernel):
        return max_pool2d.portable(x, size=size, stride=stride, padding=padding)
    y, place = _largest(x, rows, columns)

    def backward(dy: Any) -> Any:
        # Where windows overlap, XLA would find the places anew for each of the sums that the portable form makes. Its
        # own gradient of a maximum over windows takes five times as long, and drops NaN.
        n, h, w, c = (jax.numpy.arange(length) for length in dy.shape)
        i = h[:, None, None] * rows.stride - rows.before + place // columns.kernel
        j = w[:, None] * columns.stride - columns.before + place % columns.kernel
        return jax.numpy.zeros_like(x).at[n[:, None, None, None], i, j, c].add(dy)

    return y, backward


def _sum_over(x: Any, axis: int) -> Any:
    return x.sum(axis=axis)


KERNELS = {
    "sum_over": Kernel(_sum_over),
    **erf_kernels("jax.scipy.special"),
    "conv2d": Kernel(_conv2d),
    "conv_transpose2d": Kernel(_conv_transpose2d),
    "max_pool2d": Kernel(_max_pool2d),
}
