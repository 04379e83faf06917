"""Measures of a prediction that are not trained on: ``metric(prediction, target) -> 0-d array``.

A `portnn.Trainer` calls a metric once, with the predictions and targets of all examples, in the network's library and
on its device. One that is a `Sums` says by its type how batches are put together: no predictions are kept for it.
Where the examples have weights, metrics with a parameter ``sample_weight`` are given them, shape (n,); others count
every example alike. Of a prediction that is NaN nobody can say whether it is right: then the accuracies are NaN.
"""

from __future__ import annotations

import functools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.errors import ShapeError
from portnn.functional.losses import class_numbers
from portnn.shapes import shaped

__all__ = ["Mean", "Sums", "accuracy", "binary_accuracy"]


class Sums(ABC):
    """A metric that is a function of sums over the examples, which can be added up batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> class RootMeanSquare(Sums):
    ...     def sums(self, prediction, target, sample_weight=None):
    ...         weight = np.ones(len(target)) if sample_weight is None else sample_weight
    ...         return np.sum(weight * (prediction - target)[:, 0] ** 2), np.sum(weight)
    ...
    ...     def result(self, squares, weight):
    ...         return (squares / weight) ** 0.5
    >>> float(RootMeanSquare()(np.ones((4, 1)), np.asarray([[1.0], [1.0], [3.0], [3.0]])).round(3))
    1.414
    """

    @abstractmethod
    def sums(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> tuple[Array, ...]:
        """0-d arrays for some of the examples; ``sample_weight`` has shape (n,)."""

    @abstractmethod
    def result(self, *sums: float) -> float:
        """The metric, from the sums over all examples."""

    def __call__(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The metric of these examples."""
        return self.result(*self.sums(prediction, target, sample_weight))


class Mean(Sums):
    """The mean over the examples of a function, by their weights; a decorator.

    Parameters
    ----------
    function : callable
        ``function(prediction, target) -> array of shape (n,)``: a value for each example.

    Examples
    --------
    >>> import numpy as np
    >>> @Mean
    ... def off_by(prediction, target):
    ...     return abs(prediction - target)[:, 0]
    >>> float(off_by(np.ones((4, 1)), np.zeros((4, 1))))
    1.0
    """

    def __init__(self, function: Callable[[Array, Array], Array]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def sums(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> tuple[Array, ...]:
        values = self.function(prediction, target)
        if values.ndim != 1:
            raise ShapeError(
                f"{self} must give one value for each example, shape (n,), not an array of shape {tuple(values.shape)}"
            )
        xp = array_namespace(values)
        if sample_weight is not None and sample_weight.shape != values.shape:
            raise ShapeError(
                f"sample_weight is one number an example, {tuple(values.shape)}, not {tuple(sample_weight.shape)}"
            )
        if sample_weight is None:
            return xp.sum(values), xp.sum(xp.ones_like(values))
        # What does not count may be infinite.
        return xp.sum(sample_weight * xp.where(sample_weight == 0, 0.0, values)), xp.sum(sample_weight)

    def result(self, *sums: float) -> float:
        total, weight = sums
        return total / weight

    def __repr__(self) -> str:
        return f"<Mean of {getattr(self.function, '__qualname__', self.function)}>"

    def __reduce__(self) -> str | tuple[type[Mean], tuple[Callable[[Array, Array], Array]]]:
        # As a decorator it stands in the place of its function, which cannot be found by its name any more.
        name = str(getattr(self, "__qualname__", ""))
        decorates = getattr(sys.modules.get(self.__module__), name, None) is self
        return name if decorates else (Mean, (self.function,))


@Mean
@shaped("n k, n | n k -> n")
def accuracy(prediction: Array, target: Array) -> Array:
    """Share of the examples whose largest score is at the right class.

    Parameters
    ----------
    prediction : array, shape (n, k)
        Scores, logits or probabilities.
    target : array, shape (n,) of integers, or shape (n, k)
        Class numbers, or rows whose largest entry is the right class.
    sample_weight : array, shape (n,), optional

    Returns
    -------
    array, 0-d, dtype of prediction

    Raises
    ------
    ShapeError
        If there are not two scores at least for each example.
    DataError
        If class numbers are no integers.

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
    chosen, unknown = xp.argmax(prediction, axis=-1), xp.any(_is_nan(prediction), axis=-1)
    if target.ndim == 1:
        number, known = class_numbers(target, prediction.shape[-1])
        hits = (xp.astype(chosen, number.dtype) == number) & known
    else:
        hits, unknown = chosen == xp.argmax(target, axis=-1), unknown | xp.any(_is_nan(target), axis=-1)
    return xp.where(unknown, math.nan, xp.astype(hits, prediction.dtype))


@Mean
@shaped("n ..., n ... -> n")
def binary_accuracy(prediction: Array, target: Array) -> Array:
    """Share of the outputs on the right side: ``prediction > 0``, as for logits, where ``target > 0.5``.

    Parameters
    ----------
    prediction, target : array, shape (n, ...)
    sample_weight : array, shape (n,), optional

    Returns
    -------
    array, 0-d, dtype of prediction
    """
    xp = array_namespace(prediction)
    hits = xp.astype((prediction > 0) == (target > 0.5), prediction.dtype)
    hits = xp.where(_is_nan(prediction) | _is_nan(target), math.nan, hits)
    return xp.mean(xp.reshape(hits, (hits.shape[0], math.prod(hits.shape[1:]))), axis=1)


def _is_nan(x: Array) -> Array:
    return x != x  # of integers, too, for which the standard has no isnan


#: Where doctest looks for the examples of what is no function.
__test__ = {metric.__name__: metric.__doc__ for metric in (accuracy, binary_accuracy)}  # type: ignore[attr-defined]
