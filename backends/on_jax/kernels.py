"""Twins for JAX: what XLA does better than the portable forms."""

from __future__ import annotations

from ..gamma import gamma_kernels
from ..special import erf_kernels
from . import convolution, linear, pooling, rows, sums

__all__ = ["KERNELS"]

KERNELS = {
    **erf_kernels("jax.scipy.special"),
    **gamma_kernels("jax.scipy.special"),
    **sums.KERNELS,
    **linear.KERNELS,
    **convolution.KERNELS,
    **pooling.KERNELS,
    **rows.KERNELS,
}
