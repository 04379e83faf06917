"""Twins of convolution for JAX: the convolution of XLA, with its own derivatives.

In precision bf16 they take float32 arrays whose numbers are rounded to bfloat16: XLA's derivatives are of one dtype. On
GPUs these numbers may pass through TF32, which has 3 bits more, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from portnn.functional.windows import Axis
from portnn.kernels import Kernel

from .linear import in_bf16, rounded

__all__ = ["KERNELS"]


def _correlate(x: Any, w: Any, rows: Axis, columns: Axis, groups: int, rounding: bool) -> Any:
    return lax.conv_general_dilated(
        x,
        w,
        (rows.stride, columns.stride),
        (rows.ends, columns.ends),
        rhs_dilation=(rows.dilation, columns.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=lax.Precision.HIGH if rounding else None,
    )


def _with_bias(product: Callable[[Any, Any, bool], Any], x: Any, w: Any, b: Any) -> Any:
    """A product of images and kernel, plus biases, and the pullback of both."""
    rounding = in_bf16(x, w)
    x, w = (rounded(x), rounded(w)) if rounding else (x, w)
    y, pullback = jax.vjp(lambda x, w: product(x, w, rounding), x, w)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx, dw = pullback(rounded(dy) if rounding else dy)
        return (dx if input_grad else None), dw, dy.sum(axis=(0, 1, 2))

    return y + b, backward


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    return _with_bias(lambda x, w, rounding: _correlate(x, w, rows, columns, groups, rounding), x, w, b)


def _conv_transpose2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    image = jax.ShapeDtypeStruct((x.shape[0], rows.size, columns.size, b.shape[0]), x.dtype)

    def scatter(x: Any, w: Any, rounding: bool) -> Any:
        (y,) = jax.linear_transpose(lambda image: _correlate(image, w, rows, columns, groups, rounding), image)(x)
        return y

    return _with_bias(scatter, x, w, b)


KERNELS = {"conv2d": Kernel(_conv2d), "conv_transpose2d": Kernel(_conv_transpose2d)}
