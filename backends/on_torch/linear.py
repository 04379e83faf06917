"""Products of matrices for torch, where their factors are to be rounded to bfloat16; others are torch's own.

On CUDA, cuBLAS takes factors of bfloat16 and gives the sums in float32. On the CPU torch would round the sums, too, so
there the rounded factors are multiplied in float32, which is what the precision means.
"""

from __future__ import annotations

from typing import Any

import torch

from portnn.functional.sums import sum_over
from portnn.kernels import Kernel

from .precision import precision

__all__ = ["KERNELS", "in_bf16", "rounded"]


def in_bf16(*arrays: Any) -> bool:
    """Whether a product of these arrays is one of rounded factors."""
    return precision() == "bf16" and all([a.dtype == torch.float32 for a in arrays])


def rounded(a: Any) -> Any:
    """The nearest numbers of bfloat16, in float32."""
    return a.to(torch.bfloat16).float()


def _product(a: Any, b: Any) -> Any:
    """``a @ b`` in float32, (..., n, k) and (..., k, m) of bfloat16."""
    if a.device.type != "cuda" or not a.numel() * b.numel():
        return a.float() @ b.float()
    if a.ndim == 2:
        return torch.mm(a, b, out_dtype=torch.float32)
    stacked = torch.bmm(a.flatten(0, -3), b.flatten(0, -3), out_dtype=torch.float32)
    return stacked.unflatten(0, a.shape[:-2])


def _matmul(a: Any, b: Any) -> Any:
    if not in_bf16(a, b):
        return NotImplemented
    return _product(a.to(torch.bfloat16), b.to(torch.bfloat16))


def _affine(x: Any, w: Any, b: Any) -> Any:
    """The portable form, but every factor is rounded once for all its products."""
    if not in_bf16(x, w):
        return NotImplemented
    rows, weights = x.to(torch.bfloat16), w.to(torch.bfloat16)
    y = _product(rows, weights) + b

    def backward(dy: Any, input_grad: bool = True) -> Any:
        slopes = dy.to(torch.bfloat16)
        dx = _product(slopes, weights.T) if input_grad else None
        return dx, _product(rows.T, slopes), sum_over(dy, 0)

    return y, backward


KERNELS = {"matmul": Kernel(_matmul), "affine": Kernel(_affine)}
