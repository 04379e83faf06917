"""Numerical differentiation by central differences, and gradient descent on a plain function.

For seeing what a derivative is, and for checking one: it costs two evaluations for every entry of the argument. The
arrays may be of any library.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from array_api_compat import array_namespace, device

from portnn._typing import Array
from portnn.checks import check_count, check_number
from portnn.errors import DataError, ShapeError

__all__ = ["default_step", "gradient", "gradient_descent", "jacobian", "partial"]


def default_step(x: Array) -> float:
    """The step ``eps^(1/3)`` for the dtype of ``x``: 6e-6 in float64, 5e-3 in float32.

    A central difference is wrong by about ``h^2`` because it cuts off the series, and by about ``eps / h`` because the
    two values are rounded; at this step the two are alike (for a function whose scale is about 1). Beyond 1 the step is
    taken as a share of the entry, ``h max(1, |x_i|)``: far from 0 the numbers lie further apart than h.
    """
    return math.cbrt(float(array_namespace(x).finfo(x.dtype).eps))


def partial(function: Callable[[Array], Array], x: Array, entry: int, h: float | None = None) -> Array:
    """The derivative with respect to one entry of ``x``, numbered in row-major order.

    Arguments and errors as in `jacobian`; returns an array of the shape of ``function(x)``.
    """
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise DataError(f"only a function of floating-point numbers can be differentiated, not of {x.dtype}")
    if not 0 <= entry < math.prod(x.shape):
        raise ShapeError(f"there is no entry {entry} in an array of {math.prod(x.shape)}")
    if h is None:
        step = default_step(x) * xp.where(xp.abs(x) > 1, xp.abs(x), 1.0)
    else:
        step = check_number("h", h, 0, open_low=True)
    here = xp.reshape(xp.arange(math.prod(x.shape), device=device(x)), x.shape) == entry
    ahead, behind = xp.where(here, x + step, x), xp.where(here, x - step, x)
    # The step as it came out: x + step is rounded.
    width = xp.sum(xp.where(here, ahead - behind, 0.0))
    rise = function(ahead) - function(behind)
    return rise / (xp.astype(width, rise.dtype) if xp.isdtype(rise.dtype, "real floating") else width)


def gradient(function: Callable[[Array], Array], x: Array, h: float | None = None) -> Array:
    """The gradient of a function with one number as its value: ``(f(x + h e_i) - f(x - h e_i)) / 2h`` for each entry.

    What is divided by is the distance of the two points as they are rounded.

    Parameters
    ----------
    function : callable
        ``function(x) -> 0-d array``.
    x : floating-point array, any shape
    h : float, optional
        The step, > 0, the same for all entries; by default one for each entry, see `default_step`.

    Returns
    -------
    array, shape, dtype and device of x

    Raises
    ------
    ShapeError
        If the value is no single number.
    DataError
        If ``x`` does not hold floating-point numbers.

    Examples
    --------
    >>> import numpy as np
    >>> gradient(lambda x: np.sum(x**2), np.asarray([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    value = function(x)
    if math.prod(value.shape) != 1:
        raise ShapeError(f"the gradient is that of one number; the value has shape {tuple(value.shape)}: see jacobian")
    xp = array_namespace(x)
    return xp.reshape(jacobian(lambda point: xp.reshape(function(point), ()), x, h), x.shape)


def jacobian(function: Callable[[Array], Array], x: Array, h: float | None = None) -> Array:
    """All partial derivatives of a function between arrays: ``J[i, j] = dy_i / dx_j``, by central differences.

    Parameters
    ----------
    function : callable
        ``function(x) -> y``, arrays of any shapes.
    x : floating-point array
    h : float, optional
        The step, > 0, the same for all entries; by default one for each entry, see `default_step`.

    Returns
    -------
    array, shape ``(*y.shape, *x.shape)``

    Raises
    ------
    DataError
        If ``x`` does not hold floating-point numbers.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(lambda x: np.stack([x[0] * x[1], x[0]]), np.asarray([2.0, 3.0])).round(6)
    array([[3., 2.],
           [1., 0.]])
    """
    xp, size = array_namespace(x), math.prod(x.shape)
    if size == 0:
        return xp.zeros((*function(x).shape, *x.shape), dtype=x.dtype, device=device(x))
    columns = [partial(function, x, entry, h) for entry in range(size)]
    return xp.reshape(xp.stack(columns, axis=-1), (*columns[0].shape, *x.shape))


def gradient_descent(
    function: Callable[[Array], Array],
    x: Array,
    *,
    lr: float,
    steps: int,
    grad: Callable[[Array], Array] | None = None,
) -> Array:
    """The points that ``x <- x - lr grad f(x)`` visits.

    Parameters
    ----------
    function : callable
        ``function(x) -> 0-d array``.
    x : floating-point array
        Where to start.
    lr : float
        Learning rate, > 0.
    steps : int
    grad : callable, optional
        ``grad(x)``, of the shape of x; by default the numerical one.

    Returns
    -------
    array, shape ``(steps + 1, *x.shape)``
        The start, and the point after each step.

    Examples
    --------
    >>> import numpy as np
    >>> path = gradient_descent(lambda x: np.sum(x**2), np.asarray([-3.0, 4.0]), lr=0.1, steps=100)
    >>> path[-1]
    array([-6.11110793e-10,  8.14814391e-10])
    """
    lr = check_number("lr", lr, 0, open_low=True)
    points = [x]
    for _ in range(check_count("steps", steps)):
        slope = gradient(function, points[-1]) if grad is None else grad(points[-1])
        points.append(points[-1] - lr * slope)
    return array_namespace(x).stack(points)
