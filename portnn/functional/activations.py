"""Activation functions: elementwise, but for softmax and log_softmax, which couple the last axis.

Where a function has a kink, the derivative there is the one from the left. At infinity values and derivatives are
their limits; at NaN both are NaN, so that a diverging network is noticed.
"""

import math

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.errors import GradientError
from portnn.functional.reductions import along_last
from portnn.functional.special import erfc
from portnn.kernels import differentiable

__all__ = [
    "elu",
    "gelu",
    "gelu_tanh",
    "hard_sigmoid",
    "hard_swish",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "step",
    "tanh",
]

# Klambauer et al. 2017, appendix A1: the fixed point of mean 0 and variance 1.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805

#: From here on the gates of the GELUs are 0 or 1, and their slopes 0, in float64, too; x^3 is far from overflow.
_GATES_CLOSED = 100.0


@differentiable(shapes="... -> ...")
def identity(x: Array) -> tuple[Array, Backward]:
    """``y = x``, for x of any shape; the activation of a linear output."""

    def backward(dy: Array) -> Array:
        return dy

    return x, backward


@differentiable(shapes="... -> ...")
def step(x: Array) -> tuple[Array, Backward]:
    """``y = 1`` where ``x > 0``, else 0: the activation of the perceptron, for x of any shape.

    Its derivative is 0 almost everywhere, so nothing can be learned through it: backward raises GradientError.

    >>> import numpy as np
    >>> y, backward = step(np.asarray([-1., 0., 2.]))
    >>> y
    array([0., 0., 1.])
    """
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        raise GradientError("the step function has no gradient to learn from: use sigmoid, tanh or relu in training")

    return xp.where(x == x, xp.astype(x > 0, x.dtype), x), backward


@differentiable(shapes="... -> ...")
def relu(x: Array) -> tuple[Array, Backward]:
    """The rectifier ``y = max(x, 0)``, for x of any shape.

    >>> import numpy as np
    >>> y, backward = relu(np.asarray([-1., 0., 2.]))
    >>> y, backward(np.ones(3))
    (array([0., 0., 2.]), array([0., 0., 1.]))
    """
    xp = array_namespace(x)
    y = xp.where(x < 0, 0.0, x)

    def backward(dy: Array) -> Array:
        return xp.where(y > 0, dy, 0.0 * y)  # NaN where y is

    return y, backward


@differentiable(shapes="... -> ...")
def leaky_relu(x: Array, slope: float = 0.1) -> tuple[Array, Backward]:
    """``y = x`` where ``x > 0``, else ``slope x``, for x of any shape (Maas et al. 2013).

    >>> import numpy as np
    >>> y, backward = leaky_relu(np.asarray([-1., 2.]))
    >>> y, backward(np.ones(2))
    (array([-0.1,  2. ]), array([0.1, 1. ]))
    """
    if slope == 0:
        return relu(x)
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return xp.where(x > 0, dy, xp.where(x <= 0, slope * dy, x))

    return xp.where(x > 0, x, slope * x), backward


@differentiable(shapes="... -> ...")
def elu(x: Array, alpha: float = 1.0) -> tuple[Array, Backward]:
    """``y = x`` where ``x > 0``, else ``alpha (exp(x) - 1)``, for x of any shape (Clevert et al. 2016)."""
    xp = array_namespace(x)
    below = xp.where(x > 0, 0.0, x)

    def backward(dy: Array) -> Array:
        # Not y + alpha, of which nothing is left far below 0.
        return dy * xp.where(x > 0, 1.0, alpha * xp.exp(below))

    return xp.where(x > 0, x, alpha * xp.expm1(below)), backward


