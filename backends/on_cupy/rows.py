"""Rows of a data set for CuPy, in one launch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .compile import FLOATS, dense, each_column, empty, kernel

__all__ = ["KERNELS"]

#: Bytes that a thread reads at once.
_WIDTH = 4


def _take_rows(x: Any, index: Any, dtype: Any) -> Any:
    whole = x.dtype == np.uint8 and x.flags.c_contiguous and x.size
    if not whole or np.dtype(dtype) not in FLOATS or index.dtype.kind not in "iu":
        return NotImplemented
    out = empty((len(index), *x.shape[1:]), np.dtype(dtype))
    index, n, width = dense(index), len(out), math.prod(x.shape[1:])
    gather = kernel("rows", "divided_rows", REAL=out.dtype, INDEX=index.dtype)
    gather(*each_column(n, width, _WIDTH), (x, index, len(x), n, width, out))
    return out


def _scatter_add(x: Any, index: Any, values: Any) -> Any:
    import cupy

    out = x.copy()
    cupy.add.at(out, index, values)
    return out


KERNELS = {"take_rows": Kernel(_take_rows), "scatter_add": Kernel(_scatter_add)}
