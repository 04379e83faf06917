"""Measures of a prediction that are not trained on: 0-d arrays, the mean over the batch."""

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
    return xp.mean(xp.astype(chosen == right, prediction.dtype))


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
    xp = array_namespace(prediction)
    return xp.mean(xp.astype((prediction > 0) == (target > 0.5), prediction.dtype))
