"""Differentiate random expressions in every way there is, and compare the results.

    python scripts/fuzz_autodiff.py --count 10000

Each is made of some of the functions of the array API standard, with broadcasting, sums, products and matrices. The
first and the second derivative are found forward, in reverse, by one over the other, and by central differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from common import Parser, add_seed_argument, run

from portnn.autodiff import grad, jvp, linearize, vjp
from portnn.errors import GradientError

#: Exact ways agree to this share of the sizes of the derivatives; differences of values to ten million times it.
TOLERANCE = 1e-12

#: Functions that are smooth everywhere, and stay small.
_ONE: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("sin", lambda xp, a: xp.sin(a)),
    ("tanh", lambda xp, a: xp.tanh(a)),
    ("exp(-a^2)", lambda xp, a: xp.exp(-(a * a))),
    ("atan", lambda xp, a: xp.atan(a)),
    ("log1p(a^2)", lambda xp, a: xp.log1p(xp.square(a))),
    ("sqrt(1 + a^2)", lambda xp, a: xp.sqrt(1.0 + a * a)),
    ("1 / (2 + cos)", lambda xp, a: 1.0 / (2.0 + xp.cos(a))),
    ("-a", lambda xp, a: -a),
    ("asinh", lambda xp, a: xp.asinh(a)),
    ("0.3 a^3", lambda xp, a: 0.3 * xp.tanh(a) ** 3),
    ("a - mean", lambda xp, a: a - xp.mean(a, axis=0, keepdims=True)),
    ("cumulative_sum", lambda xp, a: 0.5 * xp.cumulative_sum(a, axis=1)),
    ("cumulative_prod", lambda xp, a: xp.cumulative_prod(xp.tanh(a), axis=0)),
    ("flip", lambda xp, a: xp.flip(a, axis=1)),
    ("roll", lambda xp, a: xp.roll(a, 1, axis=0)),
    ("softmax", lambda xp, a: xp.exp(xp.tanh(a)) / xp.sum(xp.exp(xp.tanh(a)), axis=-1, keepdims=True)),
    ("sum", lambda xp, a: 0.3 * xp.sum(a, axis=1, keepdims=True) + a),
    ("prod", lambda xp, a: xp.prod(xp.sin(a), axis=0, keepdims=True) * a),
    ("var", lambda xp, a: a + xp.var(a, axis=0)),
    ("a a^T a", lambda xp, a: 0.1 * xp.tanh(a @ a.T) @ a),
    ("first row", lambda xp, a: a + a[:1, :] * a[:, -1:]),
    ("solve", lambda xp, a: xp.linalg.solve(xp.tanh(a @ a.T) * 0.2 + 2.0 * xp.eye(3, dtype=a.dtype), a)),
    ("take", lambda xp, a: xp.take(a, xp.asarray([1, 0, 1]), axis=0)),
)
_TWO: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("a + b", lambda xp, a, b: a + b),
    ("a - b", lambda xp, a, b: a - b),
    ("a b", lambda xp, a, b: a * xp.sin(b)),
    ("a / (1.5 + b^2)", lambda xp, a, b: a / (1.5 + b * b)),
    ("hypot", lambda xp, a, b: xp.hypot(a, 1.0 + b * b)),
    ("logaddexp", lambda xp, a, b: xp.logaddexp(xp.tanh(a), xp.tanh(b))),
    ("atan2", lambda xp, a, b: xp.atan2(a, 1.5 + b * b)),
    ("pow", lambda xp, a, b: (1.2 + xp.tanh(a)) ** xp.tanh(b)),
    ("broadcast", lambda xp, a, b: a * xp.mean(b, axis=0)),
    ("concat", lambda xp, a, b: xp.concat([a, b], axis=1)[:, 2:6]),
    ("a b^T a", lambda xp, a, b: 0.1 * xp.matmul(xp.tanh(a @ b.T), a)),
)


class Expression:
    """A function of two arrays of shape (3, 4), of some random steps; its ``str`` says which."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.steps: list[tuple[str, Callable[..., Any], tuple[int, ...]]] = []
        for i in range(int(rng.integers(3, 12))):
            arguments = 2 if rng.uniform() < 0.5 else 1
            table = _TWO if arguments == 2 else _ONE
            name, function = table[int(rng.integers(len(table)))]
            self.steps.append((name, function, tuple(int(k) for k in rng.integers(max(0, i - 2), i + 2, arguments))))
        self.point = tuple(rng.normal(size=(2, 3, 4)))
        self.direction = tuple(rng.normal(size=(2, 3, 4)))

    def __call__(self, *args: Any) -> Any:
        xp = array_namespace(*args)
        values = list(args)
        for _, function, which in self.steps:
            values.append(function(xp, *[values[k] for k in which]))
        return xp.sum(xp.tanh(values[-1]) + 0.1 * values[-1] * values[-2])

    def __str__(self) -> str:
        return "; ".join(f"{i + 2}: {name} of {which}" for i, (name, _, which) in enumerate(self.steps))


def disagreement(expression: Expression) -> float:
    """The largest relative difference between ways to the first and second derivative along a direction.

    Forward, reverse, forward over reverse, reverse over reverse and forward over forward agree to rounding; central
    differences, of the value and of the gradient, to the square of their step: theirs counts for a ten-millionth.
    """
    point, along, h = expression.point, expression.direction, 1e-5

    def dot(a: Any, b: Any) -> float:
        return float(sum(np.sum(p * q) for p, q in zip(a, b, strict=True)))

    slope = grad(expression, argnums=(0, 1))
    first = float(jvp(expression, point, along)[1])
    gradient, turned = jvp(slope, point, along)
    second = dot(turned, along)
    size = 1.0 + sum(float(np.abs(v).sum()) for v in (*gradient, *turned))

    def forth(*args: Any) -> Any:
        return jvp(expression, args, along)[1]

    exact = [
        dot(gradient, along) - first,
        float(linearize(expression, *point)[1](*along)) - first,
        float(jvp(forth, point, along)[1]) - second,
        dot(vjp(forth, *point)[1](np.asarray(1.0)), along) - second,
        *[float(np.abs(p - q).max()) for p, q in zip(vjp(slope, *point)[1](along), turned, strict=True)],
    ]
    ahead, behind = ([p + s * h * d for p, d in zip(point, along, strict=True)] for s in (1.0, -1.0))
    rough = [
        (float(expression(*ahead)) - float(expression(*behind))) / (2 * h) - first,
        (dot(slope(*ahead), along) - dot(slope(*behind), along)) / (2 * h) - second,
    ]
    return max(abs(v) for v in [*exact, *[1e-7 * v for v in rough]]) / size


def main() -> int:
    parser = Parser(__doc__)
    parser.add_count("--count", default=10_000, help="expressions (default: 10000)")
    add_seed_argument(parser, "of the first expression")
    args = parser.parse_args()
    worst = 0.0
    for seed in range(args.seed, args.seed + args.count):
        expression = Expression(seed)
        apart = disagreement(expression)
        if not apart < TOLERANCE:
            raise GradientError(f"expression {seed} has derivatives that are {apart:.1e} apart: {expression}")
        worst = max(worst, apart)
    print(f"{args.count:,} expressions, whose derivatives are {worst:.1e} apart at most")
    return 0


if __name__ == "__main__":
    run(main)
