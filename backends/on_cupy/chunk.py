"""Chunks of steps on batches of one shape, in the device's memory, and the graphs that go through them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cupy
import numpy as np

from portnn.errors import BackendError

from .compile import FLOATS, each, kernel
from .recording import in_place, leaves_of

__all__ = ["Chunk", "Form", "real_of"]

#: Words of a row before the numbers of the examples: for those of the optimizer, the step, and a weight.
_NUMBERS = 32

#: Threads of the block that ends a step, and the most words of a row that it takes for the next one: for each thread
#: some, one after the other.
_THREADS, _BY_ONE_BLOCK = 1024, 16_384


class Chunk:
    """Steps to do in a row: the arguments of `Loop.run`.

    Attributes
    ----------
    done : int
        How many of them are done.
    carry : (params, state, slots)
        With which the others begin.
    kept : array
        For their losses, which the next chunk does not overwrite.
    """

    def __init__(self, carry: Any, rows: Sequence[Any], turns: Sequence[int], hyper: Sequence[Mapping[str, Any]]):
        self.carry, self.rows, self.turns, self.hyper = carry, rows, turns, hyper
        self.done = 0
        self.kept: Any = None


class Form:
    """Batches of one shape.

    Parameters
    ----------
    size : int
        Of a batch.
    room : int
        The most steps of a chunk.
    real : dtype
        Of the losses, and of the numbers of the steps.

    Attributes
    ----------
    graphs : dict
        By the number of the step, which takes turns with others.
    rehearsed : set of int
        The steps that were done as they are recorded, but at once.
    """

    def __init__(self, size: int, room: int, real: Any) -> None:
        self._width, self._real = _NUMBERS + size, real
        # As steps.cu has it: the number of the step whose turn it is, and a row for each step. Behind the last one
        # lies one of any values, which is taken, and not read.
        self._words = cupy.empty((1 + (room + 1) * self._width,), np.int64)
        #: The row of the step under way, or whose turn it is.
        self._now = cupy.empty((self._width,), np.int64)
        self._losses = cupy.empty((room,), real)
        self.graphs: dict[int, Any] = {}
        self.forget()

    def forget(self) -> None:
        if self.graphs:
            cupy.cuda.get_current_stream().synchronize()  # they may be running
        self.graphs.clear()
        self.rehearsed: set[int] = set()
        #: The arrays of the chunk before, without keeping them alive.
        self._carry: list[Any] | None = None
        self._data: list[Any] = []
        #: Where graphs read examples that move, by their places.
        self._buffers: dict[int, Any] = {}
        #: The numbers of each step: how they are held, and where each of them is found there.
        self._numbers: dict[int, tuple[Mapping[str, Any], list[tuple[tuple[str, ...], Any]]]] = {}

    def moved(self, carry: Any, data: Sequence[Any]) -> bool:
        """Whether an array is not where it has to be."""
        if self._carry is None:
            return False
        leaves = leaves_of(carry)
        if [ref() is leaf for ref, leaf in zip(self._carry, leaves, strict=False)] != [True] * len(leaves):
            return True
        return bool(self.graphs) and any(i not in self._buffers for i in self._moving(data))

    def _moving(self, data: Sequence[Any]) -> list[int]:
        return [i for i, (ref, a) in enumerate(zip(self._data, data, strict=True)) if a is not None and ref() is not a]

    def bring(self, chunk: Chunk, data: Sequence[Any]) -> None:
        """What changes from step to step to the device, and examples to where the graphs read them."""
        if self._carry is not None and not self.graphs:
            for i in self._moving(data):
                self._buffers.setdefault(i, cupy.empty(data[i].shape, data[i].dtype))
        for i, buffer in self._buffers.items():
            cupy.copyto(buffer, data[i])
        self._carry = [weakref.ref(leaf) for leaf in leaves_of(chunk.carry)]
        self._data = [None if a is None else weakref.ref(a) for a in data]
        host = np.zeros(1 + len(chunk.rows) * self._width, np.int64)
        words = host[1:].reshape(len(chunk.rows), self._width)
        words[:, _NUMBERS:] = chunk.rows
        kinds = set(chunk.turns)
        for turn in kinds:
            at = [i for i, other in enumerate(chunk.turns) if other == turn] if len(kinds) > 1 else slice(None)
            hyper = chunk.hyper if isinstance(at, slice) else [chunk.hyper[i] for i in at]
            self._write(words, at, turn, hyper)
        self._words[: host.size].set(host, stream=cupy.cuda.get_current_stream())
        cupy.copyto(self._now, self._words[1 : 1 + self._width])
        chunk.kept = cupy.empty((len(chunk.rows),), self._real)

    def _write(self, words: Any, at: Any, turn: int, hyper: Sequence[Any]) -> None:
        if turn not in self._numbers:
            self._numbers[turn] = hyper[0], [(path, self._dtype(value)) for path, value in _found(hyper[0])]
        places = self._numbers[turn][1]
        if len(places) > _NUMBERS:
            raise BackendError(f"a step has {len(places)} numbers, and there is room for {_NUMBERS}")
        for word, (path, dtype) in enumerate(places):
            values = hyper
            for key in path:
                values = [value[key] for value in values]
            # A float32 takes half of its word.
            words[at, word] = np.asarray(values, dtype).view(f"i{dtype.itemsize}")

    def _dtype(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise BackendError(f"a number of the step is {value!r}")
        return self._real if isinstance(value, float | np.floating) else np.dtype(np.int64)

    def body(self, step: Callable[..., Any], carry: Any, data: Any, turn: int) -> Callable[[], None]:
        """A step, in place, on what the row of its turn says."""
        examples = type(data)(*(self._buffers.get(i, a) for i, a in enumerate(data)))

        def body() -> None:
            batch = examples.batch(self._now[_NUMBERS:])
            (loss,) = in_place(step, (*carry, batch, self._arrays(turn)))
            if not isinstance(loss, cupy.ndarray) or loss.shape != () or loss.dtype != self._real:
                raise BackendError(f"the loss of a step is a number of {self._real}, not {loss!r}")
            self._end_turn(loss)

        return body

    def _end_turn(self, loss: Any) -> None:
        width, words, now = self._width, self._words, self._now
        by_one_block = width if width <= _BY_ONE_BLOCK else 0
        end = kernel("steps", "end_turn", REAL=self._real)
        end((1,), (_THREADS if by_one_block else 1,), (loss, self._losses, words, by_one_block, now))
        if not by_one_block:
            kernel("steps", "take_turn", REAL=self._real)(*each(width), (words, width, now))

    def _arrays(self, turn: int) -> Any:
        """The numbers of a step as 0-d arrays in the row of its turn."""
        like, places = self._numbers[turn]
        arrays = (self._now[i : i + 1].view(dtype)[:1].reshape(()) for i, (_, dtype) in enumerate(places))
        return _replaced(like, arrays)

    def keep(self, chunk: Chunk) -> Any:
        """The losses of the steps that were done, shape (done,)."""
        kept = chunk.kept[: chunk.done]
        cupy.copyto(kept, self._losses[: chunk.done])
        return kept


def _found(hyper: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in hyper.items():
        if isinstance(value, Mapping):
            yield from _found(value, (*path, key))
        else:
            yield (*path, key), value


def _replaced(hyper: Mapping[str, Any], values: Iterator[Any]) -> dict[str, Any]:
    return {k: _replaced(v, values) if isinstance(v, Mapping) else next(values) for k, v in hyper.items()}


def real_of(carry: Any) -> Any:
    """The dtype of the parameters, which come first: float32 or float64."""
    floats = [leaf.dtype for leaf in leaves_of(carry) if isinstance(leaf, cupy.ndarray) and leaf.dtype.kind == "f"]
    real = np.dtype(floats[0] if floats else np.float32)
    if real not in FLOATS:
        raise BackendError(f"the parameters are of {real}")
    return real
