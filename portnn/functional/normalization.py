"""Normalisation to mean 0 and variance 1, followed by a scale and a shift that are learned.

The variance is the biased one, the mean of the squared deviations. With ``x_hat`` the normalised values, N the number
of values that share statistics, and sums over those, the gradient is (Ioffe and Szegedy 2015, section 3):
``dx = gamma / sqrt(var + eps) (dy - mean(dy) - x_hat mean(dy x_hat))``.
"""

from array_api_compat import array_namespace

from portnn._typing import Array, Backward
from portnn.functional.reductions import along_last
from portnn.functional.sums import as_rows, mean_over, sum_leading, sum_over
from portnn.kernels import array_function, differentiable

__all__ = ["batch_norm", "batch_norm_inference", "batch_norm_with_moments", "channel_moments", "layer_norm"]


@array_function(shapes="... k -> k")
def channel_moments(x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of every channel: of x, shape (n, ..., k), over all axes but the last; shape (k,).

    NaN where there are no values.
    """
    _, mean, variance = _centred(as_rows(x))
    return mean, variance


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
    (y, _, _), backward = batch_norm_with_moments.portable(x, gamma, beta, eps)
    return y, backward


@differentiable(shapes="... k, k, k -> ... k")
def batch_norm_with_moments(
    x: Array, gamma: Array, beta: Array, eps: float = 1e-5
) -> tuple[tuple[Array, Array, Array], Backward]:
    """As `batch_norm`, with the moments that it has found: ``(y, mean, variance), backward``.

    They are those of `channel_moments`, for running averages, and get no gradient.
    """
    xp = array_namespace(x)
    centred, mean, variance = _centred(as_rows(x))
    inverse = 1.0 / xp.sqrt(variance + eps)
    x_hat, count = centred * inverse, max(centred.shape[0], 1)

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        slopes = as_rows(dy)
        dgamma, dbeta = sum_over(slopes * x_hat, 0), sum_over(slopes, 0)
        dx = gamma * inverse * (slopes - dbeta / count - x_hat * (dgamma / count))
        return xp.reshape(dx, x.shape), dgamma, dbeta

    return (xp.reshape(gamma * x_hat + beta, x.shape), mean, variance), backward


@differentiable(shapes="... k, k, k, k, k -> ... k", gradients=3)
def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = 1e-5
) -> tuple[Array, Backward]:
    """Normalise every channel by a mean and a variance that are given, as at inference.

    Parameters
    ----------
    x, gamma, beta, eps
        As of `batch_norm`, and so are the results.
    mean, var : array, shape (k,)
        Usually running averages; they get no gradient.
    """
    xp = array_namespace(x)
    inverse = 1.0 / xp.sqrt(var + eps)
    x_hat = (x - mean) * inverse

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        return gamma * inverse * dy, sum_leading(dy * x_hat), sum_leading(dy)

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
    xp = array_namespace(x)
    centred = x - along_last(x, "mean")
    inverse = 1.0 / xp.sqrt(along_last(centred * centred, "mean") + eps)
    x_hat = centred * inverse

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        g = gamma * dy
        along = along_last(g, "mean") + x_hat * along_last(g * x_hat, "mean")
        return inverse * (g - along), sum_leading(dy * x_hat), sum_leading(dy)

    return gamma * x_hat + beta, backward


def _centred(x: Array) -> tuple[Array, Array, Array]:
    """The distances of the rows of a matrix from their mean, the mean, and the mean of their squares."""
    # From the first row on, so that a mean far from 0 costs no precision; a sum, as there may be no first row.
    first = array_namespace(x).sum(x[: min(1, x.shape[0]), :], axis=0)
    apart = x - first
    away = mean_over(apart, 0)
    centred = apart - away
    return centred, first + away, mean_over(centred * centred, 0)
