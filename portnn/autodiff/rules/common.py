"""What the rules of several families share."""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import device as device_of

from portnn._typing import Array, DType, Namespace, Shape

__all__ = [
    "adjoint",
    "along",
    "as_complex",
    "axes_of",
    "conj",
    "count_of",
    "eye_like",
    "is_complex",
    "match",
    "not_zero",
    "safe_sqrt",
    "size_of",
    "squared_size",
    "to_dtype",
    "with_axes",
]


def is_complex(xp: Namespace, x: Array) -> bool:
    """Whether an array holds complex numbers."""
    return xp.complex_dtypes[x.dtype]  # type: ignore[no-any-return]


def conj(xp: Namespace, d: Any) -> Any:
    """The complex conjugate of an array or a Python number; real ones stay what they are."""
    if isinstance(d, complex | float | int):
        return d.conjugate()
    return xp.conj(d) if xp.complex_dtypes[d.dtype] else d


def adjoint(xp: Namespace, a: Array) -> Array:
    """The conjugate transposes of the matrices along the last two axes."""
    return conj(xp, xp.matrix_transpose(a))


def to_dtype(xp: Namespace, g: Array, dtype: DType) -> Array:
    """A gradient in the dtype of what it belongs to; a real operand has a real one."""
    if g.dtype == dtype:
        return g
    if xp.complex_dtypes[g.dtype] and not xp.complex_dtypes[dtype]:
        g = xp.real(g)
    return xp.cast(g, dtype=dtype) if g.dtype != dtype else g


def match(xp: Namespace, g: Array, shape: Shape, dtype: DType) -> Array:
    """The gradient of an operand that was broadcast or promoted."""
    if g.shape != shape:
        lead = g.ndim - len(shape)
        stretched = [i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1]
        g = xp.sum(g, axis=(*range(lead), *stretched))
        if g.shape != shape:
            g = xp.reshape(g, tuple(shape))
    return to_dtype(xp, g, dtype)


def not_zero(xp: Namespace, v: Array) -> Array:
    """The same, with ones for zeros: for what is not to divide by them."""
    return xp.where(xp.equal(v, 0), xp.ones_like(v), v)


def safe_sqrt(xp: Namespace, v: Array) -> Array:
    """The square root, whose derivative at 0 is taken as 0, and not as infinity."""
    return xp.where(xp.equal(v, 0), xp.zeros_like(v), xp.sqrt(not_zero(xp, v)))


def squared_size(xp: Namespace, x: Array) -> Array:
    """``|x|^2``."""
    return xp.square(xp.real(x)) + xp.square(xp.imag(x)) if is_complex(xp, x) else x * x


def as_complex(xp: Namespace, x: Array) -> Array:
    """A real array as a complex one of the same precision."""
    return x if is_complex(xp, x) else xp.cast(x, dtype=xp.raw.result_type(x.dtype, xp.raw.complex64))


def size_of(x: Array) -> int:
    """The number of elements."""
    return math.prod(x.shape)


def axes_of(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes that are meant, counted from the first."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def count_of(shape: Shape, axis: int | tuple[int, ...] | None) -> int:
    """How many elements lie along some axes."""
    return math.prod([shape[a] for a in axes_of(axis, len(shape))])


def with_axes(xp: Namespace, v: Array, shape: Shape, axis: int | tuple[int, ...] | None, keepdims: bool) -> Array:
    """What a reduction of an array of this shape gave, with the axes that it lacks."""
    if keepdims:
        return v
    gone = axes_of(axis, len(shape))
    return xp.reshape(v, tuple([1 if i in gone else n for i, n in enumerate(shape)]))


def along(axis: int, ndim: int, part: Any) -> tuple[Any, ...]:
    """A key that takes a part of one axis, and all of the others."""
    return (*(slice(None),) * (axis % ndim), part, ...)


def eye_like(xp: Namespace, n: int, like: Array) -> Array:
    """The identity matrix, of the dtype and on the device of another array."""
    return xp.eye(n, dtype=like.dtype, device=device_of(like))
