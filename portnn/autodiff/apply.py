"""How a rule is applied: a function of the library becomes one of traced arrays.

Elementwise rules are local derivatives, which serve both directions. Linear functions apply themselves to tangents. All
other rules know the way back alone; it is linear in the gradient, so its own way back is the way forth.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from portnn._typing import Array, DType, Namespace, Shape
from portnn.autodiff.passes import reverse
from portnn.autodiff.rules.common import conj, match
from portnn.autodiff.rules.forms import Binary, Formula, General, Unary
from portnn.autodiff.trace import (
    CONSTANT,
    AutodiffArray,
    Info,
    Level,
    Node,
    has_traced,
    lift,
    like,
    plain,
    refuse,
    traced_among,
)

__all__ = ["binary", "built", "general", "pushed", "recorded", "unary", "undifferentiated"]

#: The positions of what a local derivative may ask for, by the names of its parameters.
_POSITIONS = {"xp": 0, "y": 1, "x": 2, "a": 2, "b": 3}


@functools.cache
def _needs(derivative: Any) -> tuple[int, ...] | None:
    """What a local derivative is computed from, which is all that is kept for it; None if it is a number."""
    if not callable(derivative):
        return None
    return tuple([_POSITIONS[name] for name in inspect.signature(derivative).parameters])


def unary(xp: Namespace, name: str, raw: Callable[..., Any], rule: Unary, wrap: bool) -> Callable[..., Any]:
    """An elementwise function of one array; ``wrap`` says whether results of plain arrays are made constants."""
    d: Any = rule.derivative
    needs = _needs(d)

    def function(x: Any, /) -> Any:
        if type(x) is not AutodiffArray:
            return lift(raw(x), xp.face) if wrap else raw(x)
        level, value, node, ns = x.level, x.value, x.node, x.ns
        y = function(value) if type(value) is AutodiffArray else raw(value)
        if node is None:
            return AutodiffArray(level, y, None, ns)
        if needs is None:
            if level.forward:
                return AutodiffArray(level, y, node * d, ns)
            pull: Any = lambda g: (g * d,)  # noqa: E731
        else:
            kept = [xp if i == 0 else y if i == 1 else value for i in needs]
            if level.forward:
                return AutodiffArray(level, y, xp.multiply(node, d(*kept)), ns)
            conjugate = xp.complex_dtypes[y.dtype]
            pull = lambda g: (g * (conj(xp, d(*kept)) if conjugate else d(*kept)),)  # noqa: E731
        return AutodiffArray(level, y, Node((node,), pull, name, False, Info((value,), y) if level.keep else None), ns)

    return function


def binary(xp: Namespace, name: str, raw: Callable[..., Any], rule: Binary, wrap: bool) -> Callable[..., Any]:
    """An elementwise function of two arrays, which broadcast; one of them may be a Python number."""
    first, second = rule.first, rule.second
    first_needs, second_needs = _needs(first), _needs(second)
    loan = 1.0 in (first, second)

    def function(a: Any, b: Any, /) -> Any:
        traced_a, traced_b = type(a) is AutodiffArray, type(b) is AutodiffArray
        if not (traced_a or traced_b):
            return lift(raw(a, b), xp.face) if wrap else raw(a, b)
        top = a if traced_a and (not traced_b or a.level.number >= b.level.number) else b
        level, ns = top.level, top.ns
        node_a = node_b = None
        if traced_a and (a.level is level or a.level is CONSTANT):
            node_a, a = a.node, a.value
        if traced_b and (b.level is level or b.level is CONSTANT):
            node_b, b = b.node, b.value
        if type(a) is AutodiffArray or type(b) is AutodiffArray:
            # The operators of array-api-strict refuse a traced array on their right.
            a, b = lift(a, ns), lift(b, ns)
            y = function(a, b)
        else:
            y = raw(a, b)
        # (node, derivative, what it is computed from, shape and dtype of the operand)
        terms: list[tuple[Any, Any, list[Any] | None, Shape, DType]] = []
        if node_a is not None and first is not None:
            kept = None if first_needs is None else [(xp, y, a, b)[i] for i in first_needs]
            terms.append((node_a, first, kept, a.shape, a.dtype))
        if node_b is not None and second is not None:
            kept = None if second_needs is None else [(xp, y, a, b)[i] for i in second_needs]
            terms.append((node_b, second, kept, b.shape, b.dtype))
        if not terms:
            return lift(y, ns)
        if level.forward:
            return AutodiffArray(level, y, _tangent(xp, y, terms), ns)
        parents, pulls = [term[0] for term in terms], [term[1:] for term in terms]
        conjugate = xp.complex_dtypes[y.dtype]
        info = Info((a, b), y) if level.keep else None
        node = Node(parents, lambda g: _pulled(xp, g, pulls, conjugate), name, loan, info)
        return AutodiffArray(level, y, node, ns)

    return function


def _pulled(
    xp: Namespace, g: Array, pulls: Sequence[tuple[Any, list[Any] | None, Shape, DType]], conjugate: bool
) -> list[Any]:
    parts = []
    for d, kept, shape, dtype in pulls:
        part = (g if d == 1.0 else g * d) if kept is None else g * (conj(xp, d(*kept)) if conjugate else d(*kept))
        parts.append(part if part.shape == shape and part.dtype == dtype else match(xp, part, shape, dtype))
    return parts


def _tangent(xp: Namespace, y: Array, terms: Sequence[tuple[Any, Any, list[Any] | None, Shape, DType]]) -> Array:
    # No operators: where what was kept is traced by lower levels, and a tangent is not, array-api-strict refuses them.
    moved = [xp.multiply(t, d(*kept)) if kept is not None else t if d == 1.0 else t * d for t, d, kept, _, _ in terms]
    total = moved[0] if len(moved) == 1 else xp.add(moved[0], moved[1])
    if total.shape != y.shape:
        total = xp.broadcast_to(total, tuple(y.shape))
    return total if total.dtype == y.dtype else xp.cast(total, dtype=y.dtype)


def general(
    xp: Namespace, name: str, raw: Callable[..., Any], rule: General | Formula, wrap: bool
) -> Callable[..., Any]:
    """Any other function: its arrays are its positional arguments, or what the list holds that is the first one."""
    linear = rule.linear if isinstance(rule, General) else None
    keywords = rule.keywords if isinstance(rule, Formula) else ()
    if keywords:
        raw = _by_position(raw, keywords)

    def function(*args: Any, **kwargs: Any) -> Any:
        if keywords:
            args = (*args, *[kwargs.pop(name, None) for name in keywords[len(args) - 1 :]])
        many = type(args[0]) in (list, tuple)
        if many:
            flat = args[0]
            kwargs = {**kwargs, "axis": args[1]} if len(args) > 1 else kwargs
        else:
            flat = args
        top = None
        for a in flat:
            if type(a) is AutodiffArray and (top is None or a.level.number > top.level.number):
                top = a
        if top is None:
            return lift(raw(*args, **kwargs), xp.face) if wrap else raw(*args, **kwargs)
        level, ns = top.level, top.ns
        values, which = [], []
        for i, a in enumerate(flat):
            if type(a) is AutodiffArray and (a.level is level or a.level is CONSTANT):
                if a.level is level:
                    which.append(i)
                a = a.value
            values.append(a)
        inside = raw
        if has_traced(values):
            values, inside = [lift(v, ns) for v in values], function
        y = inside(values, **kwargs) if many else inside(*values, **kwargs)
        if level is CONSTANT:
            return lift(y, ns)
        nodes = [flat[i].node for i in which]
        if any([node is None for node in nodes]):
            which, nodes = [i for i in which if flat[i].node is not None], [n for n in nodes if n is not None]
            if not nodes:
                return lift(y, ns)
        if level.forward and linear is not None:
            moved = [
                flat[i].node if i in which else xp.zeros_like(v) if many or i in linear else v
                for i, v in enumerate(values)
            ]
            inside = function if has_traced(moved) else raw
            return AutodiffArray(level, y, inside(moved, **kwargs) if many else inside(*moved, **kwargs), ns)
        if isinstance(rule, General):
            pull = _of_arguments(rule.pulls(xp, y, *values, **kwargs), which)
        else:
            pull = _through(xp, ns, rule.function, values, which, kwargs)
        if level.forward:
            return pushed(xp, level, y, pull, nodes, ns)
        return recorded(level, name, y, nodes, pull, ns, values, linear is not None)

    return function


def _of_arguments(pulls: Any, which: Sequence[int]) -> Callable[[Any], list[Any]]:
    if not isinstance(pulls, tuple | list):
        return lambda g: [pulls(g)]
    chosen = [pulls[i] for i in which]
    return lambda g: [pull(g) for pull in chosen]


def _by_position(raw: Callable[..., Any], keywords: Sequence[str]) -> Callable[..., Any]:
    """The function with some of its keywords, where they are not None, as positional arguments behind the first."""

    def function(x: Any, *rest: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in zip(keywords, rest, strict=True) if value is not None}
        return raw(x, **given, **kwargs)

    return function


def _through(
    xp: Namespace,
    ns: Namespace,
    formula: Callable[..., Any],
    values: Sequence[Any],
    which: Sequence[int],
    kwargs: dict[str, Any],
) -> Callable[[Any], list[Any]]:
    """The way back of a formula in functions of the namespace; the value stays the library's own."""

    def inner(*arrays: Any) -> list[Any]:
        args = list(values)
        for i, a in zip(which, arrays, strict=True):
            args[i] = a
        return [formula(xp, *args, **kwargs)]

    def pull(g: Any) -> list[Any]:
        found = reverse(inner, [values[i] for i in which], ns)[1]([g])
        return [None if pair is None else pair[0] for pair in found]

    return pull


