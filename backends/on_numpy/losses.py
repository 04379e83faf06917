"""Twins of losses for NumPy; they need Numba."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

from .compile import HAS_NUMBA, loops
from .workspace import contiguous, empty, share

__all__ = ["KERNELS"]


def _softmax_cross_entropy(logits: Any, target: Any, label_smoothing: float = 0.0) -> Any:
    compiled = loops("losses")
    if compiled is None or target.ndim != 1 or target.dtype.kind not in "iu":
        return NotImplemented
    logits = contiguous(logits)
    p, values = empty(logits.shape, logits.dtype), empty((len(logits),), logits.dtype)

    def forward(rows: slice) -> None:
        compiled.class_values(logits[rows], target[rows], label_smoothing, p[rows], values[rows])

    share(forward, len(logits), cost=6 * logits.size)

    def backward(dvalues: Any) -> Any:
        dlogits = empty(p.shape, p.dtype)

        def part(rows: slice) -> None:
            compiled.class_slopes(p[rows], target[rows], label_smoothing, dvalues[rows], dlogits[rows])

        share(part, len(p), cost=p.size)
        return dlogits

    return values, backward


KERNELS: dict[str, Kernel] = {}
if HAS_NUMBA:
    KERNELS["softmax_cross_entropy"] = Kernel(_softmax_cross_entropy)
