"""Functions of the standard, with arguments, for the tests of their derivatives: at least one case for each name."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn.functional import matmul


@dataclass(frozen=True)
class RuleCase:
    """``function(xp, *arrays)``, an array of real numbers; ``make(rng)`` gives the arrays, in float64.

    ``names`` are those of the rules that are tried, as in `portnn.autodiff.rules.RULES`.
    """

    names: tuple[str, ...]
    function: Callable[..., Any]
    make: Callable[[np.random.Generator], tuple[Any, ...]]
    #: Whether compiled code of JAX can do it, and array-api-strict: no shape depends on values.
    static: bool = True
    #: How much worse than others it is conditioned, in float32.
    scale: float = 1.0

    def arguments(self, label: str) -> tuple[Any, ...]:
        return self.make(np.random.default_rng(zlib.crc32(label.encode())))


CASES: dict[str, RuleCase] = {}


def case(label: str, function: Callable[..., Any], make: Any, names: str = "", **options: Any) -> None:
    assert label not in CASES
    chosen = tuple(names.split()) if names else (label.partition(" ")[0],)
    CASES[label] = RuleCase(chosen, function, make, **options)


def within(*shape: int, low: float = 0.2, high: float = 0.9) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: (rng.uniform(low, high, size=shape),)


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: tuple([rng.normal(size=shape) for shape in shapes])


def apart(*shape: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """No two sizes are close, nor any to 0: where extremes, sorting and norms have derivatives."""
    size = math.prod(shape)
    return lambda rng: (((rng.permutation(size) - size // 2 + 0.7) * 0.3).reshape(shape),)


def positive_definite(rng: np.random.Generator) -> tuple[Any, ...]:
    m = rng.normal(size=(2, 3, 3))
    return (m @ np.swapaxes(m, -1, -2) + 3.0 * np.eye(3),)


def regular(*shape: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    return lambda rng: (rng.normal(size=shape) + 2.0 * np.eye(shape[-1]),)


def symmetric(xp: Any, a: Any) -> Any:
    return (a + xp.matrix_transpose(a)) * 0.5


def parts(xp: Any, z: Any) -> Any:
    """Complex numbers as twice as many real ones."""
    return xp.stack([xp.real(z), xp.imag(z)])


def flat(xp: Any, *arrays: Any) -> Any:
    return xp.concat([xp.reshape(a, (math.prod(a.shape),)) for a in arrays])


def indices(xp: Any, like: Any, values: Any) -> Any:
    from array_api_compat import device

    return xp.asarray(values, dtype=xp.int64, device=device(like))


def named(xp: Any, name: str) -> Any:
    for part in name.split("."):
        xp = getattr(xp, part)
    return xp


# ---- elementwise functions
_INSIDE = "acos asin atanh atan"
_ANYWHERE = "abs asinh cos cosh exp expm1 negative positive sin sinh square tan tanh"
_ABOVE_ZERO = "log log10 log1p log2 reciprocal sqrt"
for _name in (*_INSIDE.split(), *_ABOVE_ZERO.split()):
    case(_name, lambda xp, x, n=_name: getattr(xp, n)(x), within(3, 2))
for _name in _ANYWHERE.split():
    case(_name, lambda xp, x, n=_name: getattr(xp, n)(x), apart(3, 2))
case("acosh", lambda xp, x: xp.acosh(x), within(3, 2, low=1.2, high=3.0))
for _name in [
    "add",
    "atan2",
    "copysign",
    "divide",
    "hypot",
    "logaddexp",
    "maximum",
    "minimum",
    "multiply",
    "pow",
    "remainder",
    "subtract",
]:
    case(
        _name,
        lambda xp, a, b, n=_name: getattr(xp, n)(a, b),
        lambda rng: (rng.uniform(1.2, 1.9, size=(3, 2)), rng.uniform(0.3, 0.9, size=2)),
    )
    case(f"{_name} of a number", lambda xp, a, n=_name: getattr(xp, n)(a, 0.7), within(3, 2, low=1.5, high=1.9))
    case(f"{_name} to a number", lambda xp, a, n=_name: getattr(xp, n)(1.7, a), within(3, 2, low=1.8, high=2.9))
case(
    "operators",
    lambda xp, a, b: (a + b) * (a - b) / (b + 2.0) + (-a) ** 2 + abs(b) ** a - (2.0 - a) / b + 3.0**a % 0.7,
    lambda rng: (rng.uniform(1.2, 1.9, size=(3, 2)), rng.uniform(0.3, 0.9, size=2)),
    "add subtract multiply divide pow negative abs remainder",
)
case("clip", lambda xp, x: xp.clip(x, -0.5, 0.8), apart(10))
case("clip from below", lambda xp, x: xp.clip(x, min=-0.5), apart(10))
case(
    "clip by arrays",
    lambda xp, x, low, high: xp.clip(x, low, max=high),
    lambda rng: (*apart(3, 4)(rng), rng.uniform(-0.9, -0.8, size=4), rng.uniform(0.8, 0.89, size=(3, 1))),
)
case("where", lambda xp, a, b: xp.where(a > b, a * b, b), normal((3, 2), (2,)))
case("where and a number", lambda xp, a: xp.where(a > 0, a, 0.5), apart(3, 2))
case(
    "astype",
    lambda xp, a: xp.astype(xp.astype(a, xp.float32) * 2.0, a.dtype),
    lambda rng: (rng.integers(1, 9, size=(3, 2)) * 0.25,),
    "astype cast",
    scale=1e5,
)
# ---- complex numbers inside
for _name in [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "log",
    "log10",
    "log1p",
    "log2",
]:
    case(f"{_name} of complex", lambda xp, a, b, n=_name: parts(xp, getattr(xp, n)(a + 1j * b)), normal((4,), (4,)))
for _name in ["negative", "positive", "reciprocal", "sin", "sinh", "sqrt", "square", "tan", "tanh"]:
    case(f"{_name} of complex", lambda xp, a, b, n=_name: parts(xp, getattr(xp, n)(a + 1j * b)), normal((4,), (4,)))
case("real", lambda xp, a, b: xp.real((a + 1j * b) ** 2), normal((4,), (4,)))
case("imag", lambda xp, a, b: xp.imag((a + 1j * b) ** 2), normal((4,), (4,)))
case("conj", lambda xp, a, b: xp.real((a + 1j * b) * xp.conj(b + 2j * a)), normal((4,), (4,)))
case("abs of complex", lambda xp, a, b: xp.abs(a + 1j * b), normal((4,), (4,)))
case("pow of complex", lambda xp, a, b: parts(xp, (a + 1j * b) ** (b + 2j * a)), normal((4,), (4,)), scale=30.0)
case("matmul of complex", lambda xp, a, b: parts(xp, (a + 1j * b) @ (b - 2j * a)), normal((3, 3), (3, 3)))
# ---- reductions
for _name in ["max", "mean", "min", "prod", "std", "sum", "var"]:
    for _axis in (None, 1, (0, 2), -1):
        for _keep in (False, True):
            case(
                f"{_name} over {_axis}{' kept' if _keep else ''}",
                lambda xp, x, n=_name, axis=_axis, keep=_keep: getattr(xp, n)(x, axis=axis, keepdims=keep),
                apart(2, 3, 2),
                scale=30.0,
            )
case("var corrected", lambda xp, x: xp.var(x, axis=0, correction=1), normal((4, 3)))
case("std corrected", lambda xp, x: xp.std(x, correction=1), normal((4, 3)))
case(
    "prod with zeros",
    lambda xp, x: xp.prod(x, axis=1),
    lambda rng: (np.asarray([[2.0, 0.0, 3.0, 0.0], [1.0, 0.0, 2.0, 4.0], [0.5, 3.0, 2.0, 4.0]]),),
)
for _include in (False, True):
    _words = " with the first" if _include else ""
    case(
        f"cumulative_sum{_words}",
        lambda xp, x, i=_include: xp.cumulative_sum(x, axis=1, include_initial=i),
        normal((2, 5)),
    )
    case(
        f"cumulative_prod{_words}",
        lambda xp, x, i=_include: xp.cumulative_prod(x, axis=1, include_initial=i),
        normal((2, 5)),
    )
case("cumulative_sum of one axis", lambda xp, x: xp.cumulative_sum(x), normal((5,)))
case(
    "cumulative_prod of one axis", lambda xp, x: xp.cumulative_prod(x), lambda rng: (np.asarray([2.0, 0.0, 3.0, 0.0]),)
)
case("diff", lambda xp, x: xp.diff(x, axis=0, n=2), normal((5, 2)))
case("diff with ends", lambda xp, x, a, b: xp.diff(x, prepend=a, append=b), normal((5, 2), (5, 1), (5, 2)))
# ---- shapes
case("reshape", lambda xp, x: xp.reshape(x, (3, 2)), normal((2, 3)))
case("permute_dims", lambda xp, x: xp.permute_dims(x, (2, 0, 1)), normal((2, 3, 4)))
case("squeeze", lambda xp, x: xp.squeeze(x, axis=1), normal((2, 1, 4)))
case("expand_dims", lambda xp, x: xp.expand_dims(x, axis=1), normal((2, 4)))
case("flip", lambda xp, x: xp.flip(x, axis=1), normal((2, 4)))
case("roll", lambda xp, x: xp.roll(x, (1, 2), axis=(0, 1)), normal((2, 4)))
case("roll of all", lambda xp, x: xp.roll(x, 3), normal((2, 4)))
case("moveaxis", lambda xp, x: xp.moveaxis(x, 0, 2), normal((2, 3, 4)))
case("matrix_transpose", lambda xp, x: xp.matrix_transpose(x), normal((2, 3, 4)))
case("matrix_transpose as mT", lambda xp, x: x.mT, normal((2, 3, 4)))
case("permute_dims as T", lambda xp, x: x.T, normal((2, 3)))
case("tril", lambda xp, x: xp.tril(x, k=-1), normal((2, 3, 3)))
case("triu", lambda xp, x: xp.triu(x, k=1), normal((3, 4)))
case("broadcast_to", lambda xp, x: xp.broadcast_to(x, (3, 2, 4)), normal((2, 1)))
case(
    "broadcast_arrays",
    lambda xp, a, b: xp.multiply(*xp.broadcast_arrays(a, b)),
    normal((2, 1), (3,)),
    "broadcast_arrays broadcast_to",
)
case("meshgrid", lambda xp, a, b: xp.multiply(*xp.meshgrid(a, b)), normal((2,), (3,)))
case("meshgrid by ij", lambda xp, a, b: xp.multiply(*xp.meshgrid(a, b, indexing="ij")), normal((2,), (3,)))
case("concat", lambda xp, a, b: xp.concat([a, b, a], axis=1), normal((2, 1), (2, 3)))
case("concat of all", lambda xp, a, b: xp.concat((a, b), axis=None), normal((2, 1), (2, 3)))
case("stack", lambda xp, a, b: xp.stack([a, b], axis=1), normal((2, 3), (2, 3)))
case("unstack", lambda xp, a: xp.multiply(*xp.unstack(a, axis=1)), normal((3, 2)))
case("tile", lambda xp, x: xp.tile(x, (2, 3)), normal((2,)))
case("tile of more axes", lambda xp, x: xp.tile(x, (2,)), normal((3, 2)))
case("repeat", lambda xp, x: xp.repeat(x, 2, axis=1), normal((3, 2)))
case("repeat of all", lambda xp, x: xp.repeat(x, 3), normal((3, 2)))
case(
    "repeat by an array",
    lambda xp, x: xp.repeat(x, indices(xp, x, [1, 0, 2]), axis=0),
    normal((3, 2)),
    static=False,
)
case("take", lambda xp, x: xp.take(x, indices(xp, x, [0, 2, 2, 1]), axis=1), normal((2, 4)))
case(
    "take_along_axis",
    lambda xp, x: xp.take_along_axis(x, indices(xp, x, [[0, 2, 2], [1, 1, 3]]), axis=1),
    normal((2, 4)),
)
case("sort", lambda xp, x: xp.sort(x, axis=0), apart(4, 2))
case("sort from the largest", lambda xp, x: xp.sort(x, descending=True), apart(4, 2))
case("getitem", lambda xp, x: x[1:, ::2] * x[0, 0], normal((3, 4)), "getitem place")
case("getitem with a new axis", lambda xp, x: x[None, ..., 1], normal((3, 4)), "getitem place")
case("getitem by a mask", lambda xp, x: x[x > 0], apart(3, 4), "getitem place", static=False)
case(
    "getitem by integers",
    lambda xp, x: x[indices(xp, x, [0, 0, 2]), indices(xp, x, [1, 1, 3])],
    normal((3, 4)),
    "getitem place scatter_add",
)
# ---- products
for _a, _b in (
    *(((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4))),
    *(((5, 1, 2, 3), (2, 3, 4)), ((3,), (5, 3, 2)), ((5, 2, 3), (3,))),
):
    case(f"matmul {_a} {_b}", lambda xp, a, b: a @ b, normal(_a, _b))
case("product", lambda xp, a, b: matmul(a, b), normal((2, 3), (3, 4)))
case("product of stacks", lambda xp, a, b: matmul(a, b), normal((5, 2, 3), (5, 3, 4)))
case("product of complex", lambda xp, a, b: parts(xp, matmul(a + 1j * b, b - 2j * a)), normal((3, 3), (3, 3)))
case("tensordot", lambda xp, a, b: xp.tensordot(a, b, axes=((0, 2), (1, 0))), normal((2, 3, 4), (4, 2, 5)))
case("tensordot over one axis", lambda xp, a, b: xp.tensordot(a, b, axes=1), normal((2, 3), (3, 2)))
case("tensordot over none", lambda xp, a, b: xp.tensordot(a, b, axes=0), normal((2,), (3,)))
case("vecdot", lambda xp, a, b: xp.vecdot(a, b), normal((2, 3), (3,)))
case("vecdot along another axis", lambda xp, a, b: xp.linalg.vecdot(a, b, axis=-2), normal((3, 2), (3, 2)))
case("linalg.outer", lambda xp, a, b: xp.linalg.outer(a, b), normal((2,), (3,)))
case("linalg.cross", lambda xp, a, b: xp.linalg.cross(a, b), normal((2, 3), (2, 3)))
for _offset in (-1, 0, 2):
    case(
        f"linalg.diagonal {_offset}",
        lambda xp, a, o=_offset: xp.linalg.diagonal(a, offset=o),
        normal((2, 3, 4)),
    )
    case(f"linalg.trace {_offset}", lambda xp, a, o=_offset: xp.linalg.trace(a, offset=o), normal((2, 3, 4)))
for _n in (-2, -1, 0, 1, 2, 5):
    case(
        f"linalg.matrix_power {_n}",
        lambda xp, a, n=_n: xp.linalg.matrix_power(a, n),
        regular(2, 3, 3),
        scale=100.0,
    )
# ---- linear algebra
case("linalg.inv", lambda xp, a: xp.linalg.inv(a), regular(2, 3, 3), scale=100.0)
case(
    "linalg.solve",
    lambda xp, a, b: xp.linalg.solve(a, b),
    lambda rng: (*regular(2, 3, 3)(rng), rng.normal(size=(2, 3, 2))),
    scale=100.0,
)
case(
    "linalg.solve of a vector",
    lambda xp, a, b: xp.linalg.solve(a, b),
    lambda rng: (*regular(3, 3)(rng), rng.normal(size=3)),
    scale=100.0,
)
case("linalg.det", lambda xp, a: xp.linalg.det(a), regular(2, 3, 3), scale=30.0)
case("linalg.slogdet", lambda xp, a: xp.linalg.slogdet(a)[1], regular(2, 3, 3), scale=30.0)
case("linalg.cholesky", lambda xp, a: xp.linalg.cholesky(symmetric(xp, a)), positive_definite, scale=30.0)
case(
    "linalg.cholesky upper",
    lambda xp, a: xp.linalg.cholesky(symmetric(xp, a), upper=True),
    positive_definite,
    scale=30.0,
)
case("linalg.eigvalsh", lambda xp, a: xp.linalg.eigvalsh(symmetric(xp, a)), normal((2, 3, 3)), scale=100.0)


def _eigh(xp: Any, a: Any) -> Any:
    w, v = xp.linalg.eigh(symmetric(xp, a))
    return flat(xp, xp.abs(v) * w[..., None, :], w)


def _svd(xp: Any, a: Any) -> Any:
    u, s, vh = xp.linalg.svd(a, full_matrices=False)
    return flat(xp, xp.abs(u), s, xp.abs(vh) * s[..., :, None])


case("linalg.eigh", _eigh, normal((2, 3, 3)), scale=300.0)
for _shape in ((3, 3), (4, 2), (2, 4)):
    case(f"linalg.svd {_shape}", _svd, normal(_shape), scale=300.0)
    case(f"linalg.svdvals {_shape}", lambda xp, a: xp.linalg.svdvals(a), normal(_shape), scale=100.0)
    case(f"linalg.qr {_shape}", lambda xp, a: flat(xp, *xp.linalg.qr(a)), normal(_shape), scale=300.0)
    case(f"linalg.qr, r of {_shape}", lambda xp, a: xp.linalg.qr(a)[1], normal(_shape), "linalg.qr", scale=300.0)
    case(f"linalg.qr, q of {_shape}", lambda xp, a: xp.linalg.qr(a)[0], normal(_shape), "linalg.qr", scale=300.0)
    case(f"linalg.pinv {_shape}", lambda xp, a: xp.linalg.pinv(a), normal(_shape), scale=1000.0)
for _order in (1, 2, 3, math.inf, -math.inf, -1, 2.5):
    case(
        f"linalg.vector_norm {_order}",
        lambda xp, a, o=_order: xp.linalg.vector_norm(a, axis=1, ord=o),
        apart(2, 4),
        scale=30.0,
    )
case("linalg.vector_norm of all", lambda xp, a: xp.linalg.vector_norm(a, keepdims=True), normal((2, 3)))
for _order in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
    case(
        f"linalg.matrix_norm {_order}",
        lambda xp, a, o=_order: xp.linalg.matrix_norm(a, ord=o),
        normal((2, 3, 4)),
        scale=100.0,
    )
case("linalg.matrix_norm kept", lambda xp, a: xp.linalg.matrix_norm(a, keepdims=True), normal((2, 3, 4)))
_square = normal((3, 3), (3, 3))
case("linalg.inv of complex", lambda xp, a, b: parts(xp, xp.linalg.inv(a + 1j * b)), _square, scale=100.0)
case("linalg.det of complex", lambda xp, a, b: parts(xp, xp.linalg.det(a + 1j * b)), _square, scale=30.0)
case(
    "linalg.solve of complex",
    lambda xp, a, b: parts(xp, xp.linalg.solve(a + 1j * b, b - 1j * a)),
    _square,
    scale=100.0,
)


def _hermitian(xp: Any, a: Any, b: Any) -> Any:
    z = a + 1j * b
    return (z + xp.conj(xp.matrix_transpose(z))) * 0.5


def _sign_and_log(xp: Any, a: Any, b: Any) -> Any:
    sign, log = xp.linalg.slogdet(a + 1j * b)
    return xp.real(sign) + 2.0 * xp.imag(sign) + log


def _complex_eigh(xp: Any, a: Any, b: Any) -> Any:
    w, v = xp.linalg.eigh(_hermitian(xp, a, b))
    return xp.abs(v) * w


def _complex_svd(xp: Any, a: Any, b: Any) -> Any:
    u, s, vh = xp.linalg.svd(a + 1j * b, full_matrices=False)
    return flat(xp, xp.abs(u) * s, xp.abs(vh), parts(xp, (u * (s * s)) @ vh))


def _complex_cholesky(xp: Any, a: Any, b: Any) -> Any:
    from array_api_compat import device

    eye = xp.eye(3, dtype=a.dtype, device=device(a))
    return parts(xp, xp.linalg.cholesky(_hermitian(xp, a, b) + 9.0 * eye))


case("linalg.slogdet of complex", _sign_and_log, _square, scale=100.0)
case("linalg.eigh of complex", _complex_eigh, _square, scale=300.0)
case("linalg.cholesky of complex", _complex_cholesky, _square, scale=30.0)
_tall = normal((3, 2), (3, 2))
case("linalg.svd of complex", _complex_svd, _tall, scale=300.0)
case(
    "linalg.qr of complex",
    lambda xp, a, b: flat(xp, *[parts(xp, z) for z in xp.linalg.qr(a + 1j * b)]),
    _tall,
    scale=300.0,
)
case("linalg.pinv of complex", lambda xp, a, b: parts(xp, xp.linalg.pinv(a + 1j * b)), _tall, scale=1000.0)
case("linalg.vector_norm of complex", lambda xp, a, b: xp.linalg.vector_norm(a + 1j * b), _tall)
# ---- Fourier transforms
for _name in ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]:
    for _n, _norm in ((None, "backward"), (3, "ortho"), (8, "forward"), (6, "backward"), (None, "forward")):

        def _transform(xp: Any, *arrays: Any, name: str = _name, n: Any = _n, norm: str = _norm) -> Any:
            x = arrays[0] if len(arrays) == 1 else arrays[0] + 1j * arrays[1]
            y = named(xp, f"fft.{name}")(x, n=n, axis=1, norm=norm)
            return y if name in ("irfft", "hfft") else parts(xp, y)

        case(
            f"fft.{_name} {_n} {_norm}",
            _transform,
            normal((2, 5)) if _name in ("rfft", "ihfft") else normal((2, 5), (2, 5)),
        )
for _name in ["fftn", "ifftn", "rfftn", "irfftn"]:
    for _options in ({}, {"axes": (0, 1)}, {"s": (4, 2), "axes": (2, 0)}):

        def _transforms(xp: Any, *arrays: Any, name: str = _name, options: Any = _options) -> Any:
            x = arrays[0] if len(arrays) == 1 else arrays[0] + 1j * arrays[1]
            y = named(xp, f"fft.{name}")(x, **options)
            return y if name == "irfftn" else parts(xp, y)

        case(
            f"fft.{_name} {_options}",
            _transforms,
            normal((2, 3, 4)) if _name == "rfftn" else normal((2, 3, 4), (2, 3, 4)),
        )
case("fft.fftshift", lambda xp, x: xp.fft.fftshift(x, axes=1) * x, normal((2, 5)))
case("fft.ifftshift", lambda xp, x: xp.fft.ifftshift(x) * x, normal((2, 5)))


# ---- assignment; torch's own derivative knows it, the standard leaves it to arrays that can be written to
def _assign(xp: Any, x: Any, v: Any) -> Any:
    y = x * 2.0
    y[1, ...] = v
    y[0, 0] = 3.0
    return y * x


def _assign_to_zeros(xp: Any, x: Any, v: Any) -> Any:
    from array_api_compat import device

    y = xp.zeros((3,), dtype=x.dtype, device=device(x))
    y[1:] = v
    return y * x


ASSIGNMENTS = {
    "setitem": RuleCase(("setitem",), _assign, normal((3, 4), (4,))),
    "setitem of zeros": RuleCase(("setitem",), _assign_to_zeros, normal((3,), (2,))),
}
