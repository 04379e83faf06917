"""The precision of products inside the contexts of JAX's backend; asked by its twins."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax

__all__ = ["in_precision", "precision"]

#: JAX compiles anew for another one.
_entered = jax.make_user_context("float32")


def in_precision(name: str) -> AbstractContextManager[Any]:
    """What is entered for products in this precision."""
    if name == precision():
        return nullcontext()  # what is compiled for a default is compiled again where somebody says it
    chosen: AbstractContextManager[Any] = _entered(name)
    return chosen


def precision() -> str:
    """That of the innermost context."""
    name: str = _entered.value
    return name
