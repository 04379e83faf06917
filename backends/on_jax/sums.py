"""Sums for JAX: XLA's own."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

__all__ = ["KERNELS"]


def _sum_over(x: Any, axis: int) -> Any:
    return x.sum(axis=axis)


KERNELS = {"sum_over": Kernel(_sum_over)}
