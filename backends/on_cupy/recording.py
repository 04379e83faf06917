"""How steps are recorded: on a stream, in a pool of memory, and with a cuBLAS of their own; and their trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import cupy
import numpy as np

from portnn import tree
from portnn.errors import BackendError

from .beside import branching
from .blas import Products, directly
from .choices import Choices
from .timing import captured

__all__ = ["Branch", "Recorder", "check_apart", "flatten", "float_of", "in_place", "kind_of", "leaves_of", "number_of"]


A = TypeVar("A")
B = TypeVar("B")


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
        self._branch = Branch(self._stream, self._products)

    def compute(self, body: Callable[[], Any]) -> Any:
        """What ``body()`` gives, computed as it will be recorded, but at once."""
        cupy.cuda.get_current_stream().synchronize()
        with self._inside():
            try:
                made = body()
            finally:
                # Whatever happens: nobody else may be given memory that it still writes to.
                self._stream.synchronize()
                self._branch.synchronize()
        self._products.keep()
        return made

    def record(self, body: Callable[[], Any]) -> tuple[Any, Any]:
        """A graph of ``body()``, and what that gives."""
        cupy.cuda.get_current_stream().synchronize()
        with self._inside(), self._products.recording(), self._branch.recording():
            return captured(self._stream, body)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        memory = cupy.cuda.using_allocator(self._pool.malloc)
        with self._stream, memory, directly(self._products), branching(self._branch):
            yield


class Branch:
    """A branch of what is recorded, on a second stream, for two computations side by side.

    A product of a small batch keeps a part of the device busy, and two of them take little longer than one.

    A branch begins and ends within one call: the second stream begins where the first one is, and the first one waits
    for it before it goes on. So memory that one of them gives back is not written to while the other one reads it: a
    pool of CuPy hands it out again to the stream that had it. Bits do not depend on any of this.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        The first one.
    products : Products
        On both.
    """

    def __init__(self, stream: Any, products: Products) -> None:
        self._stream, self._products = stream, products
        self._side: Any = None
        self._workspace: Any = None
        self._recording = False
        self._events: list[Any] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, the stream is captured."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False
            self._events.clear()  # not before: the graph is made now

    def both(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
        """What both give; the second one on a stream of its own."""
        if self._side is None:
            if self._recording:  # there may be no memory for it
                return first(), second()
            self._workspace = cupy.empty(self._products.cublas.workspace.size, cupy.uint8)
            self._side = cupy.cuda.Stream(non_blocking=True)
        self._wait(self._side, self._stream)
        with self._side, self._products.on(self._side, self._workspace):
            aside = second()
        if not self._recording:  # one after the other, so that products can be timed
            self._wait(self._stream, self._side)
            return first(), aside
        made = first()
        self._wait(self._stream, self._side)
        return made, aside

    def synchronize(self) -> None:
        if self._side is not None:
            self._side.synchronize()

    def _wait(self, one: Any, other: Any) -> None:
        """Let one stream wait for what the other one has been given."""
        event = cupy.cuda.Event(disable_timing=True)
        event.record(other)
        one.wait_event(event)
        if self._recording:
            self._events.append(event)


def check_apart(arrays: list[Any]) -> None:
    if any(_overlaps(array, arrays[:i]) for i, array in enumerate(arrays)):
        raise BackendError("two of the arrays that the step may overwrite share memory")


def float_of(leaves: list[Any]) -> Any:
    """The dtype of a number of the step: that of the parameters, which come first; they would not be widened either."""
    floats = [leaf.dtype for leaf in leaves if isinstance(leaf, cupy.ndarray) and leaf.dtype.kind == "f"]
    return np.dtype(floats[0] if floats else np.float32)


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


def flatten(value: Any, leaves: list[Any]) -> Any:
    """The structure of a tree, to compare and hash; its leaves are appended to a list."""
    if isinstance(value, dict):
        keys = sorted(value)
        return (*keys, *[flatten(value[key], leaves) for key in keys])
    if isinstance(value, tuple):
        return tuple([flatten(part, leaves) for part in value])
    leaves.append(value)
    return None


def leaves_of(value: Any) -> list[Any]:
    leaves: list[Any] = []
    flatten(value, leaves)
    return leaves


def kind_of(leaf: Any) -> Any:
    """What a graph is made for: shape and dtype of an array, the type of a number, and any other constant itself."""
    if isinstance(leaf, cupy.ndarray):
        return leaf.shape, leaf.dtype.char
    return number_of(leaf) or leaf


def number_of(leaf: Any) -> type | None:
    """``float`` or ``int`` for a number, None for anything else."""
    if isinstance(leaf, bool) or not isinstance(leaf, int | float | np.integer | np.floating):
        return None
    return float if isinstance(leaf, float | np.floating) else int
