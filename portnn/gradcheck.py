"""Compare an analytic gradient with a numerical one, along one random direction, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

from portnn import tree
from portnn._typing import Array, Tree
from portnn.backend import Backend, backend_of
from portnn.errors import GradientError, KinkError
from portnn.random import Stream, as_stream

__all__ = ["gradcheck"]


def gradcheck(
    function: Callable[..., tuple[Array, Callable[[Array], Tree]]],
    *args: Tree,
    rng: Stream | int = 0,
    h: float = 1e-6,
    rtol: float = 1e-6,
) -> None:
    """Raise unless the pullback of a function agrees with its central difference.

    For a random direction u (in the arguments) and a random covector v (on the value), the check is
    ``<v, f(a + h u) - f(a - h u)> / 2h == <backward(v), u>``: two evaluations, whatever the shapes.

    Parameters
    ----------
    function : callable
        ``function(*args) -> (y, backward)``; ``backward(dy)`` returns the gradient of the argument, or a tuple with one
        for each. A gradient of None, or an integer argument, says that this argument is not differentiated.
    *args : arrays or trees of arrays
        The point. Floating-point arrays are cast to float64.
    rng : int or Stream, default 0
        Source of direction and covector.
    h : float, default 1e-6
        Step of the central difference; its error is of order h^2 and 1e-16 / h.
    rtol : float, default 1e-6
        Allowed difference, relative to the sum of the magnitudes that make up the derivative.

    Raises
    ------
    GradientError
        If the two differ, or a gradient has another shape or dtype than its argument.
    KinkError
        If the function has a kink, or a jump, within h of the point along the direction: move the point.
    BackendError
        If the device has no float64.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import functional
    >>> gradcheck(functional.tanh, np.asarray([0.5, -1.0]))
    >>> gradcheck(functional.relu, np.asarray([0.0, -1.0]))
    Traceback (most recent call last):
    portnn.errors.KinkError: the function has a kink within 1e-06 of the point: check the gradient elsewhere
    """
    rng = as_stream(rng)
    backend = _find_backend(args)
    point = tree.map(lambda a: _as_double(a, backend), args)
    y, backward = function(*point)
    covector = backend.asarray(_draw(rng.child("covector"), y))
    returned = backward(covector)
    grads = returned if len(args) > 1 else (returned,)

    direction = _directions(point, grads, rng, backend)
    ahead, behind = (function(*_move(point, direction, step))[0] for step in (h, -h))
    _refuse_kinks(y, ahead, behind, h)

    analytic_terms = [
        _dot(g, u, backend) for g, u in zip(tree.leaves(grads), tree.leaves(direction), strict=True) if u is not None
    ]
    analytic, scale = sum(t[0] for t in analytic_terms), sum(t[1] for t in analytic_terms)
    numeric, numeric_scale = (value / (2.0 * h) for value in _dot(covector, ahead - behind, backend))
    if not abs(analytic - numeric) <= rtol * (max(scale, numeric_scale) + 1e-3):
        raise GradientError(f"the analytic derivative is {analytic:.10g}, the numerical one {numeric:.10g}")


def _find_backend(args: tuple[Tree, ...]) -> Backend:
    for leaf in tree.leaves(args):
        if is_array_api_obj(leaf):
            return backend_of(leaf)
    raise GradientError("there is no array among the arguments")


def _is_float(array: Any) -> bool:
    return is_array_api_obj(array) and bool(array_namespace(array).isdtype(array.dtype, "real floating"))


def _as_double(array: Any, backend: Backend) -> Any:
    return array_namespace(array).astype(array, backend.dtype("float64")) if _is_float(array) else array


def _draw(rng: Stream, like: Array) -> Array:
    """Entries of either sign with magnitudes in [0.5, 1): none is so small that an error along it would hide."""
    sign = 2.0 * (rng.child("sign").uniform(like.shape) < 0.5) - 1.0
    return sign * rng.uniform(like.shape, 0.5, 1.0)


def _directions(point: tuple[Tree, ...], grads: Tree, rng: Stream, backend: Backend) -> Tree:
    """A direction for every argument that is differentiated, None for the others; checks shapes and dtypes."""
    draws = iter(range(len(tree.leaves(point))))

    def direction(a: Any, g: Any) -> Any:
        number = next(draws)
        if g is None or not _is_float(a):
            return None
        if g.shape != a.shape or g.dtype != a.dtype:
            raise GradientError(
                f"the gradient is {g.dtype} of shape {g.shape}, its argument {a.dtype} of shape {a.shape}"
            )
        return backend.asarray(_draw(rng.child("direction", number), a))

    expanded = tuple(tree.map(lambda _: None, a) if g is None else g for a, g in zip(point, grads, strict=True))
    return tree.map(direction, point, expanded)


def _move(point: Tree, direction: Tree, step: float) -> Tree:
    return tree.map(lambda a, u: a if u is None else a + step * u, point, direction)


def _dot(a: Array, b: Array, backend: Backend) -> tuple[float, float]:
    """The inner product, and the sum of the magnitudes of its terms."""
    products = backend.to_numpy(a * b)
    return float(products.sum()), float(abs(products).sum())


def _refuse_kinks(y: Array, ahead: Array, behind: Array, h: float) -> None:
    """Where slopes before and after the point differ by much more than a second derivative makes them."""
    xp = array_namespace(y)
    if math.prod(y.shape) == 0:
        return
    bend = float(xp.max(xp.abs(ahead - 2.0 * y + behind))) / h
    slope = float(xp.max(xp.abs(ahead - behind))) / (2.0 * h)
    if bend > 1e-3 * (1.0 + slope):
        raise KinkError(f"the function has a kink within {h} of the point: check the gradient elsewhere")
