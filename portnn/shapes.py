"""The shapes of a function's arrays, stated once as data, and the check that holds callers to them.

``"n k, k m, m -> n m"`` says: three arrays, the last axis of the first as long as the first axis of the second, and so
on. A name stands for one length, wherever it is; a number for itself; ``...`` for any axes, none among them, the same
wherever it stands; ``*name`` likewise, for axes apart from those; ``a | b`` for either shape. An empty place is the
shape of a 0-d array. What is left of the arrow is checked at every call; what is right of it is what the function
makes, which pullbacks hold their ``dy`` to.

Nothing broadcasts by accident, then, and no compiled twin is handed an array that is shorter than what it reads.
Shapes are known before anything is computed: under compilation the check costs nothing, and else about a microsecond.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from array_api_compat import array_namespace

from portnn._typing import Array, Backward, Shape
from portnn.errors import KernelError, ShapeError

__all__ = ["Shapes", "by_position", "checked_pullback", "shaped", "with_shapes"]

F = TypeVar("F", bound=Callable[..., Any])

#: The axes of one array: names, numbers and at most one of ``...`` and ``*name``.
_Pattern: TypeAlias = tuple[str, ...]

#: Lengths by name; of ``...`` and ``*name``, several.
_Lengths: TypeAlias = dict[str, int | Shape]

_shape_of = attrgetter("shape")

#: So many combinations of shapes are remembered as right for each function; a program that has more of them pays anew.
_REMEMBERED = 4096


class Shapes:
    """What shapes the first arrays of a function have, such as ``Shapes("n k, k m, m -> n m", affine)``.

    Parameters
    ----------
    text : str
        See the module.
    function : callable
        Its first parameters are the arrays, in the order of the text; its name stands in the errors.

    Attributes
    ----------
    names : tuple of str
        The parameters that are arrays.
    take_all : bool
        Whether there is one array, of any shape.
    """

    def __init__(self, text: str, function: Callable[..., Any]) -> None:
        self.text, self.function = text, function.__name__
        given, arrow, made = text.partition("->")
        self._inputs = [_alternatives(one) for one in given.split(",")]
        self._output = _alternatives(made)
        self.names = tuple(inspect.signature(function).parameters)[: len(self._inputs)]
        if not arrow or len(self.names) < len(self._inputs):
            raise KernelError(f"{text!r} does not say what shapes the arrays of {self.function} have")
        #: Whether every array will do.
        self.take_all = self._inputs == [[("...",)]]
        self._right: set[tuple[Shape, ...]] = set()

    def __str__(self) -> str:
        """For people: ``(n, k), (k, m), (m,) -> (n, m)``."""
        return f"{', '.join(map(_written, self._inputs))} -> {_written(self._output)}"

    def check(self, arrays: Sequence[Array]) -> None:
        """Raise ShapeError unless the arrays have such shapes; called with as many as there are names."""
        try:
            shapes = tuple(map(_shape_of, arrays))
        except AttributeError:
            odd = next(i for i, a in enumerate(arrays) if not hasattr(a, "shape"))
            raise ShapeError(
                f"{self.function} takes arrays; its {self.names[odd]} is of type {type(arrays[odd]).__name__}"
            ) from None
        if shapes not in self._right:
            self.lengths(shapes)
            if len(self._right) >= _REMEMBERED:
                self._right.clear()
            self._right.add(shapes)

    def lengths(self, shapes: Sequence[Shape]) -> _Lengths:
        """What each name stands for in these shapes; ShapeError where they do not fit."""
        why = ""
        possible = [
            [pattern for pattern in patterns if _counts_right(pattern, shape)]
            for patterns, shape in zip(self._inputs, shapes, strict=True)
        ]
        for name, patterns, shape in zip(self.names, possible, shapes, strict=True):
            if not patterns:
                why = f"{name} has {len(shape)} {'axis' if len(shape) == 1 else 'axes'}"
        for chosen in itertools.product(*possible):
            found: _Lengths = {}
            problems = (_match(pattern, shape, found) for pattern, shape in zip(chosen, shapes, strict=True))
            why = next((problem for problem in problems if problem), "")
            if not why:
                return found
        takes = ", ".join(f"{name} {_written(one)}" for name, one in zip(self.names, self._inputs, strict=True))
        have = ", ".join(f"{name} is {tuple(shape)}" for name, shape in zip(self.names, shapes, strict=True))
        raise ShapeError(f"{self.function} takes {takes}; {have}: {why}")

    def fits_output(self, shapes: Sequence[Shape], made: Shape) -> bool:
        """Whether what was made of arrays of these shapes has the shape that is stated."""
        found = self.lengths(shapes)
        return any(
            _counts_right(pattern, made) and _match(pattern, made, dict(found)) is None for pattern in self._output
        )


def _alternatives(text: str) -> list[_Pattern]:
    return [tuple(one.split()) for one in text.split("|")]


def _written(patterns: list[_Pattern]) -> str:
    def one(pattern: _Pattern) -> str:
        return f"({', '.join(pattern)}{',' if len(pattern) == 1 and _several(pattern) is None else ''})"

    return " or ".join(map(one, patterns))


def _several(pattern: _Pattern) -> int | None:
    """Where in a pattern the axes stand that are any number."""
    return next((i for i, axis in enumerate(pattern) if axis == "..." or axis.startswith("*")), None)


def _counts_right(pattern: _Pattern, shape: Shape) -> bool:
    """Whether a shape has as many axes as a pattern."""
    return len(shape) == len(pattern) if _several(pattern) is None else len(shape) >= len(pattern) - 1


def _match(pattern: _Pattern, shape: Shape, found: _Lengths) -> str | None:
    """Add what the axes of a pattern stand for in a shape; the end of a sentence where it does not fit."""
    several, parts = _several(pattern), list[int | Shape](shape)
    if several is not None:
        end = several + len(shape) - len(pattern) + 1
        parts[several:end] = [tuple(shape[several:end])]
    for axis, part in zip(pattern, parts, strict=True):
        known = int(axis) if axis.isdecimal() else found.setdefault(axis, part)
        if known != part:
            return f"{axis} cannot be {known} and {part}"
    return None


def checked_pullback(y: Array, backward: Backward, name: str, *, cast: bool = False) -> Backward:
    """A pullback that raises ShapeError unless ``dy`` has the shape of ``y``; ``name`` stands in the sentence.

    Of several results, ``dy`` belongs to the first: the others get no gradient.

    With ``cast``, a ``dy`` of another dtype than that of ``y`` is cast.
    """
    if isinstance(y, tuple):
        y = y[0]
    if not hasattr(y, "shape"):
        return backward  # no array: its own business
    shape, dtype = y.shape, y.dtype

    def pullback(dy: Array, *args: Any, **kwargs: Any) -> Any:
        try:
            fits = dy.shape == shape
        except AttributeError:
            fits = False
        if not fits:
            given = f"of shape {tuple(dy.shape)}" if hasattr(dy, "shape") else f"a {type(dy).__name__}"
            raise ShapeError(f"the backward of {name} takes dy of the shape of its y, {tuple(shape)}, not {given}")
        if cast and dy.dtype is not dtype and dy.dtype != dtype:
            dy = array_namespace(dy).astype(dy, dtype)
        return backward(dy, *args, **kwargs)

    return pullback


def shaped(shapes: str) -> Callable[[F], F]:
    """Hold the callers of a function to the shapes of its arrays; ``function.shapes`` has them.

    >>> @shaped("n k, k -> n")
    ... def dot(rows, w):
    ...     return rows @ w
    >>> import numpy as np
    >>> dot(np.ones((4, 3)), np.ones((1, 3)))
    Traceback (most recent call last):
    portnn.errors.ShapeError: dot takes rows (n, k), w (k,); rows is (4, 3), w is (1, 3): w has 2 axes
    """

    def decorate(function: F) -> F:
        stated = Shapes(shapes, function)
        count, names = len(stated.names), stated.names

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if len(args) < count:
                args, kwargs = by_position(names, args, kwargs)
            if len(args) >= count:  # else Python says what is missing
                stated.check(args[:count])
            return function(*args, **kwargs)

        checked.__doc__ = with_shapes(function.__doc__, stated)
        checked.shapes = stated  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def by_position(
    names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with the named ones brought to the front, as far as they are given."""
    rest = dict(kwargs)
    missing = itertools.takewhile(lambda name: name in rest, names[len(args) :])
    return (*args, *[rest.pop(name) for name in missing]), rest


def with_shapes(doc: str | None, shapes: Shapes) -> str | None:
    """A docstring that says the shapes after its first paragraph."""
    if doc is None:
        return None
    head, gap, rest = inspect.cleandoc(doc).partition("\n\n")
    return f"{head}\n\nShapes: ``{shapes}``.{gap}{rest}"
