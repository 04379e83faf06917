"""How data enters a network: rows are gathered by number and read as floats."""

from array_api_compat import array_namespace

from portnn._typing import Array, DType
from portnn.kernels import array_function

__all__ = ["as_float", "take_rows"]


def as_float(x: Array, dtype: DType) -> Array:
    """Read an array as floats of ``dtype``; bytes are read as pixels.

    uint8 means brightness from 0 to 255 and is divided by 255. Every other dtype is cast. The rule holds wherever
    data enters a network, in training and in prediction, so images can stay bytes until they are used. It does not hold
    for `MLPClassifier` and `MLPRegressor`, which take bytes for numbers, as scikit-learn does.

    >>> import numpy as np
    >>> as_float(np.asarray([0, 51, 255], dtype=np.uint8), np.dtype("float32"))
    array([0. , 0.2, 1. ], dtype=float32)
    """
    if x.dtype == dtype:
        return x
    xp = array_namespace(x)
    values = xp.astype(x, dtype)
    return values / 255.0 if x.dtype == xp.uint8 else values


@array_function(shapes="m ..., n -> n ...")
def take_rows(x: Array, index: Array, dtype: DType) -> Array:
    """Rows of ``x``, shape (N, ...), by ``index``, shape (n,) of integers, read as floats: shape (n, ...)."""
    xp = array_namespace(x)
    return as_float(xp.take(x, index, axis=0), dtype)
