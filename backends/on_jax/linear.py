"""Products of matrices for JAX, where their factors are to be rounded to bfloat16; others are XLA's own."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from portnn.kernels import Kernel

from .precision import precision

__all__ = ["KERNELS", "in_bf16", "rounded"]


def in_bf16(*arrays: Any) -> bool:
    """Whether a product of these arrays is one of rounded factors."""
    return precision() == "bf16" and all([a.dtype == jax.numpy.float32 for a in arrays])


def rounded(a: Any) -> Any:
    """The nearest numbers of bfloat16, in float32.

    XLA takes a conversion to bfloat16 and back for nothing, and on the CPU DotAlgorithmPreset.BF16_BF16_F32 for
    float32.
    """
    return lax.reduce_precision(a, exponent_bits=8, mantissa_bits=7)


def _matmul(a: Any, b: Any) -> Any:
    if not in_bf16(a, b):
        return NotImplemented
    a, b = [rounded(factor).astype(jax.numpy.bfloat16) for factor in (a, b)]
    # The precision says how float32 factors are read; these are read as they are.
    return jax.numpy.matmul(a, b, precision=lax.Precision.DEFAULT, preferred_element_type=jax.numpy.float32)


KERNELS = {"matmul": Kernel(_matmul)}
