"""The mathematics: functions of arrays that return their value and its pullback.

``y, backward = f(x, ...)`` and then ``dx, ... = backward(dy)``, where ``dy`` is the gradient of some scalar with
respect to ``y``. What backward needs is captured by the closure, so nothing is stored anywhere; it may be called
more than once, and never changes what it captured or was given.
"""

from portnn.functional.activations import (
    elu,
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_swish,
    identity,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    step,
    tanh,
)
from portnn.functional.linear import affine
from portnn.functional.losses import half_squared_error, sigmoid_cross_entropy, softmax_cross_entropy
from portnn.functional.rows import as_float, take_rows
from portnn.functional.special import erf

__all__ = [
    "affine",
    "as_float",
    "elu",
    "erf",
    "gelu",
    "gelu_tanh",
    "half_squared_error",
    "hard_sigmoid",
    "hard_swish",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "step",
    "take_rows",
    "tanh",
]
