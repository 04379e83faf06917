"""Elementwise functions. At kinks, as docs/autodiff.md says: ties are shared, and |x| has slope 0 at 0."""

from __future__ import annotations

import cmath
import math
from typing import Any

from portnn._typing import Array, Namespace
from portnn.autodiff.rules.common import is_complex, match, not_zero, to_dtype
from portnn.autodiff.rules.forms import Binary, Built, Formula, General, Rule, Unary
from portnn.autodiff.trace import AutodiffArray, is_array, lift, plain

__all__ = ["ELEMENTWISE"]


def _abs(xp: Namespace, y: Array, x: Array) -> Any:
    if is_complex(xp, x):
        return lambda g: g * (x / not_zero(xp, y))
    return lambda g: g * xp.sign(x)


def _pow_base(xp: Namespace, y: Array, a: Any, b: Any) -> Any:
    if not is_array(b):
        return 2.0 * a if b == 2 else xp.zeros_like(a) if b == 0 else b * a ** (b - 1)
    # x**1 has slope 1 at 0, and x**0 none: no power of 0 may become infinite.
    return xp.where(xp.equal(b, 0), xp.zeros_like(y), b * a ** (not_zero(xp, b) - 1.0))


def _pow_exponent(xp: Namespace, y: Array, a: Any) -> Any:
    if is_array(a):
        return xp.where(xp.equal(a, 0), xp.zeros_like(y), y * xp.log(not_zero(xp, a)))
    if isinstance(a, complex):
        return y * (cmath.log(a) if a else 0.0)
    return y * (math.log(a) if a > 0 else 0.0 if a == 0 else math.nan)


def _share(xp: Namespace, wins: Array, a: Any, b: Any) -> Array:
    """1 where an argument is the chosen one, and a half where both are."""
    dtype = a.dtype if is_array(a) else b.dtype
    return xp.where(xp.equal(a, b), 0.5, xp.cast(wins, dtype=dtype))


def _larger(xp: Namespace, a: Any, b: Any) -> Array:
    return _share(xp, xp.greater(a, b), a, b)


def _smaller(xp: Namespace, a: Any, b: Any) -> Array:
    return _share(xp, xp.less(a, b), a, b)


def _clip(xp: Namespace, x: Array, low: Any, high: Any) -> Array:
    if low is not None:
        x = xp.maximum(x, low)
    return x if high is None else xp.minimum(x, high)


def _real(xp: Namespace, y: Array, x: Array) -> Any:
    dtype = x.dtype
    return lambda g: xp.cast(g, dtype=dtype) if g.dtype != dtype else g


def _imag(xp: Namespace, y: Array, x: Array) -> Any:
    dtype = x.dtype
    if not is_complex(xp, x):
        return xp.zeros_like
    return lambda g: xp.cast(g, dtype=dtype) * 1j


def _conj(xp: Namespace, y: Array, x: Array) -> Any:
    return lambda g: xp.conj(g) if is_complex(xp, g) else g


def _where(xp: Namespace, y: Array, condition: Array, a: Any, b: Any) -> Any:
    def part(v: Any, first: bool) -> Any:
        if not is_array(v):
            return None
        shape, dtype = tuple(v.shape), v.dtype

        def pull(g: Array) -> Array:
            own = xp.where(condition, g, 0.0) if first else xp.where(condition, 0.0, g)
            return match(xp, own, shape, dtype)

        return pull

    return None, part(a, True), part(b, False)


def _cast(xp: Namespace, y: Array, x: Array, *, dtype: Any) -> Any:
    own = x.dtype
    return lambda g: to_dtype(xp, g, own)


