"""The loop of NumPy: steps one by one from Python, until they have been recorded; then many at once, replayed."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from portnn import tree
from portnn.backend import first_line
from portnn.loop import Compiler, Loop

from ..compile import loops
from ..subnormal import flushed
from ..workspace import SPLIT, workspace
from .numbers import Unrecordable
from .tape import Tape, arrays_of, record

__all__ = ["TapeLoop", "where"]

#: The most steps of a chunk, and the most numbers of examples in it.
_MOST, _MOST_ROWS = 4096, 2**20

#: So many steps are done one by one first: a short training ends before a recording would pay.
_FIRST = 8

#: For so many forms of batches tapes are kept.
_FORMS = 64

#: By how much numbers of the step are changed, for a look whether the tape follows them.
_OTHER = 1.25

_log = logging.getLogger(__name__)


class TapeLoop(Loop):
    """Records each of the steps when it has been done a few times, and replays it from then on, bit for bit.

    Attributes
    ----------
    reason : str or None
        Why the steps are not recorded; None as long as they are, or may be.
    replayed : int
        How many steps were done by tapes.
    """

    def __init__(self, backend: Compiler, steps: Sequence[Callable[..., Any]]) -> None:
        super().__init__(backend, steps)
        self.reason: str | None = None
        self.replayed = 0
        #: For batches and data of a form: how many steps there were, and the tape of each of the steps.
        self._seen: dict[Any, int] = {}
        self._tapes: dict[Any, dict[int, Tape]] = {}
        self._sizes: set[int] = set()

    @property
    def tapes(self) -> list[Tape]:
        """What was recorded: one for each phase of the optimizer, and for each form of batches."""
        return [tape for tapes in self._tapes.values() for tape in tapes.values()]

    def most(self, size: int) -> int:
        return max(1, min(_MOST, _MOST_ROWS // max(size, 1))) if size in self._sizes else 1

    def run(
        self,
        carry: tuple[Any, Any, Any],
        data: Any,
        rows: Sequence[Any],
        turns: Sequence[int],
        hyper: Sequence[Mapping[str, Any]],
    ) -> tuple[tuple[Any, Any, Any], Any]:
        with flushed():
            return self._run(carry, data, rows, turns, hyper)

    def _run(
        self, carry: tuple[Any, Any, Any], data: Any, rows: Any, turns: Any, hyper: Any
    ) -> tuple[tuple[Any, Any, Any], Any]:
        if self.reason:
            return Loop.run(self, carry, data, rows, turns, hyper)
        leaves = tuple(tree.leaves(carry))
        if not all([type(leaf) is np.ndarray for leaf in leaves]):
            leaves = tuple(map(np.asarray, leaves))  # NumPy gives a number for a sum, which cannot be written to
            carry = tree.rebuild(carry, leaves)
        if not (tapes := self._prepared(carry, leaves, data, rows, turns, hyper)):
            return Loop.run(self, carry, data, rows, turns, hyper)
        arrays = arrays_of(leaves, data)
        losses: list[Any] = []
        start = 0
        while start < len(rows):
            stop = start + 1
            while stop < len(rows) and turns[stop] == turns[start]:
                stop += 1
            tape = tapes[turns[start]]
            tape.bind(arrays)
            losses += list(tape.run(np.asarray(rows[start:stop]), hyper[start:stop]))
            start = stop
        self.replayed += len(rows)
        return carry, losses

    def _prepared(
        self, carry: Any, leaves: tuple[Any, ...], data: Any, rows: Any, turns: Any, hyper: Any
    ) -> dict[int, Tape] | None:
        """The tapes of some steps; None as long as such steps are done from Python."""
        cores = workspace().cores()
        form = (len(rows[0]), 1 if cores is None else cores.count, *map(_layout, data))
        tapes = self._tapes.get(form)
        if tapes is None:
            if len(self._seen) >= _FORMS:
                self._seen.clear()
            self._seen[form] = self._seen.get(form, 0) + len(rows)
            if self._seen[form] <= _FIRST:
                return None
            if len(self._tapes) >= _FORMS:
                self._tapes.clear()
            tapes = self._tapes[form] = {}
        if not all([leaf.flags.carray for leaf in leaves]):
            self._refuse("parameters that are not contiguous, or not to be written to")
            return None
        for turn in sorted(set(turns) - set(tapes)):
            at = turns.index(turn)
            try:
                tapes[turn] = self._recorded(turn, carry, data, rows[at], hyper[at], form[1])
            except Exception as error:
                # Whatever fails was done on copies; if the step itself fails so, it says it now.
                told = str(error) if isinstance(error, Unrecordable) else first_line(error)
                self._refuse(f"{where(error)}: {told}")
                return None
        self._sizes.add(form[0])
        return tapes

    def _refuse(self, reason: str) -> None:
        self.reason, self._tapes, self._sizes = reason, {}, set()
        _log.info("the training steps go one by one, from Python: %s", reason)

    def _recorded(self, turn: int, carry: Any, data: Any, index: Any, hyper: Any, parts: int) -> Tape:
        """A tape of a step, which was seen to give what the step gives, bit for bit, also with other numbers."""
        if loops("replay") is None:
            raise Unrecordable("Numba cannot be used")
        index = np.asarray(index, np.int64)
        # What NumPy does as a whole is split, too; where that changes a bit, only what the step itself splits.
        for worth in (SPLIT, math.inf):
            tape = record(self.steps[turn], carry, data, index, hyper, parts, worth)
            if self._follows(tape, self.steps[turn], carry, data, index, hyper):
                workspace().forget_memory()  # a tape has its own
                return tape
        raise Unrecordable("the recorded step gives other numbers than the step itself")

    def _follows(self, tape: Tape, step: Any, carry: Any, data: Any, index: Any, hyper: Any) -> bool:
        others, (twice, alone) = _others(data, index)
        for examples, rows, numbers, factor in (
            (data, index, hyper, 1),
            (others, twice, _changed(hyper), _OTHER),
            (others, alone, _changed(_changed(hyper)), _OTHER),
        ):
            digests = set()
            for replayed in (True, False):  # one after the other: large networks are copied once, and not twice
                own = tree.map(functools.partial(_times, factor=factor), carry)
                if replayed:
                    tape.bind(arrays_of(own, examples))
                    loss = tape.run(rows[None], [numbers])[0]
                else:
                    *own, loss = step(*own, examples.batch(rows), numbers)
                digests.add(_digest([*tree.leaves(tuple(own)), loss]))
            if len(digests) > 1:
                return False
        return True


def _digest(arrays: Sequence[Any]) -> bytes:
    """Of all bits."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.digest()


