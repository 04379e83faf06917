"""How data enters a network: rows are gathered by number and read as floats."""

from array_api_compat import array_namespace, device

from portnn._typing import Array, DType
from portnn.kernels import array_function

__all__ = ["as_float", "scatter_add", "take_rows"]


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


@array_function(shapes="m ..., n, n ... -> m ...")
def scatter_add(x: Array, index: Array, values: Array) -> Array:
    """``x`` with ``values[i]`` added to row ``index[i]``, for every i: the adjoint of taking rows.

    Parameters
    ----------
    x : array, shape (m, ...)
    index : array, shape (n,) of integers
        From -m to m - 1; rows may occur any number of times, and what is added to one of them adds up.
    values : array, shape (n, ...), dtype of x

    Returns
    -------
    array, shape and dtype of x

    Examples
    --------
    >>> import numpy as np
    >>> scatter_add(np.zeros(3), np.asarray([0, 2, 2]), np.asarray([1., 10., 100.]))
    array([  1.,   0., 110.])
    """
    # The standard can add to places, but not twice to the same one. So what belongs to one row is brought together, and
    # added up by doubling; not by products with ones and zeros, as zero times infinity is NaN.
    xp, m, n = array_namespace(x), x.shape[0], values.shape[0]
    if n == 0:
        return x + xp.sum(values, axis=0)
    every = xp.arange(m, device=device(x))
    rows = xp.astype(index, every.dtype)
    rows = xp.where(rows < 0, rows + m, rows)
    order = xp.argsort(rows)
    rows, total = xp.take(rows, order, axis=0), xp.take(values, order, axis=0)
    column, step = (n, *[1] * (x.ndim - 1)), 1
    while step < n:
        same = xp.reshape(rows[step:] == rows[:-step], (n - step, *column[1:]))
        total = xp.concat([total[:step, ...], total[step:, ...] + xp.where(same, total[:-step, ...], 0.0)], axis=0)
        step *= 2
    behind = xp.searchsorted(rows, every, side="right")
    last = xp.where(behind > 0, behind - 1, 0)
    found = xp.reshape((behind > 0) & (xp.take(rows, last, axis=0) == every), (m, *column[1:]))
    return x + xp.where(found, xp.take(total, last, axis=0), 0.0)
