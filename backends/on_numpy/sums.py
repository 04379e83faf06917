"""Sums for NumPy, as matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .arrays import FLOATS

__all__ = ["KERNELS", "column_sums"]

#: Rows that are summed by one matrix product.
_SUMMED_BY_PRODUCT = 1024


def column_sums(x: Any, out: Any = None) -> Any:
    """The sum of the rows of a matrix, by products with ones: three times as fast as a sum over short rows.

    Within a product rounding errors add up as in a serial sum, so each has a bounded number of rows. ``out`` is where
    the sums are to be written, if that is known.
    """
    n, most = len(x), _SUMMED_BY_PRODUCT
    if n <= most:
        return np.matmul(np.ones(n, x.dtype), x, out=out)
    blocks = np.ones(most, x.dtype) @ x[: n // most * most].reshape(n // most, most, x.shape[1])
    return column_sums(np.concatenate([blocks, column_sums(x[n // most * most :])[None]]), out)


def _sum_over(x: Any, axis: int) -> Any:
    return column_sums(x) if x.ndim == 2 and axis == 0 else NotImplemented


KERNELS = {"sum_over": Kernel(_sum_over, dtypes=FLOATS)}
