"""Twins of convolution for JAX: the convolution of XLA, with its own derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from portnn.functional.windows import Axis
from portnn.kernels import Kernel

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


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    return _with_bias(lambda x, w: _correlate(x, w, rows, columns, groups), x, w, b)


def _conv_transpose2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    image = jax.ShapeDtypeStruct((x.shape[0], rows.size, columns.size, b.shape[0]), x.dtype)

    def scatter(x: Any, w: Any) -> Any:
        (y,) = jax.linear_transpose(lambda image: _correlate(image, w, rows, columns, groups), image)(x)
        return y

    return _with_bias(scatter, x, w, b)


KERNELS = {"conv2d": Kernel(_conv2d), "conv_transpose2d": Kernel(_conv_transpose2d)}
