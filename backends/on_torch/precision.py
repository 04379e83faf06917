"""The precision of products inside the contexts of torch's backend; asked by its twins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["in_precision", "precision"]

_entered: ContextVar[str] = ContextVar("portnn_precision_of_torch", default="float32")

#: That of the innermost context.
precision = _entered.get


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    token = _entered.set(name)
    try:
        yield
    finally:
        _entered.reset(token)
