"""The geometry of windows, as compiled loops take it."""

from __future__ import annotations

from portnn.functional.windows import Axis

__all__ = ["numbers"]


def numbers(axis: Axis) -> tuple[int, int, int, int, int]:
    """Of an axis: what the loops of convolution and pooling want to know."""
    return axis.count, axis.kernel, axis.stride, axis.dilation, axis.before
