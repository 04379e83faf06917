"""Which NVIDIA GPUs have products of bfloat16."""

from __future__ import annotations

__all__ = ["lack_of_bf16"]


def lack_of_bf16(capability: float) -> str | None:
    """Why a GPU of this compute capability cannot multiply in bfloat16, for `Backend.without_bf16`; None if it can."""
    return None if capability >= 8 else f"its compute capability is {capability}, and bfloat16 came with 8.0 (Ampere)"
