"""A data set for classification, split for training and test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset"]


class Dataset(NamedTuple):
    """Host arrays of a classification task.

    Attributes
    ----------
    name : str
    x_train, x_test : array, shape (n, ...)
    y_train, y_test : int64 array, shape (n,)
    classes : int
        Number of classes; the labels are 0 to classes-1.
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    classes: int
