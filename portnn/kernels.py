"""Portable functions and their faster twins: one registry, one guard, one fallback.

A function decorated with `differentiable` or `update_rule` is written once against the array API standard. A
backend may offer a twin under the same name: another implementation with the same signature and the same results
to rounding. A call goes to the twin if the arrays belong to that backend and the twin's guard accepts them. Where the
guard does not, or the twin returns ``NotImplemented``, the portable form computes; no twin falls back by itself. The
twin replaces the whole pair (y, backward), so what is kept for the backward pass stays private to each form. Whichever
form runs, the dispatcher holds callers to the shapes that the function states (`portnn.shapes`), and its backward to
the shape of ``y``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, MappingProxyType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from portnn._typing import Array
from portnn.backend import backend_class_of
from portnn.errors import KernelError
from portnn.shapes import Shapes, by_position, checked_pullback, with_shapes
from portnn.twins import Kernel

__all__ = [
    "Dispatched",
    "Kernel",
    "array_function",
    "call_traced_with",
    "check_twin",
    "differentiable",
    "portable",
    "registry",
    "twins_on",
    "update_leaves",
    "update_rule",
]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class Dispatched(Protocol, Generic[P, R]):
    """A function that may have twins.

    Attributes
    ----------
    portable : callable
        Its portable form, always reachable; it checks nothing.
    resolved : callable
        The same behind ``options``, with the parameters that its twins have; ``portable`` itself where there are none.
    options : callable or None
        See `differentiable`.
    kind : {"differentiable", "array_function", "update_rule"}
    shapes : Shapes
        What it states of its arrays.
    gradients : int
        Of so many of its first arrays backward gives the gradients.
    input_grad : bool
        Whether backward takes ``input_grad=False``, and saves the work for the first of them.
    """

    portable: Callable[..., Any]
    resolved: Callable[..., Any]
    options: Callable[..., Mapping[str, Any]] | None
    kind: str
    shapes: Shapes
    gradients: int
    input_grad: bool
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


_registry: dict[str, Dispatched[..., Any]] = {}
_twins_on: ContextVar[bool] = ContextVar("portnn_twins_on", default=True)

#: A type of arrays, and what calls functions that are given some; see `call_traced_with`.
_traced: tuple[type, Callable[..., Any]] | None = None

#: Every portable function by name (read-only).
registry: Mapping[str, Dispatched[..., Any]] = MappingProxyType(_registry)


@overload
def differentiable(
    *, shapes: str, gradients: int | None = None, input_grad: bool = False
) -> Callable[[Callable[P, R]], Dispatched[P, R]]: ...
@overload
def differentiable(
    *, shapes: str, options: Callable[P, Mapping[str, Any]], gradients: int | None = None, input_grad: bool = False
) -> Callable[[Callable[..., R]], Dispatched[P, R]]: ...
def differentiable(
    *,
    shapes: str,
    options: Callable[..., Mapping[str, Any]] | None = None,
    gradients: int | None = None,
    input_grad: bool = False,
) -> Any:
    """Register a portable function that returns ``(y, backward)``; its first arguments are arrays.

    ``shapes`` states those of the arrays and of ``y``: see `portnn.shapes`. ``options``, if there are some, is what
    callers call: it has their parameters, and makes of them the keywords that the portable function and its twins have
    in their place, such as windows of stride, padding and dilation. So these are resolved once, and in one place.

    ``gradients`` says of how many of the arrays, the first ones, ``backward`` gives the gradients: of all by default,
    of one for a loss, whose target has none. ``input_grad`` says that ``backward`` takes the keyword of this name, and
    does not compute the first of them where it is False.
    """
    return functools.partial(
        _register, shapes=shapes, kind="differentiable", options=options, gradients=gradients, input_grad=input_grad
    )


def array_function(*, shapes: str) -> Callable[[Callable[P, R]], Dispatched[P, R]]:
    """Register a portable function of arrays that is not differentiated; ``shapes`` as of `differentiable`."""
    return functools.partial(_register, shapes=shapes, kind="array_function")


def update_rule(function: Callable[P, R]) -> Dispatched[P, R]:
    """Register the portable mathematics of an optimizer for one leaf: ``(p, g, *slots, **hyper) -> (p, *slots)``.

    All of them have one shape. The portable form is pure. The caller gives ``p`` and the slots up, so a twin may write
    into them; never into the gradient ``g``.
    """
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    arrays = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    rule: Dispatched[P, R] = _register(function, ", ".join(["..."] * arrays) + " -> ...", "update_rule")
    return rule


def _register(
    function: Callable[..., Any],
    shapes: str,
    kind: Literal["differentiable", "array_function", "update_rule"],
    options: Callable[..., Mapping[str, Any]] | None = None,
    gradients: int | None = None,
    input_grad: bool = False,
) -> Any:
    name = function.__name__
    if name in _registry:
        raise KernelError(f"a portable function called {name!r} is registered already")
    stated = Shapes(shapes, function)
    check, names, count, has_backward = stated.check, stated.names, len(stated.names), kind == "differentiable"
    any_shape = stated.take_all
    options = None if options is None else _named(options, name)
    portable = function if options is None else _with_options(function, options, names)

    @functools.wraps(portable)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if len(args) < count:
            args, kwargs = by_position(names, args, kwargs)
            if len(args) < count:
                return portable(*args, **kwargs)  # Python says what is missing
        if _traced is not None:
            for a in args:  # a third of the time of `in map(type, args)`
                if type(a) is _traced[0]:
                    return _traced[1](dispatched, args, kwargs)
        arrays = args if len(args) == count else args[:count]
        if not (any_shape and hasattr(arrays[0], "shape")):
            check(arrays)
        if options is not None:
            args, kwargs = arrays, dict(options(*args, **kwargs))
        array_type: Any = type(arrays[0])
        kernel, made = _twin(name, array_type), NotImplemented
        if kernel is not None and _twins_on.get() and kernel.accepts(arrays):
            made = kernel.function(*args, **kwargs)
        by_twin = made is not NotImplemented
        if not by_twin:
            made = function(*args, **kwargs)
        if not has_backward:
            return made
        y, backward = made
        # A twin reads dy as what y is.
        return y, checked_pullback(y, backward, name, cast=by_twin)

    dispatched = cast(Dispatched[..., Any], dispatch)
    dispatched.portable, dispatched.resolved, dispatched.options = portable, function, options
    dispatched.kind = kind
    dispatched.shapes = stated
    dispatched.gradients, dispatched.input_grad = count if gradients is None else gradients, input_grad
    dispatch.__doc__ = with_shapes(function.__doc__, stated)
    _registry[name] = dispatched
    return dispatched


def call_traced_with(
    array_type: type, call: Callable[[Dispatched[..., Any], tuple[Any, ...], dict[str, Any]], Any]
) -> None:
    """Let ``call(function, args, kwargs)`` do the calls of functions that are given arrays of this type.

    For `portnn.autodiff`, above, which is not imported by those who have no such arrays, and costs them nothing.
    """
    global _traced
    _traced = array_type, call


def _named(function: Any, name: str) -> Callable[..., Any]:
    """The same function under the name that Python is to say in its errors, as of an unknown keyword."""
    same = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    same.__kwdefaults__, same.__qualname__ = function.__kwdefaults__, name
    return functools.update_wrapper(same, function, ("__module__", "__doc__", "__annotations__"))


def _with_options(
    function: Callable[..., R], options: Callable[..., Mapping[str, Any]], names: tuple[str, ...]
) -> Callable[..., R]:
    """The portable form as callers call it."""

    @functools.wraps(function)
    def portable(*args: Any, **kwargs: Any) -> R:
        args, kwargs = by_position(names, args, kwargs)
        return function(*args[: len(names)], **options(*args, **kwargs))

    made = inspect.signature(function).return_annotation
    portable.__signature__ = inspect.signature(options).replace(return_annotation=made)  # type: ignore[attr-defined]
    return portable


@functools.cache
def _twin(name: str, array_type: Any) -> Kernel | None:
    backend = backend_class_of(array_type)
    kernel = backend.kernels().get(name) if backend else None
    if kernel is not None:
        check_twin(name, kernel)
    return kernel


def update_leaves(
    rule: Callable[..., tuple[Array, ...]], leaves: Sequence[tuple[Array, ...]], hyper: Mapping[str, Any]
) -> list[tuple[Array, ...]]:
    """Apply an update rule to leaves ``(p, g, *slots)``: at once where a twin can, else to one after the other."""
    array_type: Any = type(leaves[0][0]) if leaves else None
    kernel = _twin(rule.__name__, array_type) if leaves and _registry.get(rule.__name__) is rule else None
    if kernel is not None and kernel.many and _twins_on.get() and all(kernel.accepts(leaf) for leaf in leaves):
        for leaf in leaves:
            shape = leaf[0].shape
            if not all([a.shape == shape for a in leaf]):
                cast(Any, rule).shapes.check(leaf)
        updated = kernel.many(leaves, **hyper)
        if updated is not NotImplemented:
            return updated
    return [rule(*leaf, **hyper) for leaf in leaves]


def check_twin(name: str, kernel: Kernel) -> None:
    """Raise KernelError unless a portable function of this name exists and has the twin's signature."""
    if name not in _registry:
        raise KernelError(f"there is no portable function {name!r} for this twin")
    expected, given = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (_registry[name].resolved, kernel.function)
    )
    if expected != given:
        raise KernelError(
            f"the twin of {name!r} takes {inspect.signature(kernel.function)}, "
            f"the portable form {inspect.signature(_registry[name].resolved)}"
        )


def twins_on() -> bool:
    """Whether calls go to twins, outside of `portable`."""
    return _twins_on.get()


@contextmanager
def portable() -> Iterator[None]:
    """Turn every twin off inside a ``with`` block of this thread: for debugging and for measuring what they gain."""
    token = _twins_on.set(False)
    try:
        yield
    finally:
        _twins_on.reset(token)
