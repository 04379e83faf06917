"""The mathematics: functions of arrays that return their value and its pullback.

``y, backward = f(x, ...)`` and then ``dx, ... = backward(dy)``, where ``dy`` is the gradient of some scalar with
respect to ``y``. What backward needs is captured by the closure, so nothing is stored anywhere; it may be called
more than once, and never changes what it captured or was given.
"""

from portnn.functional.activations import relu, sigmoid, softmax, tanh
from portnn.functional.linear import affine
from portnn.functional.losses import half_squared_error, sigmoid_cross_entropy, softmax_cross_entropy
from portnn.functional.rows import as_float, take_rows

__all__ = [
    "affine",
    "as_float",
    "half_squared_error",
    "relu",
    "sigmoid",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "take_rows",
    "tanh",
]
