"""Hand-written pairs ``(y, backward)`` as single steps of what is differentiated.

A registered function that is called on traced arrays is called again on what they hold, and at the bottom its twin
runs, where there is one. On the way back its hand-written ``backward`` runs. Where that is differentiated in its turn,
the ``backward`` of the portable form is: so the second derivative of a function is the derivative of its backward, and
nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from portnn._typing import Array, Backward
from portnn.autodiff.apply import pushed, recorded
from portnn.autodiff.namespace import namespace_of
from portnn.autodiff.passes import reverse
from portnn.autodiff.rules import RULES
from portnn.autodiff.trace import CONSTANT, AutodiffArray, has_traced, lift, refuse, strip, traced_among
from portnn.kernels import Dispatched, call_traced_with
from portnn.shapes import checked_pullback

__all__ = ["checkpoint", "custom"]


def _registered(function: Dispatched[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A registered function, called with traced arrays among its first arguments."""
    count = len(function.shapes.names)
    function.shapes.check(args[:count])
    top = _top(args)
    level, ns = top.level, top.ns
    if function.kind != "differentiable":
        rule = "product" if function.__name__ == "matmul" else function.__name__
        if rule in RULES:
            return getattr(ns.inner, rule)(*args, **kwargs)
        return function.portable(*lift(args, ns), **kwargs)
    beyond = [a for a in args[function.gradients :] if type(a) is AutodiffArray and a.level is level]
    if level is not CONSTANT and beyond:
        return function.portable(*lift(args, ns), **kwargs)
    without_input = {"input_grad": False} if function.input_grad else {}

    def portable(*given: Any) -> Any:
        return function.portable(*given, **kwargs)

    def call(*given: Any) -> Any:
        return function(*given, **kwargs)

    # Products are arrays of their own; others may hand on dy itself, or a view of it.
    y, backward = _call(call, portable, args, function.__name__, without_input, not function.input_grad, True)
    return y, checked_pullback(y, backward, function.__name__)


def _call(
    function: Callable[..., Any],
    portable: Callable[..., Any],
    args: Sequence[Any],
    name: str,
    without_input: dict[str, Any],
    loan: bool,
    first_only: bool,
) -> tuple[Any, Backward]:
    """One step: the pair on what the highest level holds, and a node, or a tangent, for what it gave.

    ``first_only`` says that of several results only the first has a gradient.
    """
    top = _top(args)
    level, ns = top.level, top.ns
    which = [i for i, a in enumerate(args) if type(a) is AutodiffArray and a.level is level and a.node is not None]
    values = [strip(a, level) for a in args]
    nested = has_traced(values)
    if nested:
        values = lift(values, ns)
    y, backward = function(*values)

    def again(dy: Any, **options: Any) -> Any:
        """For callers: the derivative is to go through what backward computes."""
        return portable(*lift(tuple(args), ns))[1](dy, **options)

    if level is CONSTANT or not which:
        return lift(y, ns), again if level is not CONSTANT else _of_constants(backward, again)
    if any(t.level is level for t in traced_among([y])):
        refuse(
            "a pair uses arrays that are being differentiated and are not among its arguments; pass them as arguments"
        )
    rest: Any = None
    if first_only and isinstance(y, tuple):
        y, *rest = y

    def gradients(g: Any, **options: Any) -> Any:
        # The twin's backward knows nothing of a traced gradient.
        given = g if isinstance(g, tuple) else (g,)
        found = (portable(*lift(values, ns))[1] if has_traced(given) and not nested else backward)(g, **options)
        return found if isinstance(found, tuple) else (found,)

    options = without_input if 0 not in which else {}

    def pull(g: Any) -> list[Any]:
        if isinstance(g, tuple):
            g = tuple([ns.inner.zeros_like(v) if part is None else part for part, v in zip(g, y, strict=True)])
        found = gradients(g, **options)
        return [found[i] for i in which]

    nodes = [args[i].node for i in which]
    if level.forward:
        made = pushed(ns.inner, level, y, pull, nodes, ns)
    else:
        made = recorded(level, name, y, nodes, pull, ns, values, loan)
    return made if rest is None else (made, *lift(rest, ns)), again


def _of_constants(backward: Backward, again: Backward) -> Backward:
    def chosen(dy: Any, **options: Any) -> Any:
        return again(dy, **options) if has_traced([dy]) else backward(dy, **options)

    return chosen


def _top(args: Sequence[Any]) -> AutodiffArray:
    return max((a for a in args if type(a) is AutodiffArray), key=lambda a: a.level.number)


call_traced_with(AutodiffArray, _registered)


def custom(pair: Callable[..., tuple[Any, Backward]]) -> Callable[..., Any]:
    """A function whose derivative is written by hand.

    Parameters
    ----------
    pair : callable
        ``pair(*args) -> (y, backward)``, as the functions of `portnn.functional`: ``backward(dy)`` gives the gradient
        of the one argument, or a tuple with those of all; None for what has none. ``y`` is an array or a tuple of
        arrays, and then ``dy`` is a tuple. Derivatives of higher order are those of what ``backward`` computes.

    Returns
    -------
    callable
        ``function(*args) -> y``. Of other arrays it gives the ``y`` of the pair.

    Raises
    ------
    TraceError
        When called, if the pair uses arrays that are being differentiated and are not among its arguments.

    Examples
    --------
    A step that lets gradients pass as if it were not there (Bengio et al. 2013):

    >>> import numpy as np
    >>> from portnn.autodiff import custom, grad
    >>> straight_through = custom(lambda x: (x.__array_namespace__().sign(x), lambda dy: dy))
    >>> grad(lambda x: straight_through(x) * x)(np.asarray(-2.0))
    array(-3.)
    """

    def function(*args: Any) -> Any:
        return _any(pair, args)[0]

    return function


def _any(pair: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """The pair, as a step of lower levels where something is traced there."""
    if any(type(a) is AutodiffArray for a in args):
        return _call(lambda *given: _any(pair, given), pair, args, getattr(pair, "__name__", "custom"), {}, True, False)
    return pair(*args)


def checkpoint(function: Callable[..., Array]) -> Callable[..., Array]:
    """The same function, of which nothing is kept for the way back: there it is computed again.

    Parameters
    ----------
    function : callable
        ``function(*arrays)``, an array or a tuple of arrays; all that it differentiates is among its arguments.

    Raises
    ------
    TraceError
        When called, if the function uses arrays that are being differentiated and are not among its arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn.autodiff import checkpoint, grad
    >>> cube = checkpoint(lambda x: x * x * x)
    >>> grad(lambda x: cube(cube(x)))(np.asarray(1.0))
    array(9.)
    """

    def pair(*args: Any) -> tuple[Any, Backward]:
        def backward(dy: Any) -> tuple[Any, ...]:
            return _again(function, args, dy)

        return function(*args), backward

    return custom(pair)


def _again(function: Callable[..., Any], args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
    ns = namespace_of(args[0])
    several = isinstance(dy, tuple)
    floats = [i for i, a in enumerate(args) if ns.float_dtypes[a.dtype]]

    def inner(*chosen: Any) -> Any:
        given = list(args)
        for i, a in zip(floats, chosen, strict=True):
            given[i] = a
        y = function(*given)
        return y if several else [y]

    found = reverse(inner, [args[i] for i in floats], ns)[1](dy if several else [dy])
    gradients: list[Any] = [None] * len(args)
    for i, pair in zip(floats, found, strict=True):
        gradients[i] = ns.inner.zeros_like(args[i]) if pair is None else pair[0]
    return tuple(gradients)
