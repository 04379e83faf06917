"""Special functions that the array API standard lacks.

Near 0 the portable forms sum a series, and beyond 1 they evaluate a continued fraction: all terms of both have one
sign, so that nothing cancels, and the error is a few units in the last place, however small the value.
"""

import math

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.kernels import differentiable

__all__ = ["erf", "erfc"]

_TERMS = 24  # of the series, for |x| <= 1: the next one is 1e-17 of the sum
_FRACTIONS = 180  # of the continued fraction, for x >= 1: where it ends makes 1e-16 of the value
_NOTHING_BEYOND = 30.0  # erfc(30) = 3e-393


@differentiable(shapes="... -> ...")
def erf(x: Array) -> tuple[Array, Backward]:
    """The error function ``2 / sqrt(pi) * integral of exp(-t^2) from 0 to x``, for x of any shape.

    >>> import numpy as np
    >>> y, backward = erf(np.asarray([0., 0.5, -10.]))
    >>> y
    array([ 0.        ,  0.52049988, -1.        ])
    """
    xp = array_namespace(x)
    beyond = _erfc_beyond(x)
    outside = xp.where(x < 0, beyond - 1.0, 1.0 - beyond)
    return xp.where(xp.abs(x) > 1, outside, _erf_within(x)), _backward(x, 2.0 / math.sqrt(math.pi))


@differentiable(shapes="... -> ...")
def erfc(x: Array) -> tuple[Array, Backward]:
    """The complement ``1 - erf(x)``, for x of any shape; for large x, where it is next to nothing, it is as exact.

    >>> import numpy as np
    >>> y, backward = erfc(np.asarray([-10., 0., 10.]))
    >>> y
    array([2.00000000e+00, 1.00000000e+00, 2.08848758e-45])
    """
    xp = array_namespace(x)
    beyond = _erfc_beyond(x)
    outside = xp.where(x < 0, 2.0 - beyond, beyond)
    return xp.where(xp.abs(x) > 1, outside, 1.0 - _erf_within(x)), _backward(x, -2.0 / math.sqrt(math.pi))


def _backward(x: Array, factor: float) -> Backward:
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return dy * (xp.exp(-x * x) * factor)

    return backward


def _erf_within(x: Array) -> Array:
    """erf for ``|x| <= 1``: ``2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1 3 ... (2n+1))`` (DLMF 7.6.2)."""
    xp = array_namespace(x)
    z = xp.where(xp.abs(x) > 1, 0.0, x)
    total = term = z
    for n in range(1, _TERMS):
        term = term * (z * z) * (2.0 / (2 * n + 1))
        total = total + term
    return total * xp.exp(-z * z) * (2.0 / math.sqrt(math.pi))


def _erfc_beyond(x: Array) -> Array:
    """erfc of ``|x| >= 1``: ``exp(-x^2) / sqrt(pi) / (x + (1/2) / (x + (2/2) / (x + (3/2) / ...)))`` (DLMF 7.9.2)."""
    xp = array_namespace(x)
    size = xp.abs(x)
    z = xp.where(size < 1, 1.0, xp.where(size > _NOTHING_BEYOND, _NOTHING_BEYOND, size))
    below = z
    for k in range(_FRACTIONS, 0, -1):
        below = z + (0.5 * k) / below
    # exp(-z^2) in two factors: that of a number with few digits, whose square is exact, and that of the rest.
    short = xp.floor(16.0 * z) / 16.0
    return xp.exp(-short * short) * xp.exp((short - z) * (short + z)) / (below * math.sqrt(math.pi))