def recorded(
    level: Level,
    name: str,
    y: Any,
    parents: Sequence[Node],
    pull: Callable[[Any], Sequence[Any]],
    ns: Namespace,
    values: Sequence[Any] = (),
    loan: bool = False,
) -> Any:
    """The result with its node; of several results each has a node of its own behind that one."""
    node = Node(parents, pull, name, loan, Info(values, y) if level.keep else None)
    if not isinstance(y, tuple | list):
        return AutodiffArray(level, y, node, ns)
    count = len(y)

    def one(i: int, value: Any) -> AutodiffArray:
        def to_all(g: Any) -> tuple[Any]:
            return (tuple([g if j == i else None for j in range(count)]),)

        info = Info((value,), value) if level.keep else None
        return AutodiffArray(level, value, Node((node,), to_all, f"{name}[{i}]", True, info), ns)

    return like(y, [one(i, value) for i, value in enumerate(y)])


def pushed(
    xp: Namespace,
    level: Level,
    y: Any,
    pull: Callable[[Any], Sequence[Any]],
    tangents: Sequence[Any],
    ns: Namespace,
) -> Any:
    """The result with its tangent: a way back is linear, and its own way back is the way forth."""
    several = isinstance(y, tuple | list)
    zeros = [xp.zeros_like(v) for v in (y if several else (y,))]
    back = reverse(lambda *g: pull(g if several else g[0]), zeros, ns)[1]
    moved = [z if pair is None else pair[0] for z, pair in zip(zeros, back(tangents), strict=True)]
    if not several:
        return AutodiffArray(level, y, moved[0], ns)
    return like(y, [AutodiffArray(level, v, t, ns) for v, t in zip(y, moved, strict=True)])


def undifferentiated(xp: Namespace, name: str, raw: Callable[..., Any], known: bool, wrap: bool) -> Callable[..., Any]:
    """A function whose results have no derivative, and are constants; where it is not ``known``, it is refused."""

    def function(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        if not known and any(t.level is not CONSTANT for t in traced_among(given)):
            refuse(f"{xp.raw.__name__}.{name}() has no rule for its derivative")
        y = raw(*[plain(a) for a in args], **{key: plain(value) for key, value in kwargs.items()})
        return lift(y, xp.face) if wrap or has_traced(given) else y

    return function


def built(xp: Namespace, raw: Callable[..., Any], made: Callable[..., Any], wrap: bool) -> Callable[..., Any]:
    """A function that is made of others of the namespace where something is traced."""

    def function(*args: Any, **kwargs: Any) -> Any:
        if has_traced([*args, *kwargs.values()]):
            return made(xp, *args, **kwargs)
        return lift(raw(*args, **kwargs), xp.face) if wrap else raw(*args, **kwargs)

    return function
