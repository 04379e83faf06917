"""Measures of a prediction that are not trained on: 0-d arrays, the mean over the batch.

Of a prediction that is NaN nobody can say whether it is right: then they are NaN.
"""

import math

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.errors import ShapeError
from portnn.shapes import shaped

__all__ = ["accuracy", "binary_accuracy"]


@shaped("n k, n | n k -> ")
def accuracy(prediction: Array, target: Array) -> Array:
    """Share of the examples whose largest score is at the right class.

    Parameters
    ----------
    prediction : array, shape (n, k)
        Scores, logits or probabilities.
    target : array, shape (n,) of integers, or shape (n, k)
        Class numbers, or rows whose largest entry is the right class.

    Returns
    -------
    array, 0-d, dtype of prediction

    Raises
    ------
    ShapeError
        If there are not two scores at least for each example.

    Examples
    --------
    >>> import numpy as np
    >>> accuracy(np.asarray([[2., 1.], [0., 3.], [5., 4.]]), np.asarray([0, 1, 1])).round(3)
    np.float64(0.667)
    """
    if prediction.shape[1] < 2:
        raise ShapeError(
            f"accuracy compares the scores of two or more classes, shape (n, k), not {tuple(prediction.shape)}; "
            "for one output, take binary_accuracy"
        )
    xp = array_namespace(prediction)
    chosen = xp.argmax(prediction, axis=-1)
    right = xp.astype(target, chosen.dtype) if target.ndim == 1 else xp.argmax(target, axis=-1)
    unknown = xp.any(_is_nan(prediction), axis=-1)
    if target.ndim > 1:
        unknown = unknown | xp.any(_is_nan(target), axis=-1)
    return _share(chosen == right, unknown, prediction)


@shaped("n ..., n ... -> ")
def binary_accuracy(prediction: Array, target: Array) -> Array:
    """Share of the outputs on the right side: ``prediction > 0``, as for logits, where ``target > 0.5``.

    Parameters
    ----------
    prediction, target : array, shape (n, ...)

    Returns
    -------
    array, 0-d, dtype of prediction
    """
    return _share((prediction > 0) == (target > 0.5), _is_nan(prediction) | _is_nan(target), prediction)


def _is_nan(x: Array) -> Array:
    return x != x  # of integers, too, for which the standard has no isnan


def _share(right: Array, unknown: Array, like: Array) -> Array:
    """The mean of truth values as numbers, NaN if one of them is unknown."""
    xp = array_namespace(like)
    return xp.mean(xp.where(unknown, math.nan, xp.astype(right, like.dtype)))
