"""Other shapes for the same numbers."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from portnn._typing import Array, Backward, Shape
from portnn.functional.windows import Padding, axes, extend
from portnn.kernels import differentiable

__all__ = ["channels_last", "flatten", "pad", "reshape"]


@differentiable(shapes="n ... -> n *shape")
def reshape(x: Array, *, shape: Shape) -> tuple[Array, Backward]:
    """(n, ...) to ``(n, *shape)``, the last axis running fastest."""
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return xp.reshape(dy, x.shape)

    return xp.reshape(x, (x.shape[0], *shape)), backward


@differentiable(shapes="n ... -> n k")
def flatten(x: Array) -> tuple[Array, Backward]:
    """(n, a, b, ...) to (n, a b ...), the last axis running fastest."""
    return reshape.portable(x, shape=(math.prod(x.shape[1:]),))  # type: ignore[no-any-return]


@differentiable(shapes="n c h w -> n h w c")
def channels_last(x: Array) -> tuple[Array, Backward]:
    """Images (n, c, h, w) to (n, h, w, c)."""
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return xp.permute_dims(dy, (0, 3, 1, 2))

    return xp.permute_dims(x, (0, 2, 3, 1)), backward


@differentiable(shapes="n h w c -> n rows columns c")
def pad(x: Array, *, padding: Padding = 1) -> tuple[Array, Backward]:
    """Zeros around images (n, h, w, c): see ``portnn.functional.windows.Padding``; "same" and "valid" add none."""
    rows, columns = axes(x.shape[1:3], 1, 1, padding, 1)
    ends = (rows.ends, columns.ends)

    def backward(dy: Array) -> Array:
        return extend(dy, *((-before, -after) for before, after in ends))

    return extend(x, *ends), backward
