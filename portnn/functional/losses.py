"""The mathematics of the losses: one value for each example, without any reduction over the batch.

``values, backward = f(prediction, target)`` with values of shape (n,), and
``backward(dvalues) -> dprediction`` for dvalues of shape (n,). Targets get no gradient.
"""

import math

from array_api_compat import array_namespace, device

from portnn._typing import Array, Backward
from portnn.kernels import differentiable

__all__ = ["half_squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"]


@differentiable
def softmax_cross_entropy(logits: Array, target: Array) -> tuple[Array, Backward]:
    """Cross-entropy between softmax(logits) and the target: ``-sum_j t_j log softmax(logits)_j``.

    Parameters
    ----------
    logits : array, shape (n, k)
        Scores before the softmax.
    target : array, shape (n,) of integers in 0 .. k-1, or shape (n, k)
        Class numbers, or a distribution over the classes in each row (one-hot or soft).

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
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    t = _one_hot(target, logits) if target.ndim == 1 else target
    # A class that is ruled out by a score of minus infinity costs nothing where it is not the target.
    values = -xp.sum(t * xp.where(t == 0, 0.0, log_p), axis=-1)

    def backward(dvalues: Array) -> Array:
        mass = xp.sum(t, axis=-1, keepdims=True)
        return (xp.exp(log_p) * mass - t) * dvalues[:, None]

    return values, backward


def _one_hot(target: Array, logits: Array) -> Array:
    xp = array_namespace(logits)
    # Not in the dtype of the target: 300 classes do not fit into uint8.
    classes = xp.arange(logits.shape[-1], dtype=xp.int32, device=device(logits))
    return xp.astype(xp.astype(target, xp.int32)[:, None] == classes, logits.dtype)


@differentiable
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


@differentiable
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


def _sum_by_example(x: Array) -> Array:
    xp = array_namespace(x)
    # No -1: the standard leaves it undefined where n is 0.
    return xp.sum(xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))), axis=1)


def _column(values: Array, like: Array) -> Array:
    """Reshape (n,) so that it broadcasts against (n, ...)."""
    xp = array_namespace(values)
    return xp.reshape(values, (values.shape[0],) + (1,) * (like.ndim - 1))
