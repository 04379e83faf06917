"""Twins for torch: what it does better than the portable forms."""

from __future__ import annotations

from ..gamma import gamma_kernels
from ..special import erf_kernels
from . import convolution, linear, pooling, rows, sums

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("torch.special"),
    **gamma_kernels("torch.special"),
    **sums.KERNELS,
    **linear.KERNELS,
    **convolution.KERNELS,
    **pooling.KERNELS,
    **rows.KERNELS,
}
