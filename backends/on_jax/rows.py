"""Rows for JAX."""

from __future__ import annotations

from typing import Any

from portnn.kernels import Kernel

__all__ = ["KERNELS"]


def _scatter_add(x: Any, index: Any, values: Any) -> Any:
    return x.at[index].add(values)


KERNELS = {"scatter_add": Kernel(_scatter_add)}
