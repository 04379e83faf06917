"""A forward pass on a tape: recorded, compared with the plain call, and bound to the arrays of a network."""

from __future__ import annotations

import functools
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from portnn import tree
from portnn._typing import Tree
from portnn.backend import first_line

from ..recording import recording
from ..workspace import SPLIT, workspace
from .loop import where
from .numbers import Unrecordable
from .recorder import Recorder
from .tape import Tape
from .traced import traced
from .words import address

__all__ = ["Kept", "recorded", "told"]

#: By how much numbers are changed, for a look whether the tape follows them.
_OTHER = 1.25

#: Seconds of a chunk of batches: between two of them signals are answered.
_CHUNK = 0.05

#: Of a small batch, on one core: nothing of it is worth being handed over. And of what is.
_SMALL, _WORTH = 1e-4, 2e-4


class Kept:
    """A tape of a forward pass, and what it is bound to.

    Attributes
    ----------
    tapes : list of Tape
        The same one for each core, with memory of its own.
    lock : Lock
        Of the thread that has the tapes.
    output_shape : tuple of int
        Of the outputs for one example.
    dtype : dtype
        Of the outputs.
    """

    def __init__(self, tapes: list[Tape], params: Tree, state: Tree, y: Any) -> None:
        self.tapes, self.output_shape, self.dtype = tapes, y.shape[1:], y.dtype
        #: Of a batch on one core, at the most: the least that was seen. What a batch took while others had the cores
        #: must not make a small one large, which would wait for them from then on.
        self.seconds = math.inf
        #: Of small batches: room for one and its outputs, and where that is.
        self._own: tuple[Any, Any, Any] | None = None
        self._forms = [(leaf.shape, leaf.dtype) for leaf in tree.leaves((params, state))]
        self._known: Any = _nobody
        self.forget_threads()

    def forget_threads(self) -> None:
        """In a forked child, whose parent may have been in the middle of something in another thread."""
        self.lock, self._known = threading.Lock(), _nobody

    @property
    def is_small(self) -> bool:
        return self.seconds < _SMALL

    @property
    def nbytes(self) -> int:
        """Of the memory for results."""
        return sum(tape.nbytes for tape in self.tapes)

    def bind(self, trees: tuple[Tree, Tree], known: object = None) -> bool:
        """Let the tapes work on some trees, if they can. ``known`` is the same object for the same arrays, or None."""
        if known is not None and self._known() is known:
            return True
        self._known = _nobody
        leaves = tree.leaves(trees)
        if len(leaves) != len(self._forms):
            return False
        for leaf, (shape, dtype) in zip(leaves, self._forms, strict=True):
            lies_well = type(leaf) is np.ndarray and leaf.flags.c_contiguous and leaf.flags.aligned
            if not lies_well or leaf.shape != shape or leaf.dtype != dtype:
                return False
        for tape in self.tapes:
            tape.bind(_named(leaves))
        if known is not None:
            self._known = weakref.ref(known)
        return True

    def fill(self, x: Any, y: Any, size: int, count: int, by_one: bool = False) -> None:
        """Put the outputs for ``count`` batches of ``size`` rows into ``y``, on all cores or on one.

        Both arrays lie in one piece.
        """
        numbers = np.empty((count, 2), np.int64)
        for column, array in enumerate((x, y)):
            numbers[:, column] = address(array) + np.arange(count) * (size * array.strides[0])
        parts, cores = len(self.tapes), None if by_one else workspace().cores()
        while len(numbers):
            most = max(1, int(_CHUNK / self.seconds))
            each, done = min(len(numbers) // parts, most), min(len(numbers), most)
            if parts == 1 or cores is None or not cores.alone or done * self.seconds < _WORTH:
                self._walk(numbers, done)
            elif each:
                # Batches need nothing of one another: a core takes whole ones, and waits for no other core. It goes
                # through all parts of them, for the same bits.
                done = parts * each
                cores.together(functools.partial(self._walk, numbers, each), abandon=_nobody)
            else:
                self.tapes[0].walk(numbers[:done])
                self.seconds = min(self.seconds, self.tapes[0].seconds)
            numbers = numbers[done:]

    def _walk(self, numbers: Any, count: int, part: int = 0) -> None:
        """Do some batches in this thread: the first ones, or those of another part."""
        began = time.perf_counter()
        if self.tapes[part].alone(numbers[part * count : (part + 1) * count])():
            raise IndexError("an index of a layer is out of range")
        self.seconds = min(self.seconds, (time.perf_counter() - began) / count)

    def answer(self, x: Any) -> Any:
        """The outputs for a small batch, by this thread alone, which has taken the cores; None if that is not possible.

        What is copied is small, and to write addresses into the tape would take longer.
        """
        if self._own is None:
            given, made = np.empty(x.shape, x.dtype), np.empty((len(x), *self.output_shape), self.dtype)
            numbers = np.array([[address(given), address(made)]], np.int64)
            self._own = given, made, self.tapes[0].alone(numbers)
        given, made, walk = self._own
        np.copyto(given, x)
        return None if walk() else made.copy()


def _nobody() -> None:
    """In the place of a weak reference."""


def recorded(apply: Callable[..., Any], params: Tree, state: Tree, x: Any, parts: int) -> Kept:
    """A tape of ``apply(params, state, x)``, which was seen to give the same, bit for bit, also for other numbers.

    Raises
    ------
    Unrecordable
        With the reason, if a part of it cannot be written down.
    """
    # What NumPy does as a whole is split, too; where that changes a bit, only what the layers themselves split.
    for worth in (SPLIT, math.inf):
        kept = Kept(*_record(apply, params, state, x, parts, worth))
        if _follows(kept, apply, params, state, x):
            return kept
    raise Unrecordable("what was recorded gives other numbers than the plain call")


def _record(apply: Callable[..., Any], params: Tree, state: Tree, x: Any, parts: int, worth: float) -> Any:
    """What `Kept` takes."""
    recorder = Recorder(parts, traced, worth)
    own = tree.map(functools.partial(np.array, order="C"), (params, state))
    arrays = _named(tree.leaves(own)) | {"x": np.array(x, order="C")}
    for name, array in arrays.items():
        recorder.bring(array, name)
    with recording(recorder):
        made = apply(*tree.map(traced, own), traced(arrays["x"]))
        if not isinstance(made, np.ndarray) or made.ndim == 0 or len(made) != len(x):
            raise Unrecordable("the outputs are no array with a row for each example")
        y = np.empty(made.shape, made.dtype)
        recorder.bring(y, "y")
        recorder.convert(made, y)
    return [Tape(recorder, y, each=("x", "y")) for _ in range(parts)], params, state, y


def _named(leaves: Any) -> dict[str, Any]:
    return {f"leaf {number}": leaf for number, leaf in enumerate(leaves)}


def _follows(kept: Kept, apply: Callable[..., Any], params: Tree, state: Tree, x: Any) -> bool:
    """Whether the tape gives what the plain call gives, for this batch and for others with other parameters.

    As in `loop`, others have half of the rows twice, or one of them alone: a mean over them is another one, too.
    """
    n = len(x)
    twice, alone = (np.ascontiguousarray(x[rows]) for rows in (np.arange(n) // 2, np.zeros(n, np.int64)))
    for batch, factor in ((x, 1.0), (_times(twice, _OTHER), _OTHER), (_times(alone, 1 / _OTHER), _OTHER)):
        trees = params, state
        if batch is not x:
            trees = tree.map(functools.partial(_times, factor=factor), trees)
        expected = np.ascontiguousarray(apply(*trees, batch))
        if not kept.bind(trees):
            raise Unrecordable("parameters or state that are not contiguous")
        for by_one in (True, False):  # first on one core, where the least that it takes is seen
            y = np.empty((n, *kept.output_shape), kept.dtype)
            kept.fill(batch, y, n, 1, by_one)
            if (expected.shape, expected.dtype) != (y.shape, y.dtype) or expected.tobytes() != y.tobytes():
                return False
    return True


def _times(array: Any, factor: float) -> Any:
    """Other numbers than these."""
    return array * array.dtype.type(factor) if array.dtype.kind == "f" else array // 2


def told(error: Exception) -> str:
    """Why nothing was recorded: where, and what. The first frame is that of who asked for it."""
    trace = error.__traceback__
    place = where(error.with_traceback(trace and trace.tb_next), "the layers")
    return f"{place}: {error if isinstance(error, Unrecordable) else first_line(error)}"
