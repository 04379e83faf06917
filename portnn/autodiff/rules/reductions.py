"""Sums, extremes, products, moments and norms along axes.

Ties share the gradient evenly, a norm and a standard deviation have slope 0 at 0, and NaN among the values is NaN among
the slopes. Products do without division, so zeros are nothing special, to any order.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import device as device_of

from portnn._typing import Array, DType, Namespace
from portnn.autodiff.rules.common import along, axes_of, count_of, safe_sqrt, squared_size, to_dtype, with_axes
from portnn.autodiff.rules.forms import Formula, General, Rule

__all__ = ["REDUCTIONS", "vector_norm"]

_Axis = int | tuple[int, ...] | None


def _sum(xp: Namespace, y: Array, x: Array, *, axis: _Axis = None, dtype: DType = None, keepdims: bool = False) -> Any:
    shape, own = tuple(x.shape), x.dtype
    return lambda g: xp.broadcast_to(with_axes(xp, to_dtype(xp, g, own), shape, axis, keepdims), shape)


def _sum_over(xp: Namespace, y: Array, x: Array, axis: int) -> Any:
    return _sum(xp, y, x, axis=axis)


def _mean(xp: Namespace, y: Array, x: Array, *, axis: _Axis = None, keepdims: bool = False) -> Any:
    shape = tuple(x.shape)
    count = count_of(shape, axis)
    return lambda g: xp.broadcast_to(with_axes(xp, g / count, shape, axis, keepdims), shape)


def _extreme(xp: Namespace, y: Array, x: Array, *, axis: _Axis = None, keepdims: bool = False) -> Any:
    shape = tuple(x.shape)

    def pull(g: Array) -> Array:
        chosen = xp.cast(xp.equal(x, with_axes(xp, y, shape, axis, keepdims)), dtype=x.dtype)
        return with_axes(xp, g, shape, axis, keepdims) * (chosen / xp.sum(chosen, axis=axis, keepdims=True))

    return pull


def _prod(xp: Namespace, x: Array, *, axis: _Axis = None, dtype: DType = None, keepdims: bool = False) -> Array:
    """By halves: ``log n`` products of long arrays."""
    axes = axes_of(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in rest]
    v = xp.reshape(xp.permute_dims(x, (*rest, *axes)), (*shape, count_of(x.shape, axis)))
    while (half := v.shape[-1] // 2) > 0:
        v = xp.concat([v[..., :half] * v[..., half : 2 * half], v[..., 2 * half :]], axis=-1)
    v = v[..., 0] if v.shape[-1] else xp.ones(tuple(shape), dtype=v.dtype, device=device_of(v))
    if dtype is not None:
        v = xp.astype(v, dtype)
    return with_axes(xp, v, tuple(x.shape), axis, False) if keepdims else v


def _cumulative_prod(
    xp: Namespace, x: Array, *, axis: int | None = None, dtype: DType = None, include_initial: bool = False
) -> Array:
    """By doubling: products of 2, 4, 8 and so on neighbours."""
    k, v, step = 0 if axis is None else axis, x, 1
    length = x.shape[k]
    while step < length:
        ahead = v[along(k, x.ndim, slice(step, None))] * v[along(k, x.ndim, slice(0, length - step))]
        v, step = xp.concat([v[along(k, x.ndim, slice(0, step))], ahead], axis=k), 2 * step
    if include_initial:
        one = list(x.shape)
        one[k] = 1
        v = xp.concat([xp.ones(tuple(one), dtype=x.dtype, device=device_of(x)), v], axis=k)
    return v if dtype is None else xp.astype(v, dtype)


def _cumulative_sum(
    xp: Namespace,
    y: Array,
    x: Array,
    *,
    axis: int | None = None,
    dtype: DType = None,
    include_initial: bool = False,
) -> Any:
    k, ndim, own = 0 if axis is None else axis, x.ndim, x.dtype

    def pull(g: Array) -> Array:
        g = to_dtype(xp, g, own)
        if include_initial:
            g = g[along(k, ndim, slice(1, None))]
        return xp.flip(xp.cumulative_sum(xp.flip(g, axis=k), axis=k), axis=k)

    return pull


def _var(xp: Namespace, x: Array, *, axis: _Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    apart = x - xp.mean(x, axis=axis, keepdims=True)
    total = xp.sum(apart * apart, axis=axis, keepdims=keepdims)
    count = count_of(x.shape, axis) - correction
    return total / count if count > 0 else total * math.nan


def _std(xp: Namespace, x: Array, *, axis: _Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    return safe_sqrt(xp, _var(xp, x, axis=axis, correction=correction, keepdims=keepdims))


def vector_norm(xp: Namespace, x: Array, *, axis: _Axis = None, keepdims: bool = False, ord: float = 2) -> Array:
    """``(sum |x|^p)^(1/p)`` and its limits."""
    if ord == 2:
        return safe_sqrt(xp, xp.sum(squared_size(xp, x), axis=axis, keepdims=keepdims))
    size = xp.abs(x)
    if abs(ord) == math.inf:
        return (xp.max if ord > 0 else xp.min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return xp.sum(xp.astype(xp.not_equal(size, 0), size.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return xp.sum(size, axis=axis, keepdims=keepdims)
    total = xp.sum(xp.pow(size, float(ord)), axis=axis, keepdims=keepdims)
    nothing = xp.equal(total, 0)
    root = xp.pow(xp.where(nothing, xp.ones_like(total), total), 1.0 / ord)
    return xp.where(nothing, xp.zeros_like(total), root)


def _matrix_norm(xp: Namespace, x: Array, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    if ord == "fro":
        return vector_norm(xp, x, axis=(-2, -1), keepdims=keepdims)
    choose = xp.min if ord in (-1, -2, -math.inf) else xp.max
    if ord in (1, -1, math.inf, -math.inf):
        inner = -2 if abs(ord) == 1 else -1
        norm = choose(xp.sum(xp.abs(x), axis=inner, keepdims=True), axis=(-2, -1), keepdims=True)
    else:
        s = xp.linalg.svdvals(x)
        norm = (xp.sum(s, axis=-1) if ord == "nuc" else choose(s, axis=-1))[..., None, None]
    return norm if keepdims else norm[..., 0, 0]


def _diff(xp: Namespace, x: Array, prepend: Array | None, append: Array | None, *, axis: int = -1, n: int = 1) -> Array:
    ends = [v for v in (prepend, x, append) if v is not None]
    x = xp.concat(ends, axis=axis) if len(ends) > 1 else x
    for _ in range(n):
        x = x[along(axis, x.ndim, slice(1, None))] - x[along(axis, x.ndim, slice(0, max(x.shape[axis] - 1, 0)))]
    return x


REDUCTIONS: dict[str, Rule] = {
    "sum": General(_sum, (0,)),
    "sum_over": General(_sum_over, (0,)),
    "mean": General(_mean, (0,)),
    "max": General(_extreme),
    "min": General(_extreme),
    "prod": Formula(_prod),
    "cumulative_prod": Formula(_cumulative_prod),
    "cumulative_sum": General(_cumulative_sum, (0,)),
    "var": Formula(_var),
    "std": Formula(_std),
    "diff": Formula(_diff, ("prepend", "append")),
    "linalg.vector_norm": Formula(vector_norm),
    "linalg.matrix_norm": Formula(_matrix_norm),
}