def _layout(x: Any) -> Any:
    """How an array lies in memory."""
    return None if x is None else (x.shape, x.strides, x.dtype)


def _others(data: Any, index: Any) -> tuple[Any, tuple[Any, Any]]:
    """Examples, and numbers of those in two other batches: half of them twice, and one of them alone.

    In another order they would not do: the largest value of a batch, its mean, or how many examples have a label, would
    be the same, and a tape that holds it as a constant would be taken for a right one. Where there are no others than
    those of the batch, as in a stream, their values are changed.
    """
    n, b = len(data.x), len(index)
    if n >= 2 * b:
        index = (index + n // 2) % n
    else:
        copies = [None if x is None else np.array(x) for x in data]
        for x, copy in zip(data, copies, strict=True):
            if copy is not None and copy.dtype.kind == "f":
                copy *= _OTHER
            if copy is not None and copy.strides != x.strides:  # a tape knows how they lie in memory
                return data, (index[np.arange(b) // 2], np.repeat(index[:1], b))
        data = type(data)(*copies)
    return data, (index[np.arange(b) // 2], np.repeat(index[-1:], b))


def _times(leaf: Any, factor: float) -> Any:
    """A copy, with other numbers unless the factor is 1."""
    copy = np.array(leaf, order="C")
    if copy.dtype.kind == "f":
        copy *= factor
    return copy


def _changed(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Other numbers of a step, near those that are given."""
    return {
        name: _changed(value) if isinstance(value, Mapping) else value + 1 if isinstance(value, int) else value * _OTHER
        for name, value in hyper.items()
    }


def where(error: Exception, otherwise: str = "the step") -> str:
    """The function of the step in which recording ended."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [(frame.f_globals.get("__name__", ""), frame.f_code.co_qualname) for frame in frames]
    inner = [f"{module}.{name}" for module, name in names if ".tape." not in module and not module.startswith("numpy")]
    return inner[-1] if inner else otherwise
