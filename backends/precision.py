"""The precision of products inside the contexts of a backend, where the library does not keep it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Precision"]


class Precision:
    """Called, it tells that of the innermost context of this thread: of a backend, which has one of these."""

    def __init__(self, backend: str) -> None:
        self._entered: ContextVar[str] = ContextVar(f"portnn_precision_of_{backend}", default="float32")

    def __call__(self) -> str:
        return self._entered.get()

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        token = self._entered.set(name)
        try:
            yield
        finally:
            self._entered.reset(token)
