"""The mathematics of the losses: one value for each example, without any reduction over the batch.

``values, backward = f(prediction, target)`` with values of shape (n,), and
``backward(dvalues) -> dprediction`` for dvalues of shape (n,). Targets get no gradient.
"""

import math

from array_api_compat import array_namespace, device

from portnn._typing import Array, Backward
from portnn.functional.activations import log_softmax
from portnn.kernels import differentiable

__all__ = [
    "absolute_error",
    "half_poisson_deviance",
    "half_squared_error",
    "huber",
    "kl_divergence",
    "negative_log_likelihood",
    "poisson",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
]


@differentiable(shapes="n k, n | n k -> n")
def softmax_cross_entropy(logits: Array, target: Array, label_smoothing: float = 0.0) -> tuple[Array, Backward]:
    """Cross-entropy between softmax(logits) and the target: ``-sum_j t_j log softmax(logits)_j``.

    Parameters
    ----------
    logits : array, shape (n, k)
        Scores before the softmax. Minus infinity rules a class out.
    target : array, shape (n,) of integers from 0 to k-1, or shape (n, k)
        Class numbers, or a distribution over the classes in each row (one-hot or soft).
    label_smoothing : float, default 0.0
        ``t`` becomes ``(1 - s) t + s / k`` (Szegedy et al. 2016).

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dlogits``, ``dlogits = (softmax(logits) sum_j t_j - t) dvalues``.

    Examples
    --------
    >>> import numpy as np
    >>> values, backward = softmax_cross_entropy(np.asarray([[3., 3.]]), np.asarray([0]))
    >>> backward(np.ones(1))
    array([[-0.5,  0.5]])
    """
    xp = array_namespace(logits)
    log_p, _ = log_softmax(logits)
    rows = _rows(target, logits)
    t = (1.0 - label_smoothing) * rows + label_smoothing / logits.shape[-1] if label_smoothing else rows

    def backward(dvalues: Array) -> Array:
        return (xp.exp(log_p) * xp.sum(t, axis=-1, keepdims=True) - t) * dvalues[:, None]

    return -xp.sum(t * xp.where(t == 0, 0.0, log_p), axis=-1), backward


@differentiable(shapes="n k, n | n k -> n")
def negative_log_likelihood(probabilities: Array, target: Array, eps: float = 1e-7) -> tuple[Array, Backward]:
    """``-sum_j t_j log(p_j + eps)``, for a network that ends in a softmax.

    `softmax_cross_entropy` on the scores before it needs no guard, and is more exact.

    Parameters
    ----------
    probabilities : array, shape (n, k)
    target : array, shape (n,) of integers from 0 to k-1, or shape (n, k)
    eps : float, default 1e-7
        Keeps the logarithm of 0 away.

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dprobabilities``, ``-t / (p + eps) dvalues``.
    """
    xp = array_namespace(probabilities)
    t = _rows(target, probabilities)
    p = xp.where(t == 0, 1.0, probabilities + eps)  # what is not the target costs nothing, whatever its probability

    def backward(dvalues: Array) -> Array:
        return -t / p * dvalues[:, None]

    return -xp.sum(t * xp.log(p), axis=-1), backward


@differentiable(shapes="n k, n | n k -> n")
def kl_divergence(logits: Array, target: Array) -> tuple[Array, Backward]:
    """Kullback-Leibler divergence of softmax(logits) from the target: ``sum_j t_j (log t_j - log softmax(logits)_j)``.

    Parameters
    ----------
    logits : array, shape (n, k)
    target : array, shape (n, k), or shape (n,) of integers from 0 to k-1
        A distribution over the classes in each row; ``0 log 0`` is 0.

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        As of `softmax_cross_entropy`.
    """
    xp = array_namespace(logits)
    t = _rows(target, logits)
    cross_entropy, backward = softmax_cross_entropy(logits, t)
    return cross_entropy + xp.sum(t * xp.log(xp.where(t == 0, 1.0, t)), axis=-1), backward


def _rows(target: Array, like: Array) -> Array:
    """The target as rows over the classes: class numbers become one-hot."""
    if target.ndim != 1:
        return target
    xp = array_namespace(like)
    # Not in the dtype of the target: 300 classes do not fit into uint8.
    classes = xp.arange(like.shape[-1], dtype=xp.int32, device=device(like))
    return xp.astype(xp.astype(target, xp.int32)[:, None] == classes, like.dtype)


@differentiable(shapes="n ..., n ... -> n")
def sigmoid_cross_entropy(logits: Array, target: Array) -> tuple[Array, Backward]:
    """Binary cross-entropy of sigmoid(logits), summed over the outputs of an example.

    ``sum_j -t_j log s(x_j) - (1 - t_j) log(1 - s(x_j))``, computed as ``max(x, 0) - x t + log(1 + exp(-|x|))``,
    which neither overflows nor takes the logarithm of 0.

    Parameters
    ----------
    logits : array, shape (n, ...)
        Scores before the sigmoid.
    target : array, shape of logits
        Probabilities in [0, 1]; usually 0 or 1.

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dlogits``, ``dlogits = (s(logits) - t) dvalues``.
    """
    xp = array_namespace(logits)
    e = xp.exp(-xp.abs(logits))
    elementwise = xp.where(logits < 0, 0.0, logits) - logits * target + xp.log1p(e)

    def backward(dvalues: Array) -> Array:
        probability = xp.where(logits < 0, e, 1.0) / (1.0 + e)
        return (probability - target) * _column(dvalues, logits)

    return _sum_by_example(elementwise), backward


