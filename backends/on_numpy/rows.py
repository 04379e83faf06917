"""Rows of a data set for NumPy, on all cores; the twin needs Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .compile import HAS_NUMBA, loops
from .recording import recorder
from .workspace import empty, share

__all__ = ["KERNELS"]


def _take_rows(x: Any, index: Any, dtype: Any) -> Any:
    here = recorder()
    if here is not None and x.dtype == np.dtype(dtype):
        return here.taken(x, index)  # NumPy does not say that the index is one of a recorded step
    compiled = loops("rows")
    if compiled is None or x.dtype != np.uint8 or not x.flags.c_contiguous or not x.size or not index.size:
        return NotImplemented
    if not compiled.are_rows(index, len(x)):  # the loops do not look
        raise IndexError(f"rows {index.min()} .. {index.max()} of {len(x)}")
    out = empty((len(index), *x.shape[1:]), np.dtype(dtype))
    rows, to = x.reshape(len(x), -1), out.reshape(len(index), -1)

    def part(some: slice) -> None:
        compiled.divided_rows(rows, index[some], 255.0, to[some])

    share(part, len(index), cost=out.size / 3)
    return out


def _scatter_add(x: Any, index: Any, values: Any) -> Any:
    out = np.array(x)
    np.add.at(out, index, values)
    return out


KERNELS = {"scatter_add": Kernel(_scatter_add)}
if HAS_NUMBA:
    KERNELS["take_rows"] = Kernel(_take_rows)
