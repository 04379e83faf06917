"""The mathematics of the losses: one value for each example, without any reduction over the batch.

``values, backward = f(prediction, target)`` with values of shape (n,), and
``backward(dvalues) -> dprediction`` for dvalues of shape (n,). Targets get no gradient. At infinite predictions values
and gradients are their limits, where there are any.
"""

import math

from array_api_compat import array_namespace, device

from portnn._typing import Array, Backward
from portnn.errors import DataError
from portnn.functional.activations import log_softmax
from portnn.functional.reductions import along_last
from portnn.kernels import differentiable

__all__ = [
    "absolute_error",
    "class_numbers",
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


@differentiable(shapes="n k, n | n k -> n", gradients=1)
def softmax_cross_entropy(logits: Array, target: Array, label_smoothing: float = 0.0) -> tuple[Array, Backward]:
    """Cross-entropy between softmax(logits) and the target: ``-sum_j t_j log softmax(logits)_j``.

    Parameters
    ----------
    logits : array, shape (n, k)
        Scores before the softmax. Minus infinity rules a class out.
    target : array, shape (n,) of integers from 0 to k-1, or shape (n, k)
        Class numbers, or a distribution over the classes in each row (one-hot or soft). For a number that is none of
        the classes, value and gradient of the example are NaN; so in all losses of this module that take them.
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
        return (xp.exp(log_p) * along_last(t, "sum") - t) * dvalues[:, None]

    return -along_last(t * xp.where(t == 0, 0.0, log_p), "sum")[:, 0], backward


@differentiable(shapes="n k, n | n k -> n", gradients=1)
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

    return -along_last(t * xp.log(p), "sum")[:, 0], backward


@differentiable(shapes="n k, n | n k -> n", gradients=1)
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
    return cross_entropy + along_last(t * xp.log(xp.where(t == 0, 1.0, t)), "sum")[:, 0], backward


def _rows(target: Array, like: Array) -> Array:
    """The target as rows over the classes: class numbers become one-hot, and NaN where there is no such class."""
    if target.ndim != 1:
        return target
    xp, k = array_namespace(like), like.shape[-1]
    number, known = class_numbers(target, k)
    classes = xp.arange(k, dtype=xp.int32, device=device(like))
    return xp.where(known[:, None], xp.astype(number[:, None] == classes, like.dtype), math.nan)


def class_numbers(target: Array, k: int) -> tuple[Array, Array]:
    """Class numbers, shape (n,) of any integers, as int32, and which of them are in ``0 .. k-1``.

    Raises DataError where they are no integers.
    """
    xp = array_namespace(target)
    if not xp.isdtype(target.dtype, "integral"):
        if xp.isdtype(target.dtype, "bool"):
            return class_numbers(xp.astype(target, xp.int32), k)
        raise DataError(f"class numbers must be integers, not {target.dtype}: give integers, or rows over the classes")
    # Looked at before they are cast: 2^32 + 1 is no class 1. And 300 classes do not fit into uint8.
    known = (target >= 0) & (target <= min(k - 1, int(xp.iinfo(target.dtype).max)))
    return xp.astype(target, xp.int32), known


@differentiable(shapes="n ..., n ... -> n", gradients=1)
def sigmoid_cross_entropy(logits: Array, target: Array) -> tuple[Array, Backward]:
    """Binary cross-entropy of sigmoid(logits), summed over the outputs of an example.

    ``sum_j -t_j log s(x_j) - (1 - t_j) log(1 - s(x_j))``, computed as ``|x| w + log(1 + exp(-|x|))`` with the share w
    of the target that x speaks against, ``t`` or ``1 - t``: this neither overflows nor takes the logarithm of 0.

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
    size = xp.abs(logits)
    e = xp.exp(-size)
    against = xp.where(logits < 0, target, 1.0 - target)
    elementwise = against * xp.where(against == 0, 0.0, size) + xp.log1p(e)

    def backward(dvalues: Array) -> Array:
        # s(x) (1 - t) - s(-x) t: of s(x) - t nothing is left where s(x) is next to 1.
        one, zero = xp.where(logits < 0, e, 1.0), xp.where(logits < 0, 1.0, e)
        return (one * (1.0 - target) - zero * target) / (1.0 + e) * _column(dvalues, logits)

    return _sum_by_example(elementwise), backward


@differentiable(shapes="n ..., n ... -> n", gradients=1)
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


@differentiable(shapes="n ..., n ... -> n", gradients=1)
def squared_error(prediction: Array, target: Array) -> tuple[Array, Backward]:
    """``mean_j (y_j - t_j)^2`` over the outputs of an example. Arguments and results as of `half_squared_error`."""
    difference = prediction - target
    count = math.prod(prediction.shape[1:])

    def backward(dvalues: Array) -> Array:
        return difference * (2.0 / count) * _column(dvalues, prediction)

    return _sum_by_example(difference * difference) / count, backward


@differentiable(shapes="n ..., n ... -> n", gradients=1)
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


@differentiable(shapes="n ..., n ... -> n", gradients=1)
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


@differentiable(shapes="n ..., n ... -> n", gradients=1)
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

    # No part of it where nothing was counted, nor where an infinite rate outdoes it.
    part = target * xp.where((target == 0) | (rate == math.inf), 0.0, log_rate)
    return _sum_by_example(rate - part) / count, backward


@differentiable(shapes="n ..., n ... -> n", gradients=1)
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
    # t (exp(d) - 1 - d), where the terms of the formula would cancel for large counts.
    apart = log_rate - xp.log(xp.where(target > 0, target, 1.0))
    apart = xp.where(rate == math.inf, 0.0, apart)
    values = xp.where((target == 0) | (rate == math.inf), rate, target * (xp.expm1(apart) - apart))

    def backward(dvalues: Array) -> Array:
        return (rate - target) * _column(dvalues, log_rate)

    return _sum_by_example(values), backward


def _sum_by_example(x: Array) -> Array:
    xp = array_namespace(x)
    # No -1: the standard leaves it undefined where n is 0.
    return along_last(xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), "sum")[:, 0]


def _column(values: Array, like: Array) -> Array:
    """Reshape (n,) so that it broadcasts against (n, ...)."""
    xp = array_namespace(values)
    return xp.reshape(values, (values.shape[0],) + (1,) * (like.ndim - 1))
