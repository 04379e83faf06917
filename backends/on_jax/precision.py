"""The precision of products inside the contexts of JAX's backend; asked by its twins."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax

__all__ = ["precision"]


class Precision:
    """As `portnn_backends.precision.Precision`, but JAX keeps it, and compiles anew for another one."""

    def __init__(self) -> None:
        self._entered: Any = jax.make_user_context("float32")

    def __call__(self) -> str:
        name: str = self._entered.value
        return name

    def entered(self, name: str) -> AbstractContextManager[Any]:
        if name == self():
            return nullcontext()  # what is compiled for a default is compiled again where somebody says it
        chosen: AbstractContextManager[Any] = self._entered(name)
        return chosen


precision = Precision()
