"""Twins for NumPy: the same mathematics with fewer passes over memory, on all cores."""

from __future__ import annotations

from . import numpy_images, numpy_normalization, numpy_rows, numpy_updates
from .erf_kernels import erf_kernels

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("scipy.special"),
    **numpy_rows.KERNELS,
    **numpy_images.KERNELS,
    **numpy_normalization.KERNELS,
    **numpy_updates.KERNELS,
}
