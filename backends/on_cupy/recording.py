"""How steps are recorded: on a stream, in a pool of memory, and with a cuBLAS of their own; and their trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy

from portnn import tree
from portnn.errors import BackendError

from .blas import Products, directly
from .choices import Choices
from .timing import captured

__all__ = ["Recorder", "check_apart", "in_place", "kind_of", "leaves_of"]


class Recorder:
    """The stream on which steps are recorded, the pool of what they compute, and cuBLAS on that stream.

    Parameters
    ----------
    tf32 : bool
        Whether products of float32 are computed in TF32.
    choices : Choices, optional
        Which algorithms of products the run goes by. Default: those of the machine.
    """

    def __init__(self, tf32: bool, choices: Choices | None = None) -> None:
        # The null stream cannot be captured, and one that waits for it would be disturbed by it.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        # Nothing else may get memory that a graph writes to at every launch: a pool of its own, and no results from it.
        self._pool = cupy.cuda.MemoryPool()
        with self._stream:
            self._products = Products(self._stream, tf32, choices or Choices())

    def compute(self, body: Callable[[], Any]) -> Any:
        """What ``body()`` gives, computed as it will be recorded, but at once."""
        cupy.cuda.get_current_stream().synchronize()
        with self._inside():
            try:
                made = body()
            finally:
                self._stream.synchronize()  # whatever happens: nobody else may be given memory that it still writes to
        self._products.keep()
        return made

    def record(self, body: Callable[[], Any]) -> tuple[Any, Any]:
        """A graph of ``body()``, and what that gives."""
        cupy.cuda.get_current_stream().synchronize()
        with self._inside(), self._products.recording():
            return captured(self._stream, body)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self._stream, cupy.cuda.using_allocator(self._pool.malloc), directly(self._products):
            yield


def check_apart(arrays: list[Any]) -> None:
    if any(_overlaps(array, arrays[:i]) for i, array in enumerate(arrays)):
        raise BackendError("two of the arrays that the step may overwrite share memory")


def in_place(step: Callable[..., Any], args: Any) -> tuple[Any, ...]:
    """Let a step write its results into the three trees that it is given up; what it gives besides."""
    a, b, c, *more = step(*args)
    old, new = leaves_of(args[:3]), leaves_of((a, b, c))
    tree.map(_check_alike, (a, b, c), args[:3])
    # A result may lie in an array that is overwritten before it has been read: those are copied first.
    results = [n if n is o or not _overlaps(n, old) else cupy.copy(n) for o, n in zip(old, new, strict=True)]
    kept = tree.map(lambda leaf: cupy.copy(leaf) if _overlaps(leaf, old) else leaf, tuple(more))
    for o, n in zip(old, results, strict=True):
        if n is not o:
            cupy.copyto(o, n)
    return kept  # type: ignore[no-any-return]


def _check_alike(new: Any, old: Any) -> None:
    if not isinstance(new, cupy.ndarray) or new.shape != old.shape or new.dtype != old.dtype:
        raise BackendError("the step changes the shape or type of what it is given")


def _overlaps(array: Any, others: list[Any]) -> bool:
    return any(cupy.may_share_memory(array, other) for other in others)


def leaves_of(value: Any) -> list[Any]:
    """The arrays of a tree, in the order of its keys."""
    if isinstance(value, dict):
        value = tuple(value[key] for key in sorted(value))
    return [leaf for part in value for leaf in leaves_of(part)] if isinstance(value, tuple) else [value]


def kind_of(array: Any) -> Any:
    """What a graph is made for: the shape and dtype of an array; None for none."""
    return None if array is None else (array.shape, array.dtype.char)
