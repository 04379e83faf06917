"""Twins for CuPy: the same mathematics in fewer launches."""

from __future__ import annotations

from ..special import erf_kernels
from . import convolution, linear, normalization, updates

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("cupyx.scipy.special"),
    **linear.KERNELS,
    **normalization.KERNELS,
    **convolution.KERNELS,
    **updates.KERNELS,
}
