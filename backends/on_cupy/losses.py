"""Twins of losses for CuPy: one launch each way."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

from .compile import FLOATS, dense, each, each_column, empty, kernel, lanes

__all__ = ["KERNELS"]


def _softmax_cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0) -> Any:
    if logits.dtype not in FLOATS or target.ndim != 1 or target.dtype.kind not in "iu" or not logits.size:
        return NotImplemented
    logits, target, (n, k) = dense(logits), dense(target), logits.shape
    types, smoothing = {"REAL": logits.dtype, "INDEX": target.dtype}, float(label_smoothing)
    p, values = empty((n, k), logits.dtype), empty((n,), logits.dtype)
    # A warp for each row.
    kernel("losses", "class_values", **types)(*each(32 * n), (logits, target, smoothing, n, k, p, values))

    def backward(dvalues: Any) -> Any:
        dlogits = empty((n, k), p.dtype)
        arguments = (p, target, smoothing, dense(dvalues), n, k, dlogits)
        kernel("losses", "class_slopes", **types)(*each_column(n, k, lanes(p.dtype)), arguments)
        return dlogits

    return values, backward


KERNELS = {"softmax_cross_entropy": Kernel(_softmax_cross_entropy)}
