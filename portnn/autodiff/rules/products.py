"""Products of matrices and vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from array_api_compat import device as device_of

from portnn._typing import Array, Namespace
from portnn.autodiff.rules.common import adjoint, along, conj, eye_like, match
from portnn.autodiff.rules.forms import Formula, General, Rule

__all__ = ["PRODUCTS"]


def _matmul(xp: Namespace, y: Array, a: Array, b: Array) -> Any:
    shape_a, shape_b, dtype_a, dtype_b = tuple(a.shape), tuple(b.shape), a.dtype, b.dtype
    rows, columns = len(shape_a) > 1, len(shape_b) > 1

    def left(g: Array) -> Array:
        if columns:
            found = xp.matmul(g, adjoint(xp, b)) if rows else xp.matmul(g[..., None, :], adjoint(xp, b))[..., 0, :]
        else:
            found = (g[..., None] if rows else g) * conj(xp, b)
        return match(xp, found, shape_a, dtype_a)

    def right(g: Array) -> Array:
        if rows:
            found = xp.matmul(adjoint(xp, a), g) if columns else xp.matmul(adjoint(xp, a), g[..., None])[..., 0]
        else:
            found = g[..., None, :] * conj(xp, a)[:, None] if columns else g * conj(xp, a)
        return match(xp, found, shape_b, dtype_b)

    return left, right


def _product(xp: Namespace, y: Array, a: Array, b: Array) -> Any:
    shape_a, shape_b, dtype_a, dtype_b = tuple(a.shape), tuple(b.shape), a.dtype, b.dtype
    return (
        lambda g: match(xp, xp.product(g, adjoint(xp, b)), shape_a, dtype_a),
        lambda g: match(xp, xp.product(adjoint(xp, a), g), shape_b, dtype_b),
    )


def _vecdot(xp: Namespace, a: Array, b: Array, *, axis: int = -1) -> Array:
    # Counted from the last, so that it is the same axis of both.
    return xp.sum(conj(xp, a) * b, axis=axis)


def _outer(xp: Namespace, a: Array, b: Array) -> Array:
    return a[:, None] * b[None, :]


def _tensordot(xp: Namespace, a: Array, b: Array, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    if isinstance(axes, int):
        over_a, over_b = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        over_a, over_b = [i % a.ndim for i in axes[0]], [i % b.ndim for i in axes[1]]
    rest_a = [i for i in range(a.ndim) if i not in over_a]
    rest_b = [i for i in range(b.ndim) if i not in over_b]
    shape_a, shape_b = [a.shape[i] for i in rest_a], [b.shape[i] for i in rest_b]
    inner = math.prod([a.shape[i] for i in over_a])
    left = xp.reshape(xp.permute_dims(a, (*rest_a, *over_a)), (math.prod(shape_a), inner))
    right = xp.reshape(xp.permute_dims(b, (*over_b, *rest_b)), (inner, math.prod(shape_b)))
    return xp.reshape(xp.matmul(left, right), (*shape_a, *shape_b))


def _cross(xp: Namespace, a: Array, b: Array, *, axis: int = -1) -> Array:
    (a0, a1, a2), (b0, b1, b2) = ([v[along(axis, v.ndim, i)] for i in range(3)] for v in (a, b))
    return xp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=axis)


def _diagonal(xp: Namespace, x: Array, *, offset: int = 0) -> Array:
    rows, columns = x.shape[-2], x.shape[-1]
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    start = offset if offset >= 0 else -offset * columns
    flat = xp.reshape(x, (*x.shape[:-2], rows * columns))
    if not count:
        return flat[..., 0:0]
    return flat[..., start : start + (count - 1) * (columns + 1) + 1 : columns + 1]


def _trace(xp: Namespace, x: Array, *, offset: int = 0, dtype: Any = None) -> Array:
    return xp.sum(_diagonal(xp, x, offset=offset), axis=-1, dtype=dtype)


def _matrix_power(xp: Namespace, a: Array, n: int) -> Array:
    if n == 0:
        eye = eye_like(xp, a.shape[-1], a)
        return xp.broadcast_to(eye, tuple(a.shape)) + xp.zeros(tuple(a.shape), dtype=a.dtype, device=device_of(a))
    base, n = (xp.linalg.inv(a), -n) if n < 0 else (a, n)
    power = None
    while True:
        if n % 2:
            power = base if power is None else xp.matmul(power, base)
        n //= 2
        if not n:
            return power
        base = xp.matmul(base, base)


PRODUCTS: dict[str, Rule] = {
    "matmul": General(_matmul),
    "product": General(_product),
    "vecdot": Formula(_vecdot),
    "tensordot": Formula(_tensordot),
    "linalg.outer": Formula(_outer),
    "linalg.cross": Formula(_cross),
    "linalg.diagonal": Formula(_diagonal),
    "linalg.trace": Formula(_trace),
    "linalg.matrix_power": Formula(_matrix_power),
}
