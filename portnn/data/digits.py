"""The handwritten digits that come with scikit-learn: 1,797 images of 8 x 8, no download."""

from __future__ import annotations

import numpy as np

from portnn.data.dataset import Dataset
from portnn.errors import DataError
from portnn.random import Stream

__all__ = ["load_digits"]

_TEST_SIZE = 360


def load_digits() -> Dataset:
    """1,437 training and 360 test images, float32 in [0, 1], shape (8, 8); always the same split.

    The source is the test set of the UCI digits of Alpaydin and Kaynak (1998), as scikit-learn bundles it.

    Raises
    ------
    DataError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise DataError("the digits come with scikit-learn, which is not installed: pip install scikit-learn") from None
    bunch = load()
    x = (bunch.images / 16.0).astype(np.float32)
    y = bunch.target.astype(np.int64)
    order = Stream(0).child("digits").permutation(len(x))
    test, train = order[:_TEST_SIZE], order[_TEST_SIZE:]
    return Dataset("digits", x[train], y[train], x[test], y[test], classes=10)
