"""A function of trees of arrays, traced at a point: what all transformations are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from array_api_compat import is_array_api_obj

from portnn import tree
from portnn._typing import Array, Namespace, Tree
from portnn.autodiff.namespace import namespace_of
from portnn.autodiff.passes import reverse
from portnn.autodiff.trace import AutodiffArray, Level, Node, has_traced, is_array, lift, strip
from portnn.backend import backend_class_of
from portnn.errors import ShapeError, TraceError

__all__ = [
    "TracedFunction",
    "at_others",
    "check_like",
    "check_one_number",
    "checked",
    "context_of",
    "places_of",
    "results_of",
]


class TracedFunction:
    """A function of trees, traced at a point.

    Attributes
    ----------
    y : tree
        The result.
    aux : object
        What else the function gave.
    level : Level
    roots : list of Node
        Of the arguments' leaves.
    ends : list of Node or None
        Of the result's leaves.
    """

    def __init__(
        self, function: Callable[..., Any], args: tuple[Tree, ...], has_aux: bool = False, keep: bool = False
    ) -> None:
        leaves = tree.leaves(args)
        ns = checked(leaves)
        self.aux: Any = None

        def of_leaves(*given: Any) -> list[Any]:
            made = function(*tree.rebuild(args, given))
            if has_aux:
                made, self.aux = _pair(made)
            self._like = made
            return results_of(made)

        self.level = Level(keep=keep)
        self._args, self._leaves, self._ns, self._nested = args, leaves, ns, has_traced(leaves)
        with context_of(leaves):
            results, self._pull, self.roots, self.ends = reverse(of_leaves, leaves, ns, self.level)
        self._like = tree.map(lambda _: None, self._like)
        self.y: Tree = tree.rebuild(self._like, results)
        if has_aux:
            self.aux = tree.map(
                lambda v: lift(strip(v, self.level), ns) if self._nested else strip(v, self.level), self.aux
            )

    def pull(self, dy: Tree, parts: dict[tuple[Node, int], Any] | None = None) -> tuple[Tree, ...]:
        """The gradients of all arguments; see `portnn.autodiff.passes.way_back` for ``parts``."""
        with context_of(self._leaves):
            return self.pull_within(dy, parts)

    def pull_within(self, dy: Tree, parts: dict[tuple[Node, int], Any] | None = None) -> tuple[Tree, ...]:
        """The same for those who have entered `context_of` the arguments, once for many calls."""
        found = self._pull(tree.leaves(dy), parts)
        gradients = [self._finished(a, g) for a, g in zip(self._leaves, found, strict=True)]
        return tree.rebuild(self._args, gradients)  # type: ignore[no-any-return]

    def _finished(self, a: Array, found: tuple[Any, bool] | None) -> Array:
        """An array of its own, neither a view nor shared, of the type of the argument."""
        if found is None:
            return self._ns.inner.zeros_like(a)
        g, lent = found
        if type(g) is AutodiffArray or (not lent and type(g) is type(a) and g.dtype == a.dtype):
            return g
        return self._ns.raw.asarray(g, dtype=a.dtype, copy=True)


def checked(leaves: Sequence[Any]) -> Namespace:
    """The namespace of what is to be differentiated."""
    if not leaves:
        raise TraceError("there is no array to differentiate")
    for a in leaves:
        if not is_array(a):
            raise TraceError(
                "a derivative is with respect to arrays, or to dicts and tuples of them, "
                f"not to a {type(a).__name__}: give xp.asarray(...)"
            )
    ns = namespace_of(leaves[0])
    for a in leaves:
        if not ns.float_dtypes[a.dtype]:
            raise TraceError(
                f"a derivative is with respect to floating-point numbers, not to {a.dtype}: "
                "leave the argument out with argnums, or bind it with functools.partial"
            )
    return ns


def results_of(made: Any) -> list[Any]:
    """The arrays that a function gave."""
    leaves = tree.leaves(made)
    for y in leaves:
        _refuse_kept(y)
        if not is_array(y):
            raise TraceError(
                "a function that is differentiated gives an array, or dicts and tuples of them, "
                f"not a {type(y).__name__}; where there is more to give, say has_aux=True"
            )
    return leaves


def _refuse_kept(y: Any) -> None:
    """Raise TraceError for an array of a function that has returned: there is no way back to it any more."""
    while type(y) is AutodiffArray:
        if y.level.ended:
            raise TraceError(
                "an array that was differentiated in an earlier call was kept, and is used in this one: "
                "return it from that function, or keep stop_gradient(x)"
            )
        y = y.value


def _pair(made: Any) -> tuple[Any, Any]:
    if not isinstance(made, tuple) or len(made) != 2:
        raise TraceError(f"with has_aux=True a function gives a pair, (y, aux), not a {type(made).__name__}")
    return made


def context_of(leaves: Sequence[Any]) -> AbstractContextManager[Any]:
    """That of the backend: infinity and NaN show in the results, without warnings. Outer levels have entered it."""
    if has_traced(leaves):
        return nullcontext()
    known = backend_class_of(type(leaves[0]))
    return nullcontext() if known is None else known.from_array(leaves[0]).context()


def check_like(expected: Tree, given: Tree, what: str) -> None:
    """Raise ShapeError unless a tree has the structure and the shapes of another one."""

    def check(a: Any, b: Any) -> None:
        shape = getattr(b, "shape", None)
        if shape is None or tuple(shape) != tuple(a.shape):
            found = f"a {type(b).__name__}" if shape is None else f"of shape {tuple(shape)}"
            raise ShapeError(f"{what}, {tuple(a.shape)}, not {found}")

    tree.map(check, expected, given)


def places_of(argnums: Sequence[int], count: int) -> tuple[int, ...]:
    """The positions of arguments that are named, of so many, counted from the first."""
    for i in argnums:
        if not -count <= i < count:
            raise TraceError(f"argnums names argument {i}; the function is called with {count}, by position")
    return tuple([i % count for i in argnums])


def at_others(
    function: Callable[..., Any], places: Sequence[int], args: Sequence[Any], kwargs: dict[str, Any]
) -> Callable[..., Any]:
    """The function of the chosen arguments; arrays among the others are constants of the same namespace."""
    leaves = tree.leaves(args[places[0]])
    if not leaves or not is_array(leaves[0]):
        checked(leaves)
    ns = namespace_of(leaves[0])

    def fixed(v: Any) -> Any:
        return lift(v, ns) if is_array_api_obj(v) else v

    rest = [a if i in places else tree.map(fixed, a) for i, a in enumerate(args)]
    named = {name: tree.map(fixed, value) for name, value in kwargs.items()}

    def of_chosen(*chosen: Any) -> Any:
        given = list(rest)
        for i, a in zip(places, chosen, strict=True):
            given[i] = a
        return function(*given, **named)

    return of_chosen


def check_one_number(y: Any, what: str, advice: str) -> None:
    """Raise ShapeError unless a value is an array of one element; what there is of one number, and how to go on."""
    if not is_array(y) or math.prod(y.shape) != 1:
        has = f"shape {tuple(y.shape)}" if is_array(y) else f"the type {type(y).__name__}"
        raise ShapeError(f"{what} is that of one number; the value has {has}: {advice}")
