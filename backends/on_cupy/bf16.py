"""Factors of products in precision bf16: numbers of float32, rounded to bfloat16 by kernels of our own."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compile import dense, each_some, empty, kernel
from .precision import precision

__all__ = ["bits", "in_bf16", "rounded"]


def in_bf16(*arrays: Any) -> bool:
    """Whether a product of these arrays is one of rounded factors."""
    return precision() == "bf16" and all([a.dtype == np.float32 for a in arrays])


def bits(a: Any) -> Any:
    """The nearest numbers of bfloat16, as uint16, laid out as the matrices are, or as their transposes."""
    return _converted("to_bfloat16", a, np.uint16)


def rounded(a: Any) -> Any:
    """The same in float32."""
    return _converted("round_to_bfloat16", a, np.uint32).view(np.float32)


def _converted(name: str, a: Any, dtype: Any) -> Any:
    """Transposes are converted as they lie in memory, without a copy."""
    axes = (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
    turned = a.transpose(*axes)
    by_columns = turned.flags.c_contiguous and not a.flags.c_contiguous
    given = dense(turned if by_columns else a)
    made = empty(given.shape, dtype)
    kernel("bfloat16", name)(*each_some(given.size, made.dtype), (given.view(np.uint32), given.size, made))
    return made.transpose(*axes) if by_columns else made
