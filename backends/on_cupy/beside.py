"""Two computations side by side, where steps are recorded: see `portnn_backends.on_cupy.recording.Branch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["beside", "branching"]

A = TypeVar("A")
B = TypeVar("B")

#: From so many pairs of numbers on, one product keeps the whole device busy.
_LARGE = 2**28


class _Both(Protocol):
    def both(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]: ...


_branch: ContextVar[_Both | None] = ContextVar("portnn_branch", default=None)


@contextmanager
def branching(branch: _Both) -> Iterator[None]:
    """Inside, `beside` leaves it to this one."""
    token = _branch.set(branch)
    try:
        yield
    finally:
        _branch.reset(token)


def beside(first: Callable[[], A], second: Callable[[], B], pairs: int) -> tuple[A, B]:
    """What two functions give, neither of which writes to what the other one reads or writes.

    ``pairs`` is how many pairs of numbers a product in them multiplies: large ones are done in a row.
    """
    branch = _branch.get()
    return (first(), second()) if branch is None or pairs >= _LARGE else branch.both(first, second)
