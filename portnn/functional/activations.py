"""Activation functions: elementwise, but for softmax, which couples the last axis."""

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.kernels import differentiable

__all__ = ["relu", "sigmoid", "softmax", "tanh"]


@differentiable
def relu(x: Array) -> tuple[Array, Backward]:
    """The rectifier ``y = max(x, 0)``, for x of any shape.

    Its derivative at 0 is taken as 0. NaN stays NaN, so that a diverging network is noticed.

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


@differentiable
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


@differentiable
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


@differentiable
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
