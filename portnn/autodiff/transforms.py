"""What people call: derivatives of plain functions of arrays.

A function is written with operators and with the functions of ``x.__array_namespace__()``, or of
``array_api_compat.array_namespace(x)``; it may call other code that is written like that, the functions of
`portnn.functional`, layers and losses. Its arguments and its results are arrays of any library, or trees of them, dicts
and tuples. Transformations may be applied to each other, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from portnn import tree
from portnn._typing import Tree
from portnn.autodiff.namespace import namespace_of
from portnn.autodiff.passes import forward
from portnn.autodiff.trace import AutodiffArray, has_traced, lift, strip
from portnn.autodiff.tracing import (
    TracedFunction,
    at_others,
    check_like,
    check_one_number,
    checked,
    context_of,
    places_of,
    results_of,
)

__all__ = ["grad", "jvp", "linearize", "stop_gradient", "value_and_grad", "vjp"]


def vjp(function: Callable[..., Any], *args: Tree, has_aux: bool = False) -> Any:
    """The value of a function, and its pullback, as the functions of `portnn.functional` give them.

    Parameters
    ----------
    function : callable
        ``function(*args)``, an array or a tree of arrays.
    *args : array or tree of arrays
        Floating-point numbers; bind others beforehand.
    has_aux : bool, default False
        Whether the function gives a pair, ``(y, aux)``, of which the second is handed on and not differentiated.

    Returns
    -------
    y : array or tree
    backward : callable
        ``backward(dy)``, with ``dy`` like ``y``, gives the gradient of the argument, or a tuple with those of all:
        arrays of their own, of the shapes and dtypes of the arguments, zeros where ``y`` does not depend on them. It
        may be called more than once. Arguments must not be overwritten in between.
    aux : object
        With ``has_aux``.

    Raises
    ------
    TraceError
        If an argument or a result is no array, or does something that cannot be differentiated.
    ShapeError
        By ``backward``, if ``dy`` is not like ``y``.

    Examples
    --------
    >>> import numpy as np
    >>> y, backward = vjp(lambda a, b: a * b, np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0]))
    >>> backward(np.asarray([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))
    """
    traced = TracedFunction(function, args, has_aux)

    def backward(dy: Tree) -> Any:
        check_like(traced.y, dy, "backward takes dy of the shape of y")
        found = traced.pull(dy)
        return found[0] if len(args) == 1 else found

    return (traced.y, backward, traced.aux) if has_aux else (traced.y, backward)


def jvp(function: Callable[..., Any], args: Sequence[Tree], tangents: Sequence[Tree]) -> tuple[Tree, Tree]:
    """The value of a function, and its derivative along a direction, in one pass.

    Parameters
    ----------
    function : callable
        ``function(*args)``, an array or a tree of arrays.
    args, tangents : tuples of the same structure
        The point, floating-point arrays or trees of them, and the direction, arrays of the same shapes.

    Returns
    -------
    y, dy : arrays or trees
        ``dy`` is the derivative of ``function(*(args + h * tangents))`` with respect to h, at 0.

    Raises
    ------
    TraceError, ShapeError
        As `vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> jvp(lambda x: x * x, (np.asarray(3.0),), (np.asarray(1.0),))
    (np.float64(9.0), np.float64(6.0))
    """
    args, tangents = tuple(args), tuple(tangents)
    leaves = tree.leaves(args)
    ns = checked(leaves)
    check_like(args, tangents, "jvp takes tangents of the shapes of args")
    directions = tree.leaves(tangents)
    nested = has_traced([*leaves, *directions])
    if nested:
        ns = next(a.ns for a in (*leaves, *directions) if type(a) is AutodiffArray)
        leaves, directions = [lift(a, ns) for a in leaves], [lift(t, ns) for t in directions]
    like: list[Any] = []

    def of_leaves(*given: Any) -> list[Any]:
        like.append(function(*tree.rebuild(args, given)))
        return results_of(like[0])

    with context_of(leaves):
        results, moved = forward(of_leaves, leaves, directions, ns)
        moved = [ns.inner.zeros_like(y) if t is None else t for y, t in zip(results, moved, strict=True)]
    results, moved = ([lift(v, ns) if nested else strip(v, None) for v in some] for some in (results, moved))
    return tree.rebuild(like[0], results), tree.rebuild(like[0], moved)


def linearize(function: Callable[..., Any], *args: Tree) -> tuple[Tree, Callable[..., Tree]]:
    """The value of a function, and its derivative along any number of directions, for one pass through the function.

    Parameters
    ----------
    function, *args
        As of `vjp`.

    Returns
    -------
    y : array or tree
    push : callable
        ``push(*tangents)``, like ``args``, gives the derivative of ``y``: that of `jvp`.

    Raises
    ------
    TraceError, ShapeError
        As `vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> y, push = linearize(lambda x: x * x, np.asarray([1.0, 2.0]))
    >>> push(np.asarray([1.0, 0.0])), push(np.asarray([0.0, 1.0]))
    (array([2., 0.]), array([0., 4.]))
    """
    traced = TracedFunction(function, args)
    zeros = tree.map(namespace_of(tree.leaves(args)[0]).inner.zeros_like, traced.y)
    # The way back is linear in dy, and its own way back is the way forth.
    back = TracedFunction(traced.pull, (zeros,))

    def push(*tangents: Tree) -> Tree:
        check_like(args, tangents, "push takes tangents of the shapes of the arguments")
        return back.pull(tangents)[0]

    return traced.y, push


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives the value of another one, which is one number, and its gradient.

    Parameters
    ----------
    function : callable
        ``function(*args, **kwargs)``, an array of one element; with ``has_aux``, a pair of that and anything else.
    argnums : int or tuple of int, default 0
        The arguments to differentiate with respect to. The others, and keywords, may be anything; arrays among them
        are constants.
    has_aux : bool, default False
        Whether the function gives a pair, ``(y, aux)``, of which the second is handed on.

    Returns
    -------
    callable
        Called as ``function`` is, gives ``(y, gradient)``, or ``((y, aux), gradient)``: the gradient is like the
        argument, or a tuple of several.

    Raises
    ------
    TraceError, ShapeError
        When called; as `vjp`, and ShapeError if the value is no single number.

    Examples
    --------
    >>> import numpy as np
    >>> def loss(w, x):
    ...     xp = w.__array_namespace__()
    ...     return xp.sum((x * w - 1.0) ** 2)
    >>> value_and_grad(loss)(np.asarray([1.0, 2.0]), np.asarray([1.0, 3.0]))
    (np.float64(25.0), array([ 0., 30.]))
    """
    which = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def function_and_gradient(*args: Any, **kwargs: Any) -> Any:
        places = places_of(which, len(args))
        traced = TracedFunction(at_others(function, places, args, kwargs), tuple([args[i] for i in places]), has_aux)
        y = traced.y
        check_one_number(y, "the gradient", "see jacobian and vjp")
        found = traced.pull(namespace_of(y).inner.ones_like(y))
        return (y, traced.aux) if has_aux else y, found[0] if isinstance(argnums, int) else found

    return function_and_gradient


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of another one, whose value is one number.

    Parameters
    ----------
    function, argnums, has_aux
        As of `value_and_grad`.

    Returns
    -------
    callable
        Called as ``function`` is, gives the gradient; with ``has_aux``, a pair ``(gradient, aux)``.

    Raises
    ------
    TraceError, ShapeError
        When called; as `value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> grad(lambda x: x**3)(np.asarray(2.0))
    array(12.)
    >>> grad(grad(lambda x: x**3))(np.asarray(2.0))
    array(12.)
    """
    both = value_and_grad(function, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def stop_gradient(x: Tree) -> Tree:
    """The same values, which count as constants; an array that is not being differentiated stays what it is.

    >>> import numpy as np
    >>> grad(lambda x: x * stop_gradient(x))(np.asarray(3.0))
    array(3.)
    """

    def constant(a: Any) -> Any:
        return lift(a.__wrapped_array__(), a.ns) if type(a) is AutodiffArray else a

    return tree.map(constant, x)