def _astype(xp: Namespace, x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    if x.dtype == dtype:
        return x
    if xp.float_dtypes[dtype]:
        return xp.cast(x, dtype=dtype)
    return lift(xp.raw.astype(plain(x), dtype), xp.face)


def _asarray(xp: Namespace, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    if type(x) in (list, tuple):
        # Lists that hold traced numbers are stacked.
        first = _first(x)
        x = xp.stack([xp.asarray(v, dtype=dtype or first.dtype, device=first.device) for v in x])
    same = AutodiffArray(x.level, x.value, x.node, x.ns)
    return same if dtype is None else xp.astype(same, dtype)


def _first(x: Any) -> Any:
    """The first traced array within lists."""
    while type(x) is not AutodiffArray:
        x = next(v for v in x if type(v) is AutodiffArray or (type(v) in (list, tuple) and _holds(v)))
    return x


def _holds(x: Any) -> bool:
    return any(type(v) is AutodiffArray or (type(v) in (list, tuple) and _holds(v)) for v in x)


ELEMENTWISE: dict[str, Rule] = {
    "negative": Unary(-1.0),
    "positive": Unary(1.0),
    "square": Unary(lambda x: x * 2.0),
    "reciprocal": Unary(lambda y: -y * y),
    "sqrt": Unary(lambda y: 0.5 / y),
    "exp": Unary(lambda y: y),
    # Not y + 1, of which nothing is left far below 0.
    "expm1": Unary(lambda xp, x: xp.exp(x)),
    "log": Unary(lambda x: 1.0 / x),
    "log1p": Unary(lambda x: 1.0 / (x + 1.0)),
    "log2": Unary(lambda x: 1.0 / (x * math.log(2.0))),
    "log10": Unary(lambda x: 1.0 / (x * math.log(10.0))),
    "sin": Unary(lambda xp, x: xp.cos(x)),
    "cos": Unary(lambda xp, x: -xp.sin(x)),
    "tan": Unary(lambda y: y * y + 1.0),
    "sinh": Unary(lambda xp, x: xp.cosh(x)),
    "cosh": Unary(lambda xp, x: xp.sinh(x)),
    "tanh": Unary(lambda y: 1.0 - y * y),
    # Factors, as nothing is rounded off where x is next to 1; and the square root of each, as the branches of complex
    # numbers are those of the factors.
    "asin": Unary(lambda xp, x: 1.0 / xp.sqrt((1.0 - x) * (x + 1.0))),
    "acos": Unary(lambda xp, x: -1.0 / xp.sqrt((1.0 - x) * (x + 1.0))),
    "atan": Unary(lambda x: 1.0 / (x * x + 1.0)),
    "asinh": Unary(lambda xp, x: 1.0 / xp.sqrt(x * x + 1.0)),
    "acosh": Unary(lambda xp, x: 1.0 / (xp.sqrt(x - 1.0) * xp.sqrt(x + 1.0))),
    "atanh": Unary(lambda x: 1.0 / ((1.0 - x) * (x + 1.0))),
    "add": Binary(1.0, 1.0),
    "subtract": Binary(1.0, -1.0),
    "multiply": Binary(lambda b: b, lambda a: a),
    "divide": Binary(lambda b: 1.0 / b, lambda y, b: -y / b),
    "pow": Binary(_pow_base, _pow_exponent),
    "atan2": Binary(lambda a, b: b / (b * b + a * a), lambda a, b: -a / (b * b + a * a)),
    "hypot": Binary(lambda xp, y, a: a / not_zero(xp, y), lambda xp, y, b: b / not_zero(xp, y)),
    "logaddexp": Binary(lambda xp, y, a: xp.exp(a - y), lambda xp, y, b: xp.exp(b - y)),
    "remainder": Binary(1.0, lambda xp, a, b: -xp.floor(a / b)),
    "copysign": Binary(lambda xp, y, a: xp.sign(y) * xp.sign(a), None),
    "maximum": Binary(_larger, lambda xp, a, b: _larger(xp, b, a)),
    "minimum": Binary(_smaller, lambda xp, a, b: _smaller(xp, b, a)),
    "abs": General(_abs),
    "clip": Formula(_clip, ("min", "max")),
    "real": General(_real, (0,)),
    "imag": General(_imag, (0,)),
    "conj": General(_conj, (0,)),
    "where": General(_where),
    "cast": General(_cast, (0,)),
    "astype": Built(_astype),
    "asarray": Built(_asarray),
}
