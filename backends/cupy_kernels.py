"""Twins for CuPy: the same mathematics in fewer launches."""

from __future__ import annotations

from . import cupy_columns, cupy_images, cupy_rows, cupy_updates
from .erf_kernels import erf_kernels

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("cupyx.scipy.special"),
    **cupy_rows.KERNELS,
    **cupy_columns.KERNELS,
    **cupy_images.KERNELS,
    **cupy_updates.KERNELS,
}