@differentiable(shapes="n ..., n ... -> n")
def half_squared_error(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """Half of the squared distance, summed over the outputs of an example: ``1/2 sum_j (y_j - t_j)^2``.

    Parameters
    ----------
    prediction, target : array, shape (n, ...)

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dprediction``, ``dprediction = (y - t) dvalues``.

    Examples
    --------
    >>> import numpy as np
    >>> values, backward = half_squared_error(np.asarray([[3., 3.]]), np.asarray([[1., 2.]]))
    >>> values, backward(np.ones(1))
    (array([2.5]), array([[2., 1.]]))
    """
    difference = prediction - target

    def backward(dvalues: Array) -> Array:
        return difference * _column(dvalues, prediction)

    return _sum_by_example(0.5 * difference * difference), backward


@differentiable(shapes="n ..., n ... -> n")
def squared_error(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """``mean_j (y_j - t_j)^2`` over the outputs of an example. Arguments and results as of `half_squared_error`."""
    difference = prediction - target
    count = math.prod(prediction.shape[1:])

    def backward(dvalues: Array) -> Array:
        return difference * (2.0 / count) * _column(dvalues, prediction)

    return _sum_by_example(difference * difference) / count, backward


@differentiable(shapes="n ..., n ... -> n")
def absolute_error(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """``mean_j |y_j - t_j|`` over the outputs of an example. Arguments and results as of `half_squared_error`.

    The derivative where y = t is taken as 0.
    """
    xp = array_namespace(prediction)
    difference = prediction - target
    count = math.prod(prediction.shape[1:])

    def backward(dvalues: Array) -> Array:
        return xp.sign(difference) / count * _column(dvalues, prediction)

    return _sum_by_example(xp.abs(difference)) / count, backward


@differentiable(shapes="n ..., n ... -> n")
def huber(prediction: Array, target: Array, delta: float = 1.0) -> tuple[Array, Backward]:
    """Squared near the target, absolute far from it (Huber 1964); the mean over the outputs of an example.

    With ``r = y - t``: ``r^2 / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``. Arguments and results as
    of `half_squared_error`.
    """
    xp = array_namespace(prediction)
    difference = prediction - target
    size = xp.abs(difference)
    near = size <= delta
    count = math.prod(prediction.shape[1:])

    def backward(dvalues: Array) -> Array:
        return xp.where(near, difference, delta * xp.sign(difference)) / count * _column(dvalues, prediction)

    values = xp.where(near, 0.5 * difference * difference, delta * (size - 0.5 * delta))
    return _sum_by_example(values) / count, backward


@differentiable(shapes="n ..., n ... -> n")
def poisson(log_rate: Array, target: Array) -> tuple[Array, Backward]:
    """Negative log-likelihood of counts under a Poisson law, but for ``log t!``: ``mean_j exp(x_j) - t_j x_j``.

    Parameters
    ----------
    log_rate : array, shape (n, ...)
        Logarithm of the expected count.
    target : array, shape of log_rate
        Counts, >= 0.

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dlog_rate``, ``(exp(x) - t) / count dvalues``.
    """
    xp = array_namespace(log_rate)
    rate = xp.exp(log_rate)
    count = math.prod(log_rate.shape[1:])

    def backward(dvalues: Array) -> Array:
        return (rate - target) / count * _column(dvalues, log_rate)

    return _sum_by_example(rate - target * log_rate) / count, backward


@differentiable(shapes="n ..., n ... -> n")
def half_poisson_deviance(log_rate: Array, target: Array) -> tuple[Array, Backward]:
    """Half of the Poisson deviance, summed over the outputs: ``sum_j t_j log t_j - t_j - t_j x_j + exp(x_j)``.

    `poisson`, but for the sum in the place of the mean, and for a constant that makes the smallest value 0 (McCullagh
    and Nelder 1989, section 2.3).

    Parameters
    ----------
    log_rate : array, shape (n, ...)
        Logarithm of the expected count.
    target : array, shape of log_rate
        Counts, >= 0; ``0 log 0`` is 0.

    Returns
    -------
    values : array, shape (n,)
    backward : callable
        ``backward(dvalues) -> dlog_rate``, ``(exp(x) - t) dvalues``.
    """
    xp = array_namespace(log_rate)
    rate = xp.exp(log_rate)
    least = target * xp.log(xp.where(target > 0, target, 1.0)) - target

    def backward(dvalues: Array) -> Array:
        return (rate - target) * _column(dvalues, log_rate)

    return _sum_by_example(least - target * log_rate + rate), backward


def _sum_by_example(x: Array) -> Array:
    xp = array_namespace(x)
    # No -1: the standard leaves it undefined where n is 0.
    return xp.sum(xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), axis=1)


def _column(values: Array, like: Array) -> Array:
    """Reshape (n,) so that it broadcasts against (n, ...)."""
    xp = array_namespace(values)
    return xp.reshape(values, (values.shape[0],) + (1,) * (like.ndim - 1))
