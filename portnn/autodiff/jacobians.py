"""All derivatives of a function at once, as arrays: first and second ones, and products with the latter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from array_api_compat import device as device_of

from portnn._typing import Array, Tree
from portnn.autodiff.namespace import namespace_of
from portnn.autodiff.trace import is_array
from portnn.autodiff.tracing import TracedFunction, at_others, context_of, places_of
from portnn.autodiff.transforms import grad, jvp
from portnn.errors import TraceError

__all__ = ["hessian", "hvp", "jacobian"]


def jacobian(function: Callable[..., Array], argnums: int = 0) -> Callable[..., Array]:
    """A function that gives all partial derivatives of another one: ``J[i, j] = dy_i / dx_j``.

    The function runs once, and then there is one pass for each element of the value, or for each of the argument,
    whichever are fewer.

    Parameters
    ----------
    function : callable
        ``function(*args, **kwargs)``, an array.
    argnums : int, default 0
        The argument, an array; the others are constants.

    Returns
    -------
    callable
        Called as ``function`` is, gives an array of shape ``(*y.shape, *x.shape)``.

    Raises
    ------
    TraceError
        When called; as `vjp`, also if the argument or the value is a tree.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(lambda x: x * x[::-1])(np.asarray([2.0, 3.0]))
    array([[3., 2.],
           [3., 2.]])
    """

    def partial_derivatives(*args: Any, **kwargs: Any) -> Array:
        (place,) = places_of((argnums,), len(args))
        x = args[place]
        _check_array(x, "the argument")
        inner = at_others(function, (place,), args, kwargs)
        traced = TracedFunction(inner, (x,))
        y, xp = traced.y, namespace_of(x).inner
        _check_array(y, "the value")
        shape = (*y.shape, *x.shape)
        if math.prod(shape) == 0:
            return xp.zeros(shape, dtype=y.dtype, device=device_of(x))
        with context_of((x,)):
            if math.prod(y.shape) <= math.prod(x.shape):
                rows = [traced.pull_within(e)[0] for e in _basis(y)]
                return xp.reshape(xp.stack(rows), shape)
            back = TracedFunction(traced.pull_within, (xp.zeros_like(y),))
            columns = [back.pull_within((e,))[0] for e in _basis(x)]
            return xp.reshape(xp.stack(columns, axis=-1), shape)

    return partial_derivatives


def _check_array(a: Any, what: str) -> None:
    if not is_array(a):
        raise TraceError(f"a Jacobian is of one array with respect to one array; {what} is a {type(a).__name__}")


def _basis(x: Array) -> list[Array]:
    """The arrays like ``x`` with a single one, the rest zeros, in the order of the elements."""
    raw, size = namespace_of(x).raw, math.prod(x.shape)
    eye = raw.eye(size, dtype=x.dtype, device=device_of(x))
    return [raw.reshape(eye[i, ...], tuple(x.shape)) for i in range(size)]


def hessian(function: Callable[..., Array], argnums: int = 0) -> Callable[..., Array]:
    """A function that gives all second derivatives of another one, whose value is one number.

    Parameters
    ----------
    function : callable
        ``function(*args, **kwargs)``, an array of one element.
    argnums : int, default 0
        The argument, an array; the others are constants.

    Returns
    -------
    callable
        Called as ``function`` is, gives an array of shape ``(*x.shape, *x.shape)``.

    Raises
    ------
    TraceError, ShapeError
        When called; as `value_and_grad` and `jacobian`.

    Examples
    --------
    >>> import numpy as np
    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.asarray([2.0, 3.0]))
    array([[6., 4.],
           [4., 0.]])
    """

    def second_derivatives(*args: Any, **kwargs: Any) -> Array:
        (place,) = places_of((argnums,), len(args))
        return jacobian(grad(at_others(function, (place,), args, kwargs)))(args[place])

    return second_derivatives


def hvp(function: Callable[..., Array], x: Tree, v: Tree) -> Tree:
    """The Hessian of a function times a vector, without the Hessian: for the price of some gradients.

    Parameters
    ----------
    function : callable
        ``function(x)``, an array of one element.
    x, v : arrays or trees of equal structure
        The point, and the vector.

    Returns
    -------
    array or tree, like x

    Raises
    ------
    TraceError, ShapeError
        As `value_and_grad` and `jvp`.

    Examples
    --------
    >>> import numpy as np
    >>> hvp(lambda x: x[0] ** 2 * x[1], np.asarray([2.0, 3.0]), np.asarray([1.0, 0.0]))
    array([6., 4.])
    """
    return jvp(grad(function), (x,), (v,))[1]
