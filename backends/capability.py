"""What NVIDIA GPUs can multiply in, by their compute capability."""

from __future__ import annotations

__all__ = ["lack_of"]


def lack_of(what: str, capability: float) -> str | None:
    """Why a GPU of this compute capability cannot multiply in TF32 or bfloat16: the end of a sentence; None if it can.

    For `Backend.without_tf32` and `Backend.without_bf16`.
    """
    return None if capability >= 8 else f"its compute capability is {capability}, and {what} came with 8.0 (Ampere)"
