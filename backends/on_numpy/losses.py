"""Twins of losses for NumPy; they need Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.kernels import Kernel

from .compile import HAS_NUMBA, loops

__all__ = ["KERNELS"]


def _softmax_cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0) -> Any:
    compiled = loops("losses")
    if compiled is None or target.ndim != 1 or target.dtype.kind not in "iu":
        return NotImplemented
    logits, p, values = np.ascontiguousarray(logits), np.empty_like(logits), np.empty(len(logits), logits.dtype)
    compiled.class_values(logits, target, label_smoothing, p, values)

    def backward(dvalues: Any) -> Any:
        dlogits = np.empty_like(p)
        compiled.class_slopes(p, target, label_smoothing, dvalues, dlogits)
        return dlogits

    return values, backward


KERNELS: dict[str, Kernel] = {}
if HAS_NUMBA:
    KERNELS["softmax_cross_entropy"] = Kernel(_softmax_cross_entropy)
