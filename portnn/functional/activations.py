"""Activation functions: elementwise, but for softmax and log_softmax, which couple the last axis.

Where a function has a kink, the derivative there is the one from the left.
"""

import math

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.errors import GradientError
from portnn.functional.special import erf
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

    return xp.astype(x > 0, x.dtype), backward


@differentiable(shapes="... -> ...")
def relu(x: Array) -> tuple[Array, Backward]:
    """The rectifier ``y = max(x, 0)``, for x of any shape.

    NaN stays NaN, so that a diverging network is noticed.

    >>> import numpy as np
    >>> y, backward = relu(np.asarray([-1., 0., 2.]))
    >>> y, backward(np.ones(3))
    (array([0., 0., 2.]), array([0., 0., 1.]))
    """
    xp = array_namespace(x)
    y = xp.where(x < 0, 0.0, x)

    def backward(dy: Array) -> Array:
        return xp.where(y > 0, dy, 0.0)

    return y, backward


@differentiable(shapes="... -> ...")
def leaky_relu(x: Array, slope: float = 0.1) -> tuple[Array, Backward]:
    """``y = x`` where ``x > 0``, else ``slope x``, for x of any shape (Maas et al. 2013).

    >>> import numpy as np
    >>> y, backward = leaky_relu(np.asarray([-1., 2.]))
    >>> y, backward(np.ones(2))
    (array([-0.1,  2. ]), array([0.1, 1. ]))
    """
    xp = array_namespace(x)

    def backward(dy: Array) -> Array:
        return xp.where(x > 0, dy, slope * dy)

    return xp.where(x > 0, x, slope * x), backward


@differentiable(shapes="... -> ...")
def elu(x: Array, alpha: float = 1.0) -> tuple[Array, Backward]:
    """``y = x`` where ``x > 0``, else ``alpha (exp(x) - 1)``, for x of any shape (Clevert et al. 2016)."""
    xp = array_namespace(x)
    negative = alpha * xp.expm1(xp.where(x > 0, 0.0, x))

    def backward(dy: Array) -> Array:
        return xp.where(x > 0, dy, dy * (negative + alpha))

    return xp.where(x > 0, x, negative), backward


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

    The exponential is of ``-|x|`` only, so nothing overflows.

    >>> import numpy as np
    >>> y, backward = sigmoid(np.asarray([-1000., 0., 1000.]))
    >>> y, backward(np.ones(3))
    (array([0. , 0.5, 1. ]), array([0.  , 0.25, 0.  ]))
    """
    xp = array_namespace(x)
    e = xp.exp(-xp.abs(x))
    y = xp.where(x < 0, e, 1.0) / (1.0 + e)

    def backward(dy: Array) -> Array:
        return dy * y * (1.0 - y)

    return y, backward


@differentiable(shapes="... -> ...")
def hard_sigmoid(x: Array) -> tuple[Array, Backward]:
    """``y = x / 6 + 1/2``, held within 0 and 1, for x of any shape (Howard et al. 2019)."""
    xp = array_namespace(x)
    inside = (x > -3) & (x <= 3)

    def backward(dy: Array) -> Array:
        return xp.where(inside, dy / 6.0, 0.0)

    return xp.where(x <= -3, 0.0, xp.where(x >= 3, 1.0, x / 6.0 + 0.5)), backward


@differentiable(shapes="... -> ...")
def tanh(x: Array) -> tuple[Array, Backward]:
    """The hyperbolic tangent, for x of any shape; ``dx = dy (1 - y^2)``.

    >>> import numpy as np
    >>> y, backward = tanh(np.asarray([0., 100.]))
    >>> y, backward(np.ones(2))
    (array([0., 1.]), array([1., 0.]))
    """
    xp = array_namespace(x)
    y = xp.tanh(x)

    def backward(dy: Array) -> Array:
        return dy * (1.0 - y * y)

    return y, backward


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
    value, pullback = erf(x / math.sqrt(2.0))

    def phi_backward(dy: Array) -> Array:
        return pullback(dy) / (2.0 * math.sqrt(2.0))

    return _gated(x, 0.5 * (1.0 + value), phi_backward)


@differentiable(shapes="... -> ...")
def gelu_tanh(x: Array) -> tuple[Array, Backward]:
    """`gelu` with Phi(x) taken as ``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`` (ibid.)."""
    root = math.sqrt(2.0 / math.pi)
    value, pullback = tanh(root * (x + 0.044715 * x * x * x))

    def phi_backward(dy: Array) -> Array:
        return pullback(dy) * (0.5 * root * (1.0 + 3.0 * 0.044715 * x * x))

    return _gated(x, 0.5 * (1.0 + value), phi_backward)


def _gated(x: Array, gate: Array, gate_backward: Backward) -> tuple[Array, Backward]:
    """``y = x gate(x)``."""

    def backward(dy: Array) -> Array:
        return dy * gate + gate_backward(dy * x)

    return x * gate, backward


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
    xp = array_namespace(x)
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    y = e / xp.sum(e, axis=-1, keepdims=True)

    def backward(dy: Array) -> Array:
        return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))

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
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))

    def backward(dy: Array) -> Array:
        return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)

    return y, backward
