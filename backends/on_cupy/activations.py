"""Twins of activations for CuPy: one launch each."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

from .compile import FLOATS, dense, each_some, empty, kernel

__all__ = ["KERNELS"]


def _relu(x: Any) -> Any:
    x, y = dense(x), empty(x.shape, x.dtype)
    kernel("activations", "relu_values", REAL=x.dtype)(*each_some(x.size, x.dtype), (x, x.size, y))

    def backward(dy: Any) -> Any:
        dx = empty(y.shape, y.dtype)
        kernel("activations", "relu_slopes", REAL=y.dtype)(*each_some(y.size, y.dtype), (dense(dy), y, y.size, dx))
        return dx

    return y, backward


KERNELS = {"relu": Kernel(_relu, dtypes=FLOATS)}
