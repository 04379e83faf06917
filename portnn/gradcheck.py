"""Compare an analytic gradient with a numerical one, along one random direction, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from array_api_compat import array_namespace, is_array_api_obj

from portnn import tree
from portnn._typing import Array, Shape, Tree
from portnn.backend import Backend, backend_of, get_backend
from portnn.errors import GradientError, KinkError
from portnn.random import Stream, as_stream

if TYPE_CHECKING:
    from portnn.nn import Layer

__all__ = ["gradcheck", "gradcheck_layer"]


def gradcheck(
    function: Callable[..., tuple[Array, Callable[[Array], Tree]]],
    *args: Tree,
    rng: Stream | int = 0,
    h: float = 1e-6,
    rtol: float = 1e-6,
) -> None:
    """Raise unless the pullback of a function agrees with its central difference.

    For a random direction u (in the arguments) and a random covector v (on the value), the check is
    ``<v, f(a + h u) - f(a - h u)> / 2h == <backward(v), u>``: two evaluations more, whatever the shapes.

    Parameters
    ----------
    function : callable
        ``function(*args) -> (y, backward)``; ``backward(dy)`` returns the gradient of the one argument, or a tuple with
        the gradients of all. What is not to be differentiated, such as class numbers, is bound beforehand.
    *args : floating-point arrays, or trees of them
        The point; cast to float64.
    rng : int or Stream, default 0
        Source of direction and covector.
    h : float, default 1e-6
        Step of the central difference; its error is of order h^2 and 1e-16 / h.
    rtol : float, default 1e-6
        Allowed difference, relative to the sum of the magnitudes of the terms of the derivative (at least 1e-3).

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
    backend = _backend_of_all(args)
    double = backend.dtype("float64")
    point = tree.map(lambda a: array_namespace(a).astype(a, double), args)
    y, backward = function(*point)
    covector = _draw(rng.child("covector"), y, backend)
    returned = backward(covector)
    grads = returned if len(args) > 1 else (returned,)
    tree.map(_check_alike, grads, point)

    paths = iter(tree.flatten(point))
    direction = tree.map(lambda a: _draw(rng.child("direction", next(paths)), a, backend), point)
    ahead, behind = (function(*tree.map(lambda a, u, step=step: a + step * u, point, direction))[0] for step in (h, -h))
    _refuse_kinks(y, ahead, behind, h)

    terms = [_dot(g, u, backend) for g, u in zip(tree.leaves(grads), tree.leaves(direction), strict=True)]
    analytic, scale = sum(value for value, _ in terms), sum(size for _, size in terms)
    numeric, numeric_scale = (value / (2.0 * h) for value in _dot(covector, ahead - behind, backend))
    # Written so that NaN fails.
    if not abs(analytic - numeric) <= rtol * (max(scale, numeric_scale) + 1e-3):
        raise GradientError(f"the analytic derivative is {analytic:.10g}, the numerical one {numeric:.10g}")


def gradcheck_layer(
    layer: Layer, input_shape: Shape, *, n: int = 4, device: str | Backend = "cpu", rng: Stream | int = 0
) -> None:
    """Check the gradients of a layer, in training mode, with respect to its parameters and its input.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int
    n : int, default 4
        Number of examples; their values are drawn from the standard normal distribution.
    device : str or Backend, default "cpu"
    rng : int or Stream, default 0
        Source of the parameters, the examples, and what the layer draws itself.

    Raises
    ------
    GradientError, KinkError, BackendError
        As `gradcheck`.

    Examples
    --------
    >>> from portnn import nn
    >>> gradcheck_layer(nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(3)]), (4,))
    """
    rng, backend = as_stream(rng), get_backend(device)
    params, state, _ = layer.init(rng.child("init"), input_shape)
    x = rng.child("x").normal((n, *input_shape))
    params, state, x = tree.map(lambda a: backend.asarray(a, "float64"), (params, state, x))

    def function(params: Tree, x: Array) -> tuple[Array, Callable[[Array], Tree]]:
        y, _, backward = layer.forward(params, state, x, train=True, rng=rng.child("noise"))

        def pullback(dy: Array) -> Tree:
            dx, grads = backward(dy)
            return grads, dx

        return y, pullback

    gradcheck(function, params, x, rng=rng)


def _backend_of_all(args: tuple[Tree, ...]) -> Backend:
    leaves = tree.leaves(args)
    for leaf in leaves:
        if not is_array_api_obj(leaf) or not array_namespace(leaf).isdtype(leaf.dtype, "real floating"):
            raise GradientError(f"only floating-point arrays can be differentiated, not {type(leaf).__name__}")
    if not leaves:
        raise GradientError("there is no array to differentiate")
    return backend_of(leaves[0])


def _draw(rng: Stream, like: Array, backend: Backend) -> Array:
    """Entries of either sign with magnitudes in [0.5, 1): none is so small that an error along it would hide."""
    sign = 2.0 * (rng.child("sign").uniform(like.shape) < 0.5) - 1.0
    return backend.asarray(sign * rng.uniform(like.shape, 0.5, 1.0))


def _check_alike(gradient: Array, argument: Array) -> None:
    if gradient.shape != argument.shape or gradient.dtype != argument.dtype:
        raise GradientError(
            f"the gradient is {gradient.dtype} of shape {tuple(gradient.shape)}, "
            f"its argument {argument.dtype} of shape {tuple(argument.shape)}"
        )


def _dot(a: Array, b: Array, backend: Backend) -> tuple[float, float]:
    """The inner product, and the sum of the magnitudes of its terms."""
    products = backend.to_numpy(a * b)
    return float(products.sum()), float(abs(products).sum())


def _refuse_kinks(y: Array, ahead: Array, behind: Array, h: float) -> None:
    """Compare the slopes before and after the point: a second derivative makes them differ by about h, a kink by 1."""
    xp = array_namespace(y)
    if math.prod(y.shape) == 0:
        return
    bend = float(xp.max(xp.abs(ahead - 2.0 * y + behind))) / h
    slope = float(xp.max(xp.abs(ahead - behind))) / (2.0 * h)
    if bend > 1e-3 * (1.0 + slope):
        raise KinkError(f"the function has a kink within {h} of the point: check the gradient elsewhere")
