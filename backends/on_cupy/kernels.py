"""Twins for CuPy: the same mathematics in fewer launches."""

from __future__ import annotations

from ..gamma import gamma_kernels
from ..special import erf_kernels
from . import activations, convolution, linear, losses, normalization, pooling, reductions, rows, updates

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("cupyx.scipy.special"),
    **gamma_kernels("cupyx.scipy.special"),
    **linear.KERNELS,
    **activations.KERNELS,
    **losses.KERNELS,
    **reductions.KERNELS,
    **rows.KERNELS,
    **convolution.KERNELS,
    **pooling.KERNELS,
    **normalization.KERNELS,
    **updates.KERNELS,
}
