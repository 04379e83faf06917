"""Normalisation to mean 0 and variance 1, followed by a scale and a shift that are learned.

The variance is the biased one, the mean of the squared deviations. With ``x_hat`` the normalised values, N the number
of values that share statistics, and sums over those, the gradient is (Ioffe and Szegedy 2015, section 3):
``dx = gamma / sqrt(var + eps) (dy - mean(dy) - x_hat mean(dy x_hat))``.
"""

import math

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.kernels import array_function, differentiable

__all__ = ["batch_norm", "batch_norm_inference", "channel_moments", "layer_norm"]


@array_function(shapes="... k -> k")
def channel_moments(x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of every channel: of x, shape (n, ..., k), over all axes but the last; shape (k,)."""
    xp, axes = array_namespace(x), tuple(range(x.ndim - 1))
    return xp.mean(x, axis=axes), xp.var(x, axis=axes)


@differentiable(shapes="... k, k, k -> ... k")
def batch_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Normalise every channel by its mean and variance over the batch, as in training.

    Parameters
    ----------
    x : array, shape (n, ..., k)
        Statistics are over all axes but the last.
    gamma, beta : array, shape (k,)
        Scale and shift.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape of x
    backward : callable
        ``backward(dy) -> (dx, dgamma, dbeta)``.
    """
    xp, axes = array_namespace(x), tuple(range(x.ndim - 1))
    x_hat, inverse = _standardise(x, axes, eps)
    count = math.prod(x.shape[:-1])

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        dgamma, dbeta = xp.sum(dy * x_hat, axis=axes), xp.sum(dy, axis=axes)
        return gamma * inverse * (dy - dbeta / count - x_hat * (dgamma / count)), dgamma, dbeta

    return gamma * x_hat + beta, backward


@differentiable(shapes="... k, k, k, k, k -> ... k")
def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = 1e-5
) -> tuple[Array, Backward]:
    """Normalise every channel by a mean and a variance that are given, as at inference.

    Parameters
    ----------
    x : array, shape (..., k)
    gamma, beta : array, shape (k,)
        Scale and shift.
    mean, var : array, shape (k,)
        Usually running averages; they get no gradient.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape of x
    backward : callable
        ``backward(dy) -> (dx, dgamma, dbeta)``.
    """
    xp, leading = array_namespace(x), tuple(range(x.ndim - 1))
    inverse = 1.0 / xp.sqrt(var + eps)
    x_hat = (x - mean) * inverse

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        return gamma * inverse * dy, xp.sum(dy * x_hat, axis=leading), xp.sum(dy, axis=leading)

    return gamma * x_hat + beta, backward


@differentiable(shapes="... k, k, k -> ... k")
def layer_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Normalise every example by its mean and variance over the last axis (Ba et al. 2016).

    Parameters
    ----------
    x : array, shape (..., k)
    gamma, beta : array, shape (k,)
        Scale and shift.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    y : array, shape of x
    backward : callable
        ``backward(dy) -> (dx, dgamma, dbeta)``.
    """
    xp, leading = array_namespace(x), tuple(range(x.ndim - 1))
    x_hat, inverse = _standardise(x, (-1,), eps)

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        g = gamma * dy
        along = xp.mean(g, axis=-1, keepdims=True) + x_hat * xp.mean(g * x_hat, axis=-1, keepdims=True)
        return inverse * (g - along), xp.sum(dy * x_hat, axis=leading), xp.sum(dy, axis=leading)

    return gamma * x_hat + beta, backward


def _standardise(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """``(x - mean) / sqrt(var + eps)`` over some axes, and ``1 / sqrt(var + eps)`` with these axes kept."""
    xp = array_namespace(x)
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    inverse = 1.0 / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps)
    return centred * inverse, inverse
