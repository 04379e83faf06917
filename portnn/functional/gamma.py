"""The logarithm of the gamma function, and its derivatives.

Near 1 and 2, where the logarithm is next to nothing, it is a power series; for large x it is Stirling's series; what
lies between is brought to one of them by ``gamma(x + 1) = x gamma(x)``, and what is negative by the reflection
``gamma(x) gamma(1 - x) = pi / sin(pi x)``.
"""

import math
from collections.abc import Sequence

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.kernels import differentiable

__all__ = ["at_poles", "digamma", "gammaln", "trigamma"]

#: ``zeta(k) - 1`` for k from 2 on (DLMF 25.2), as far as it counts at a distance of a half.
_ZETAS = (
    *(0.644934066848226436, 0.202056903159594285, 0.0823232337111381915, 0.0369277551433699263, 0.0173430619844491397),
    *(0.00834927738192282684, 0.00407735619794433938, 0.00200839282608221442, 0.000994575127818085337),
    *(0.000494188604119464559, 0.000246086553308048299, 0.000122713347578489147, 0.0000612481350587048293),
    *(0.0000305882363070204936, 0.0000152822594086518717, 7.63719763789976227e-6, 3.81729326499983986e-6),
    *(1.90821271655393893e-6, 9.53962033872796113e-7, 4.76932986787806463e-7, 2.3845050272773299e-7),
    *(1.19219925965311073e-7, 5.96081890512594796e-8, 2.98035035146522802e-8, 1.49015548283650412e-8),
)
_EULER = 0.57721566490153286061

#: The Bernoulli numbers of even order, from the second on (DLMF 24.2).
_BERNOULLI = (*(1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330),)

#: From here on the asymptotic series are exact to rounding.
_FAR = 8.5


@differentiable(shapes="... -> ...")
def gammaln(x: Array) -> tuple[Array, Backward]:
    """The logarithm of the size of the gamma function, ``log |gamma(x)|``, for x of any shape; ``dx = dy digamma(x)``.

    Infinite at 0 and at negative whole numbers.

    >>> import numpy as np
    >>> y, backward = gammaln(np.asarray([1., 5., 0.5]))
    >>> y.round(6)
    array([0.      , 3.178054, 0.572365])
    """
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return dy * digamma(x)[0]

    negative = x < 0
    z = xp.where(negative, 1.0 - x, x)
    value = _gammaln_above_zero(z)
    sine = xp.abs(xp.sin(math.pi * (x - xp.round(x))))
    reflected = math.log(math.pi) - xp.log(xp.where(negative, sine, 1.0)) - value
    return xp.where(negative, reflected, value), backward


def _gammaln_above_zero(x: Array) -> Array:
    xp = array_namespace(x)
    # Between 2.5 and where Stirling's series begins: down to 1.5 .. 2.5.
    low = xp.where(x < _FAR, x, 2.0)
    product = xp.ones_like(x)
    for _ in range(6):
        above = low > 2.5
        product = xp.where(above, product * (low - 1.0), product)
        low = xp.where(above, low - 1.0, low)
    # Below 1.5: from 1 + t, which is 2 + t by one step, and below 0.5 by two.
    tiny = low < 0.5
    t = xp.where(tiny, low, xp.where(low < 1.5, low - 1.0, low - 2.0))
    series = t * _horner(t, [1.0 - _EULER, *[(-1.0) ** k * z / k for k, z in enumerate(_ZETAS, start=2)]])
    below = series - xp.log1p(xp.where(low < 1.5, t, 0.0))
    near = xp.where(low < 1.5, below, series) - xp.log(xp.where(tiny, low, 1.0)) + xp.log(product)
    z = xp.where(x < _FAR, _FAR, x)
    inverse = 1.0 / z
    stirling = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, start=1)]
    rest = inverse * _horner(inverse * inverse, stirling) + (0.5 * math.log(2.0 * math.pi) - 0.5)
    far = (z - 0.5) * (xp.log(z) - 1.0) + rest
    return xp.where(x < _FAR, near, far)


@differentiable(shapes="... -> ...")
def digamma(x: Array) -> tuple[Array, Backward]:
    """The derivative of `gammaln`, for x of any shape; its own derivative is trigamma.

    NaN at 0 and at negative whole numbers, where it goes from minus to plus infinity.

    >>> import numpy as np
    >>> y, backward = digamma(np.asarray([1., 0.5]))
    >>> y.round(6)
    array([-0.577216, -1.96351 ])
    """
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return dy * trigamma(x)

    negative = x < 0
    z, total = xp.where(negative, 1.0 - x, x), xp.zeros_like(x)
    z = at_poles(z, z, 1.0)
    for _ in range(9):
        low = z < _FAR
        total = xp.where(low, total - 1.0 / z, total)
        z = xp.where(low, z + 1.0, z)
    inverse = 1.0 / z
    squared = inverse * inverse
    series = squared * _horner(squared, [b / (2 * k) for k, b in enumerate(_BERNOULLI, start=1)])
    value = total + (xp.log(z) - 0.5 * inverse - series)
    angle = xp.where(negative, math.pi * (x - xp.round(x)), 1.0)
    reflected = value - math.pi * xp.cos(angle) / xp.sin(at_poles(x, angle, 1.0))
    return at_poles(x, xp.where(negative, reflected, value), math.nan), backward


def trigamma(x: Array) -> Array:
    """The derivative of `digamma`, for x of any shape; NaN where that is."""
    xp = array_namespace(x)
    negative = x < 0
    z, total = xp.where(negative, 1.0 - x, x), xp.zeros_like(x)
    z = at_poles(z, z, 1.0)
    for _ in range(9):
        low = z < _FAR
        total = xp.where(low, total + 1.0 / (z * z), total)
        z = xp.where(low, z + 1.0, z)
    inverse = 1.0 / z
    squared = inverse * inverse
    value = total + (inverse + 0.5 * squared + inverse * squared * _horner(squared, _BERNOULLI))
    sine = xp.sin(at_poles(x, xp.where(negative, math.pi * (x - xp.round(x)), 1.0), 1.0))
    reflected = math.pi**2 / (sine * sine) - value
    return at_poles(x, xp.where(negative, reflected, value), math.nan)


def at_poles(x: Array, otherwise: Array, value: float) -> Array:
    """``value`` where x is 0 or a negative whole number."""
    xp = array_namespace(x)
    return xp.where((x <= 0) & (x == xp.round(x)), value, otherwise)


def _horner(x: Array, coefficients: Sequence[float]) -> Array:
    """``c_0 + c_1 x + c_2 x^2 + ...``"""
    total = x * 0.0 + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
