"""A pure function that is called again and again, recorded as one CUDA graph: the host launches it whole.

This is `Backend.compile`, for any function; the steps of a training, and the sums of a full-batch method, go by
`portnn_backends.on_cupy.loop`, which passes nothing to them.

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

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from portnn import tree
from portnn.backend import first_line
from portnn.errors import BackendError

from .recording import Recorder, check_apart, flatten, float_of, in_place, kind_of, leaves_of, number_of

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
        self._recorder: Recorder | None = None

    @property
    def graphs(self) -> int:
        return sum(recording.graph is not None for recording in self._recordings.values())

    def __call__(self, *args: Any) -> Any:
        if self.reason is None:
            attempt = _Attempt(args)
            try:
                self._try(attempt)
            except Exception as error:  # of CUDA, CuPy, or somebody's layer: whatever it is, the plain step decides
                self._give_up(first_line(error))
                args = attempt.args
            if attempt.more is not None:
                # The step is done, and is not done again: what fails from here on ends it.
                results = tree.map(cupy.copy, attempt.more)
                if attempt.rehearsed:  # what is copied goes back to its pool at the end of this call
                    cupy.cuda.get_current_stream().synchronize()
                return (*args[:3], *results)
        return self._step(*args)

    def _try(self, attempt: _Attempt) -> None:
        """The step, in place."""
        args = attempt.args
        leaves: list[Any] = []
        key = flatten(args, leaves), tuple([kind_of(leaf) for leaf in leaves])
        recording = self._recordings.get(key)
        if recording is None:
            if len(self._recordings) == _MOST_GRAPHS:
                self._say_too_many()
                attempt.more = attempt.in_place(lambda: in_place(self._step, args))
                return
            recording = self._recordings[key] = _Recording(len(leaves_of(args[:3])))
        elif recording.moved(leaves):
            recording.forget()
            self._moves = 0 if self._launches >= _WORTH else self._moves + 1
            self._launches = 0
            if self._moves == _MOST_MOVES:
                raise BackendError("its arrays are replaced again and again")
        if self._recorder is None:
            self._recorder = Recorder(self._tf32)
        if recording.addresses is None:
            check_apart(leaves_of(args[:3]))
            numbers = _Numbers(leaves)
            step = functools.partial(in_place, self._step, (*args[:3], *numbers.among(args[3:])))
            attempt.more = attempt.in_place(functools.partial(self._recorder.compute, step))
            attempt.rehearsed = True
            recording.remember(leaves)
            return
        if recording.graph is None:
            self._record(args, leaves, recording)
        self._launches += 1
        recording.launch(leaves)
        attempt.more = recording.more

    def _record(self, args: Any, leaves: list[Any], recording: _Recording) -> None:
        numbers = _Numbers(leaves)
        given_up = len(leaves_of(args[:3]))
        buffers = {
            i: cupy.empty(leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
            if i >= given_up and isinstance(leaf, cupy.ndarray) and not recording.stays(i, leaf)
        }
        rest = _replaced(args, [buffers.get(i, leaf) for i, leaf in enumerate(leaves)])[3:]
        assert self._recorder is not None
        recording.graph, recording.more = self._recorder.record(
            lambda: in_place(self._step, (*args[:3], *numbers.among(rest)))
        )
        recording.buffers, recording.numbers = buffers, numbers

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


class _Attempt:
    """What is known while a step is tried: with which arguments it can be begun anew, and what it has given."""

    def __init__(self, args: Any) -> None:
        self.args = args
        self.more: tuple[Any, ...] | None = None
        self.rehearsed = False

    def in_place(self, compute: Callable[[], Any]) -> Any:
        """Let the first three arguments be overwritten; where that fails in the middle, there are copies of them."""
        given, self.args = self.args, (*tree.map(cupy.copy, self.args[:3]), *self.args[3:])
        made = compute()
        self.args = given
        return made


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

    def launch(self, leaves: list[Any]) -> None:
        assert self.numbers is not None
        for i, buffer in self.buffers.items():
            cupy.copyto(buffer, leaves[i])
        self.numbers.set(leaves)
        self.graph.launch()


class _Numbers:
    """Device memory for the numbers among the arguments of a step: 0-d arrays, one after the other."""

    def __init__(self, leaves: list[Any]) -> None:
        kinds: dict[type | None, Any] = {
            float: float_of(leaves),
            int: np.dtype(np.int64),
            None: None,
        }
        dtypes = [kinds[number_of(leaf)] for leaf in leaves]
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
        return tree.map(lambda leaf: leaf if number_of(leaf) is None else next(arrays), args)


def _replaced(like: Any, leaves: list[Any]) -> Any:
    """A tree with other leaves."""
    remaining = iter(leaves)
    return tree.map(lambda _: next(remaining), like)
