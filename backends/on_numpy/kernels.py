"""Twins for NumPy: the same mathematics with fewer passes over memory, on all cores.

Without Numba (the extra ``fast``) what NumPy does well is written with its ``out=`` arguments, and the rest is left to
the portable forms.
"""

from __future__ import annotations

from ..gamma import gamma_kernels
from ..special import erf_kernels
from . import activations, convolution, linear, losses, normalization, pooling, rows, sums, updates

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("scipy.special"),
    **gamma_kernels("scipy.special"),
    **linear.KERNELS,
    **activations.KERNELS,
    **losses.KERNELS,
    **sums.KERNELS,
    **rows.KERNELS,
    **convolution.KERNELS,
    **pooling.KERNELS,
    **normalization.KERNELS,
    **updates.KERNELS,
}
