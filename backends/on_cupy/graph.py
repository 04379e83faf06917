"""A training step recorded as one CUDA graph: the host launches it whole, not kernel by kernel.

What a graph does is fixed when it is recorded, down to the addresses that its kernels read and write, and to every
number that the host gave them. So

- a step updates the arrays that it is given in place, and gives the same ones back;
- the numbers among its arguments (learning rate, step) reach it as 0-d arrays in device memory;
- an argument that stays where it is from call to call, such as a data set, is read there; one that moves, such as the
  numbers of the examples of a batch, is first copied to where the graph reads it;
- each combination of shapes has a graph of its own, made at its second call. The first one is computed as it is
  recorded later, but at once: that compiles the kernels and fills the pool of memory, and it is a step like any other;
- when arrays that have to stay have moved, because somebody has replaced the parameters, the graph is given up, and all
  this begins anew.

A step that cannot be recorded is computed kernel by kernel, and the log says why, as a warning. Numbers that are
drawn on the host are such a reason, or a matrix product that does not go through `functional.matmul`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy
import numpy as np

from portnn import tree
from portnn.backend import first_line
from portnn.errors import BackendError

from .blas import Cublas, directly

__all__ = ["CapturedStep"]

_log = logging.getLogger(__name__)

#: Graphs of one step, each of which keeps memory, and how often graphs are given up, before we stop making them.
_MOST_GRAPHS = 8
_MOST_MOVES = 16

#: So many launches between two moves make up for the graph that is given up: such moves are not counted.
_WORTH = 32

#: Bytes between two numbers in device memory.
_SLOT = 8


class CapturedStep:
    """A pure step as a graph for each combination of shapes.

    Parameters
    ----------
    step : callable
        ``step(a, b, c, *rest) -> (a, b, c, *more)`` with trees of arrays ``a, b, c``, which the caller gives up, and
        trees ``rest`` of arrays, numbers and constants. ``more`` are arrays.
    tf32 : bool
        Whether products of float32 are computed in TF32.

    Attributes
    ----------
    graphs : int
        How many graphs there are.
    reason : str or None
        Why the step is not recorded; None as long as it is.
    """

    def __init__(self, step: Callable[..., Any], tf32: bool) -> None:
        self._step, self._tf32 = step, tf32
        self.reason: str | None = None
        self._recordings: dict[Any, _Recording] = {}
        self._moves, self._launches, self._said = 0, 0, False
        self._recorder: _Recorder | None = None

    @property
    def graphs(self) -> int:
        return sum(recording.graph is not None for recording in self._recordings.values())

    def __call__(self, *args: Any) -> Any:
        if self.reason is None:
            try:
                return (*args[:3], *self._recorded(args))
            except Exception as error:  # of CUDA, CuPy, or somebody's layer: whatever it is, the plain step decides
                self._give_up(first_line(error))
        return self._step(*args)

    def _recorded(self, args: Any) -> tuple[Any, ...]:
        """The step, in place; what it gives besides."""
        leaves: list[Any] = []
        key = _flatten(args, leaves), tuple([_kind(leaf) for leaf in leaves])
        recording = self._recordings.get(key)
        if recording is None:
            if len(self._recordings) == _MOST_GRAPHS:
                self._say_too_many()
                return _in_place(self._step, args)
            recording = self._recordings[key] = _Recording(len(_leaves_of(args[:3])))
        elif recording.moved(leaves):
            recording.forget()
            self._moves = 0 if self._launches >= _WORTH else self._moves + 1
            self._launches = 0
            if self._moves == _MOST_MOVES:
                raise BackendError("its arrays are replaced again and again")
        if self._recorder is None:
            self._recorder = _Recorder(self._tf32)
        if recording.addresses is None:
            more = self._recorder.rehearse(self._step, args, leaves)
            recording.remember(leaves)
            return more
        if recording.graph is None:
            self._recorder.record(self._step, args, leaves, recording)
        self._launches += 1
        return recording.launch(leaves)

    def _say_too_many(self) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "a training step has met more than %d shapes: further ones are computed kernel by kernel", _MOST_GRAPHS
            )

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self._recordings.clear()
        self._recorder = None
        _log.warning("the training step is computed kernel by kernel, not as a CUDA graph: %s", reason)


class _Recording:
    """What is known of the calls with one combination of shapes, and their graph once there is one."""

    def __init__(self, given_up: int) -> None:
        self._given_up = given_up
        self.forget()

    def forget(self) -> None:
        if getattr(self, "graph", None) is not None:
            cupy.cuda.get_current_stream().synchronize()  # it may be running
        self.graph: Any = None
        #: The arguments of the last call (numbers and constants: None), without keeping them alive.
        self.addresses: list[Any] | None = None
        #: Where the graph reads arguments that move, by their places among the leaves; and numbers.
        self.buffers: dict[int, Any] = {}
        self.numbers: _Numbers | None = None
        #: What the graph makes besides the arrays that were given up.
        self.more: tuple[Any, ...] = ()

    def remember(self, leaves: list[Any]) -> None:
        self.addresses = [weakref.ref(a) if isinstance(a, cupy.ndarray) else None for a in leaves]

    def stays(self, i: int, leaf: Any) -> bool:
        """Whether an array is where it was at the last call."""
        assert self.addresses is not None
        known = self.addresses[i]
        return known is not None and known() is leaf

    def moved(self, leaves: list[Any]) -> bool:
        """Whether an array is not where it has to be."""
        if self.addresses is None:
            return False
        fixed = self._given_up if self.graph is None else len(leaves)
        return any(
            known is not None and known() is not leaf and i not in self.buffers
            for i, (known, leaf) in enumerate(zip(self.addresses[:fixed], leaves[:fixed], strict=True))
        )

    def launch(self, leaves: list[Any]) -> tuple[Any, ...]:
        assert self.numbers is not None
        for i, buffer in self.buffers.items():
            cupy.copyto(buffer, leaves[i])
        self.numbers.set(leaves)
        self.graph.launch()
        return tree.map(cupy.copy, self.more)  # type: ignore[no-any-return]  # the next launch overwrites its own


class _Recorder:
    """The stream on which steps are recorded, the pool of what they compute, and cuBLAS on that stream."""

    def __init__(self, tf32: bool) -> None:
        # The null stream cannot be captured, and one that waits for it would be disturbed by it.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        # Nothing else may get memory that a graph writes to at every launch: a pool of its own, and no results from it.
        self._pool = cupy.cuda.MemoryPool()
        with self._stream:
            self._cublas = Cublas(self._stream, tf32)

    def rehearse(self, step: Callable[..., Any], args: Any, leaves: list[Any]) -> tuple[Any, ...]:
        """Compute a step as it will be recorded, but at once; on copies, so that nothing has changed if it fails."""
        current = cupy.cuda.get_current_stream()
        given_up = _leaves_of(args[:3])
        if any(_overlaps(array, given_up[:i]) for i, array in enumerate(given_up)):
            raise BackendError("two of the arrays that the step may overwrite share memory")
        numbers = _Numbers(leaves)
        current.synchronize()
        with self._stream, cupy.cuda.using_allocator(self._pool.malloc), directly(self._cublas):
            copies = tree.map(cupy.copy, args[:3])
            more = _in_place(step, (*copies, *numbers.among(args[3:])))
            self._stream.synchronize()
        results = tree.map(cupy.copy, more)
        tree.map(cupy.copyto, args[:3], copies)
        # The copies go back to the pool at the end of this call, and are read until then.
        current.synchronize()
        return results  # type: ignore[no-any-return]

    def record(self, step: Callable[..., Any], args: Any, leaves: list[Any], recording: _Recording) -> None:
        numbers = _Numbers(leaves)
        given_up = len(_leaves_of(args[:3]))
        buffers = {
            i: cupy.empty(leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
            if i >= given_up and isinstance(leaf, cupy.ndarray) and not recording.stays(i, leaf)
        }
        rest = _replaced(args, [buffers.get(i, leaf) for i, leaf in enumerate(leaves)])[3:]
        cupy.cuda.get_current_stream().synchronize()
        with self._stream, cupy.cuda.using_allocator(self._pool.malloc), directly(self._cublas):
            self._stream.begin_capture()
            try:
                more = _in_place(step, (*args[:3], *numbers.among(rest)))
            except BaseException:
                with suppress(Exception):  # that the capture is invalid: the error above says why
                    self._stream.end_capture()
                raise
            recording.graph = self._stream.end_capture()
        recording.buffers, recording.numbers, recording.more = buffers, numbers, more


class _Numbers:
    """Device memory for the numbers among the arguments of a step: 0-d arrays, one after the other."""

    def __init__(self, leaves: list[Any]) -> None:
        floats = [leaf.dtype for leaf in leaves if isinstance(leaf, cupy.ndarray) and leaf.dtype.kind == "f"]
        # As the parameters, which come first: a Python number would not widen them either.
        kinds: dict[type | None, Any] = {
            float: np.dtype(floats[0] if floats else np.float32),
            int: np.dtype(np.int64),
            None: None,
        }
        dtypes = [kinds[_number(leaf)] for leaf in leaves]
        self._places = [(i, dtype) for i, dtype in enumerate(dtypes) if dtype is not None]
        self._memory = cupy.empty(max(1, len(self._places)) * _SLOT, cupy.uint8)
        self.set(leaves)

    def set(self, leaves: list[Any]) -> None:
        """Bring the numbers of a call, in one transfer behind what the current stream does already."""
        host = np.zeros(self._memory.size, np.uint8)
        for slot, (i, dtype) in enumerate(self._places):
            host[slot * _SLOT :][: dtype.itemsize].view(dtype)[0] = leaves[i]
        self._memory.set(host, stream=cupy.cuda.get_current_stream())

    def among(self, args: Any) -> Any:
        """Trees with each number replaced by its array."""
        arrays = iter(
            [
                self._memory[slot * _SLOT : slot * _SLOT + dtype.itemsize].view(dtype).reshape(())
                for slot, (_, dtype) in enumerate(self._places)
            ]
        )
        return tree.map(lambda leaf: leaf if _number(leaf) is None else next(arrays), args)


def _in_place(step: Callable[..., Any], args: Any) -> tuple[Any, ...]:
    """Let a step write its results into the three trees that it is given up; what it gives besides."""
    a, b, c, *more = step(*args)
    old, new = _leaves_of(args[:3]), _leaves_of((a, b, c))
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


def _flatten(value: Any, leaves: list[Any]) -> Any:
    """The structure of a tree, to compare and hash; its leaves are appended to a list."""
    if isinstance(value, dict):
        keys = sorted(value)
        return (*keys, *[_flatten(value[key], leaves) for key in keys])
    if isinstance(value, tuple):
        return tuple([_flatten(part, leaves) for part in value])
    leaves.append(value)
    return None


def _leaves_of(value: Any) -> list[Any]:
    leaves: list[Any] = []
    _flatten(value, leaves)
    return leaves


def _replaced(like: Any, leaves: list[Any]) -> Any:
    """A tree with other leaves."""
    remaining = iter(leaves)
    return tree.map(lambda _: next(remaining), like)


def _kind(leaf: Any) -> Any:
    """What a graph is made for: shape and dtype of an array, the type of a number, and any other constant itself."""
    if isinstance(leaf, cupy.ndarray):
        return leaf.shape, leaf.dtype.char
    return _number(leaf) or leaf


def _number(leaf: Any) -> type | None:
    """``float`` or ``int`` for a number, None for anything else."""
    if isinstance(leaf, bool) or not isinstance(leaf, int | float | np.integer | np.floating):
        return None
    return float if isinstance(leaf, float | np.floating) else int