@differentiable(shapes="... -> ...")
def selu(x: Array) -> tuple[Array, Backward]:
    """``scale * elu(x, alpha)`` with the constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    y, pullback = elu(x, _SELU_ALPHA)

    def backward(dy: Array) -> Array:
        return pullback(_SELU_SCALE * dy)

    return _SELU_SCALE * y, backward


@differentiable(shapes="... -> ...")
def sigmoid(x: Array) -> tuple[Array, Backward]:
    """The logistic function ``y = 1 / (1 + exp(-x))``, for x of any shape; ``dx = dy y (1 - y)``.

    The exponential is of ``-|x|`` only, so nothing overflows. ``y (1 - y)`` is taken from it, too: for large x nothing
    is left of ``1 - y``.

    >>> import numpy as np
    >>> y, backward = sigmoid(np.asarray([-1000., 0., 1000.]))
    >>> y, backward(np.ones(3))
    (array([0. , 0.5, 1. ]), array([0.  , 0.25, 0.  ]))
    """
    xp = array_namespace(x)
    e = xp.exp(-xp.abs(x))

    def backward(dy: Array) -> Array:
        return dy * (e / ((1.0 + e) * (1.0 + e)))

    return xp.where(x < 0, e, 1.0) / (1.0 + e), backward


@differentiable(shapes="... -> ...")
def hard_sigmoid(x: Array) -> tuple[Array, Backward]:
    """``y = x / 6 + 1/2``, held within 0 and 1, for x of any shape (Howard et al. 2019)."""
    xp = array_namespace(x)
    inside = (x > -3) & (x <= 3)

    def backward(dy: Array) -> Array:
        return xp.where(inside, dy / 6.0, xp.where(x == x, 0.0, x))

    return xp.where(x <= -3, 0.0, xp.where(x >= 3, 1.0, (x + 3.0) / 6.0)), backward


@differentiable(shapes="... -> ...")
def tanh(x: Array) -> tuple[Array, Backward]:
    """The hyperbolic tangent, for x of any shape; ``dx = dy (1 - y^2)``.

    >>> import numpy as np
    >>> y, backward = tanh(np.asarray([0., 1000.]))
    >>> y, backward(np.ones(2))
    (array([0., 1.]), array([1., 0.]))
    """
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        # Not 1 - y^2, of which nothing is left where y is next to 1.
        e = xp.exp(-xp.abs(x))
        half = e / (1.0 + e * e)
        return dy * (4.0 * half * half)

    return xp.tanh(x), backward


@differentiable(shapes="... -> ...")
def softplus(x: Array) -> tuple[Array, Backward]:
    """``y = log(1 + exp(x))``, for x of any shape, as ``max(x, 0) + log(1 + exp(-|x|))``; ``dx = dy sigmoid(x)``.

    >>> import numpy as np
    >>> y, backward = softplus(np.asarray([-1000., 1000.]))
    >>> y, backward(np.ones(2))
    (array([   0., 1000.]), array([0., 1.]))
    """
    xp = array_namespace(x)
    e = xp.exp(-xp.abs(x))

    def backward(dy: Array) -> Array:
        return dy * xp.where(x < 0, e, 1.0) / (1.0 + e)

    return xp.where(x < 0, 0.0, x) + xp.log1p(e), backward


@differentiable(shapes="... -> ...")
def silu(x: Array) -> tuple[Array, Backward]:
    """``y = x sigmoid(x)``, also called swish, for x of any shape (Elfwing et al. 2018)."""
    return _gated(x, *sigmoid(x))


@differentiable(shapes="... -> ...")
def hard_swish(x: Array) -> tuple[Array, Backward]:
    """``y = x hard_sigmoid(x)``, for x of any shape (Howard et al. 2019)."""
    return _gated(x, *hard_sigmoid(x))


@differentiable(shapes="... -> ...")
def gelu(x: Array) -> tuple[Array, Backward]:
    """``y = x Phi(x)``, Phi the normal distribution function, for x of any shape (Hendrycks and Gimpel 2016)."""
    xp = array_namespace(x)
    z = _within(x, _GATES_CLOSED)

    def phi_backward(dy: Array) -> Array:
        return dy * (xp.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))

    return _gated(x, 0.5 * erfc(x * -math.sqrt(0.5))[0], phi_backward)


@differentiable(shapes="... -> ...")
def gelu_tanh(x: Array) -> tuple[Array, Backward]:
    """`gelu` with Phi(x) taken as ``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`` (ibid.).

    That is the logistic function of twice the argument, of which something is left where tanh is next to -1.
    """
    root, z = 2.0 * math.sqrt(2.0 / math.pi), _within(x, _GATES_CLOSED)
    value, pullback = sigmoid(root * (z + 0.044715 * z * z * z))

    def phi_backward(dy: Array) -> Array:
        return dy * pullback(root * (1.0 + 3.0 * 0.044715 * z * z))

    return _gated(x, value, phi_backward)


def _within(x: Array, bound: float) -> Array:
    """x, and the bound of its sign beyond it; NaN stays."""
    xp = array_namespace(x)
    return xp.where(x > bound, bound, xp.where(x < -bound, -bound, x))


def _gated(x: Array, gate: Array, gate_backward: Backward) -> tuple[Array, Backward]:
    """``y = x gate(x)``, with a gate that is closed, and has no slope any more, long before x is infinite."""
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return dy * (gate + gate_backward(xp.where(xp.abs(x) == math.inf, 0.0, x)))

    return xp.where(x == -math.inf, -0.0, x) * gate, backward


@differentiable(shapes="... k -> ... k")
def softmax(x: Array) -> tuple[Array, Backward]:
    """Probabilities over the last axis: ``y_j = exp(x_j) / sum_i exp(x_i)``, for x of shape (..., k).

    The pullback is the product with the full Jacobian ``dy_j/dx_i = y_j (delta_ij - y_i)``:
    ``dx = y (dy - sum_j dy_j y_j)``.

    >>> import numpy as np
    >>> y, backward = softmax(np.asarray([[1000., 1000.]]))
    >>> y, backward(np.asarray([[1., 0.]]))
    (array([[0.5, 0.5]]), array([[ 0.25, -0.25]]))
    """
    _, e, total = _exponentials(x)
    y = e / total

    def backward(dy: Array) -> Array:
        return y * (dy - along_last(dy * y, "sum"))

    return y, backward


@differentiable(shapes="... k -> ... k")
def log_softmax(x: Array) -> tuple[Array, Backward]:
    """The logarithm of `softmax`, without the detour over it: ``y = x - log sum_i exp(x_i)``, for x of shape (..., k).

    ``dx = dy - softmax(x) sum_j dy_j``.

    >>> import numpy as np
    >>> y, backward = log_softmax(np.asarray([[1000., 0.]]))
    >>> y
    array([[    0., -1000.]])
    """
    xp = array_namespace(x)
    shifted, _, total = _exponentials(x)
    y = shifted - xp.log(total)

    def backward(dy: Array) -> Array:
        return dy - xp.exp(y) * along_last(dy, "sum")

    return y, backward


def _exponentials(x: Array) -> tuple[Array, Array, Array]:
    """``x - max(x)`` along the last axis, its exponentials, and their sum.

    One infinite score takes all. The sum is NaN if several are infinite, or all minus infinity: there is no limit.
    """
    xp = array_namespace(x)
    largest = along_last(x, "max")
    top = x == largest
    shifted = xp.where(top, 0.0, x) - xp.where(top, 0.0, largest)  # infinity minus infinity is not asked for
    e = xp.exp(shifted)
    total = along_last(e, "sum")
    undecided = (largest == -math.inf) | ((largest == math.inf) & (total > 1))
    return shifted, e, xp.where(undecided, math.nan, total)
