"""Which NVIDIA GPUs have TF32."""

from __future__ import annotations

__all__ = ["lack_of_tf32"]


def lack_of_tf32(capability: float) -> str | None:
    """Why a GPU of this compute capability cannot multiply in TF32, for `Backend.without_tf32`; None if it can."""
    return None if capability >= 8 else f"its compute capability is {capability}, and TF32 came with 8.0 (Ampere)"
