"""The mathematics: functions of arrays that return their value and its pullback.

``y, backward = f(x, ...)`` and then ``dx, ... = backward(dy)``, where ``dy`` is the gradient of some scalar with
respect to ``y``. What backward needs is captured by the closure, so nothing is stored anywhere; it may be called
more than once, and never changes what it captured or was given.

Each function states the shapes of its arrays (``affine.shapes``, and in its docstring), and raises ShapeError for
others, also for a ``dy`` that has not the shape of ``y``: nothing broadcasts by accident. See `portnn.shapes`.
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
from portnn.functional.convolution import conv2d, conv_transpose2d
from portnn.functional.gamma import digamma, gammaln
from portnn.functional.linear import affine, matmul
from portnn.functional.losses import (
    absolute_error,
    half_poisson_deviance,
    half_squared_error,
    huber,
    kl_divergence,
    negative_log_likelihood,
    poisson,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
)
from portnn.functional.normalization import batch_norm, batch_norm_inference, channel_moments, layer_norm
from portnn.functional.pooling import average_pool2d, global_average_pool, max_pool2d
from portnn.functional.rows import as_float, scatter_add, take_rows
from portnn.functional.shapes import channels_last, flatten, pad, reshape
from portnn.functional.special import erf, erfc

__all__ = [
    "absolute_error",
    "affine",
    "as_float",
    "average_pool2d",
    "batch_norm",
    "batch_norm_inference",
    "channel_moments",
    "channels_last",
    "conv2d",
    "conv_transpose2d",
    "digamma",
    "elu",
    "erf",
    "erfc",
    "flatten",
    "gammaln",
    "gelu",
    "gelu_tanh",
    "global_average_pool",
    "half_poisson_deviance",
    "half_squared_error",
    "hard_sigmoid",
    "hard_swish",
    "huber",
    "identity",
    "kl_divergence",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "negative_log_likelihood",
    "pad",
    "poisson",
    "relu",
    "reshape",
    "scatter_add",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "step",
    "take_rows",
    "tanh",
]
