"""What the twins for NumPy ask of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .workspace import contiguous

__all__ = ["FLOATS", "flat"]

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def flat(x: Any) -> Any:
    """The values one after the other, as they lie in memory."""
    return contiguous(x).reshape(-1)
