"""Twins for NumPy: the same mathematics with fewer passes over memory, on all cores."""

from __future__ import annotations

from ..special import erf_kernels
from . import convolution, linear, normalization, updates

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("scipy.special"),
    **linear.KERNELS,
    **convolution.KERNELS,
    **normalization.KERNELS,
    **updates.KERNELS,
}
