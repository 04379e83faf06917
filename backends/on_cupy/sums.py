"""Sums over the rows of matrices for CuPy.

A matrix is parted into slabs of rows if it has many of them: a first launch sums each slab, and a second one the sums.
What is in them depends on the shape alone, so results are the same in every run.
"""

from __future__ import annotations

import math
from typing import Any

from .compile import by_columns, empty, kernel, lanes

__all__ = ["by_slabs", "column_sums", "slabs_of", "total_of"]

#: Rows that one thread sums by itself before more blocks are worth a second launch.
_ROWS = 16

#: Blocks that keep any GPU busy.
_BLOCKS = 1024


def slabs_of(n: int, m: int) -> int:
    """Into how many slabs of rows a matrix (n, m) is parted."""
    (across, _), (_, high) = by_columns(n, m)
    return max(min(math.ceil(n / (high * _ROWS)), _BLOCKS // across), 1)


def by_slabs(n: int, m: int, slabs: int, dtype: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """As `by_columns`, for the kernels made of ``sum_columns``, whose threads take several columns each."""
    grid, (wide, high) = by_columns(n, m, slabs)
    return grid, (max(wide // lanes(dtype), 1), high)


def column_sums(x: Any) -> Any:
    """The sum over the rows of a C-contiguous matrix (n, m): shape (m,)."""
    n, m = x.shape
    slabs = slabs_of(n, m)
    sums = empty((slabs, m), x.dtype)
    kernel("sums", "column_sums", REAL=x.dtype)(*by_slabs(n, m, slabs, x.dtype), (x, n, m, sums))
    return total_of(sums)


def total_of(sums: Any) -> Any:
    """The sums over all rows, shape (m,), of those over each slab, (slabs, m)."""
    slabs, m = sums.shape
    if slabs == 1:
        return sums.reshape(m)
    total = empty((m,), sums.dtype)
    kernel("sums", "column_sums", REAL=sums.dtype)(*by_slabs(slabs, m, 1, sums.dtype), (sums, slabs, m, total))
    return total
