"""The matrix products of the CuPy twins, all in one place."""

from __future__ import annotations

from typing import Any

__all__ = ["product"]


def product(a: Any, b: Any) -> Any:
    """``a @ b``, C-contiguous, for two matrices of one dtype, either of which may be a transposed one."""
    return a @ b
