"""Rows for torch."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

__all__ = ["KERNELS"]


def _scatter_add(x: Any, index: Any, values: Any) -> Any:
    # It takes no negative numbers, nor those of few bits.
    return x.index_add(0, index.long() % max(len(x), 1), values)


KERNELS = {"scatter_add": Kernel(_scatter_add)}
