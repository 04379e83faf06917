"""`Tape`: a recorded step, bound to the arrays of a run and replayed by all cores."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from portnn import tree
from portnn._typing import Tree
from portnn.errors import BackendError

from ..compile import loops
from ..recording import recording
from ..workspace import workspace
from .numbers import StepFloat, StepInt, Unrecordable
from .recorder import Recorder
from .traced import traced
from .words import MEET, Root, address, owner, plain

__all__ = ["Tape", "arrays_of", "record"]

#: Bytes of a cache line: two threads never write into the same one by chance.
_LINE = 64

#: Seconds of work on one core that are worth being handed over.
_WORTH = 2e-4

#: Seconds for which one thread walks where several were slower, before they try again.
_PATIENCE = 1.0

#: How often a thread looks for the others before it offers its core.
_LOOKS = 2000

#: For a thread that walks alone.
_NO_FLAGS = np.zeros(8, np.int64)


class Tape:
    """What `record` makes of a step.

    Parameters
    ----------
    recorder : Recorder
    loss : array
        Of the form of what each step leaves.
    each : (str, str), default ("index", "loss")
        Under which names the recorder knows what is another one in each step: what it is given, and what it leaves.

    Attributes
    ----------
    instructions : list of Instruction
    """

    def __init__(self, recorder: Recorder, loss: Any, each: tuple[str, str] = ("index", "loss")) -> None:
        self.instructions = recorder.instructions
        self._words = np.array(recorder.words, np.int64)
        self._memory = _placed(recorder.temporary, self._words)
        self._constants = recorder.constants  # kept alive
        base = address(self._words)
        for word, target in recorder.links:
            self._words[word] = base + 8 * target
        length = max(len(part) for part in recorder.program)
        self._program = np.zeros((len(recorder.program), length, 2), np.int64)
        self._program[:, :, 0] = -1
        for part, instructions in enumerate(recorder.program):
            for i, (function, block) in enumerate(instructions):
                self._program[part, i] = MEET if function == 0 else (function, 0 if function < 0 else base + 8 * block)
        self._bound = {
            name: (np.array([w for w, _ in root.words], np.int64), np.array([o for _, o in root.words], np.int64))
            for name, root in recorder.brought.items()
        }
        # A word for what is given, one for what is left, and one for each number of the step and its dtype.
        self._numbers: list[tuple[Any, Any]] = []
        slots: dict[tuple[int, str], int] = {}
        places = [(w, slot, o) for slot, name in enumerate(each) for w, o in self._words_of(name)]
        for word, number, dtype in recorder.numbers:
            key = id(number), dtype.char
            if key not in slots:
                slots[key] = 2 + len(self._numbers)
                self._numbers.append((number, dtype))
            places.append((word, slots[key], 0))
        self._places = np.array(places, np.int64).reshape(-1, 3)
        self.loss = loss
        #: Whether there is anything for other cores to do.
        self._shares = bool((self._program[1:, :, 0] > 0).any())
        #: Of a step on one core, as far as is known; and the least that one took in one thread.
        self._seconds, self._alone = 0.0, math.inf
        #: Until when one thread walks, as several were slower.
        self._until = 0.0

    def _words_of(self, name: str) -> list[tuple[int, int]]:
        words, offsets = self._bound.pop(name)
        return list(zip(words.tolist(), offsets.tolist(), strict=True))

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """Let the tape work on these arrays, which have the names and shapes of those that were recorded."""
        for name, (words, offsets) in self._bound.items():
            if len(words):
                self._words[words] = address(arrays[name]) + offsets

    def run(self, rows: Any, hyper: Sequence[Mapping[str, Any]]) -> Any:
        """Do a step on each of ``rows``, (steps, b); the losses, (steps,)."""
        steps = len(hyper)
        rows, losses = np.ascontiguousarray(rows, np.int64), np.empty(steps, self.loss.dtype)
        self.walk(self._numbers_of(rows, losses, hyper))
        return losses

    @property
    def nbytes(self) -> int:
        """Of the memory for results."""
        return int(self._memory.nbytes)

    @property
    def seconds(self) -> float:
        """Of a step on one core, as far as is known."""
        return self._seconds

    def alone(self, numbers: Any) -> Callable[[], int]:
        """`walk` in this thread and without a look at the clock, as often as one likes.

        What is called gives other than 0 where an index is out of range.
        """
        parts = len(self._program)
        walk: Callable[[], int] = loops("replay").replay.prepared(
            self._program, self._words, self._places, numbers, _NO_FLAGS, 0, 1, parts, _LOOKS
        )
        return walk

    def walk(self, numbers: Any) -> None:
        """Do the steps of ``numbers``, (steps, slots), by all cores where that pays."""
        steps, cores = len(numbers), workspace().cores()
        parts = len(self._program)
        # Bits do not depend on the number of threads, so that a clock may choose it.
        together = cores is not None and cores.alone and self._shares and steps * self._seconds > _WORTH
        began = time.perf_counter()
        threads = parts if together and began >= self._until else 1
        flags = np.zeros(8 * parts, np.int64)
        replay, wrong = loops("replay").replay.now, np.zeros(parts, np.int64)

        def walk(part: int) -> None:
            wrong[part] = replay(self._program, self._words, self._places, numbers, flags, part, threads, parts, _LOOKS)

        if cores is None or threads == 1:
            walk(0)
        else:
            cores.together(walk, abandon=lambda: flags.__setitem__(0, -1))
        took = max(time.perf_counter() - began, 1e-9) / steps
        if threads == 1:
            self._alone = min(self._alone, took)
        elif took > self._alone:  # somebody else has a core, and each meeting waits until he gives it up
            self._until = began + took * steps + _PATIENCE
        self._seconds = took * threads
        if wrong.any():
            raise IndexError("an index of the step is out of range")

    def _numbers_of(self, rows: Any, losses: Any, hyper: Sequence[Mapping[str, Any]]) -> Any:
        """What each step finds in its words, (steps, slots)."""
        steps = len(hyper)
        numbers = np.empty((steps, 2 + len(self._numbers)), np.int64)
        numbers[:, 0] = address(rows) + np.arange(steps) * (rows.strides[0] if steps else 0)
        numbers[:, 1] = address(losses) + np.arange(steps) * losses.itemsize
        for slot, (number, dtype) in enumerate(self._numbers, 2):
            values = [number.of(given) for given in hyper]
            column = np.zeros(steps, np.int64)
            column.view(dtype)[:: 8 // dtype.itemsize] = values
            numbers[:, slot] = column
        return numbers

    @property
    def meetings(self) -> Any:
        """How often the threads have met before each place of the program, (places,)."""
        meets = (self._program[0] == MEET).all(axis=1)
        return np.cumsum(meets) - meets

    def timed(self, rows: Any, hyper: Sequence[Mapping[str, Any]]) -> Any:
        """Do steps as `run` does, in one thread and with a look at the clock after each instruction.

        Nanoseconds, (steps, parts, places), and what a look takes; 0 where no instruction stands.

        Raises
        ------
        BackendError
            If the system has no clock that compiled code can read.
        """
        if not hasattr(time, "clock_gettime"):
            raise BackendError("the instructions of a tape are timed by clock_gettime, which this system has not")
        rows, losses = np.ascontiguousarray(rows, np.int64), np.empty(len(hyper), self.loss.dtype)
        numbers = self._numbers_of(rows, losses, hyper)
        spent = np.zeros((len(hyper), *self._program.shape[:2]), np.int64)
        clock = np.zeros(2, np.int64)
        look = loops("timed").timed.now(
            self._program, self._words, self._places, numbers, time.CLOCK_MONOTONIC, clock, spent
        )
        return spent, int(look)


def arrays_of(carry: Tree, data: Any) -> dict[str, Any]:
    """What a step works on, by the names that `Tape.bind` takes."""
    return {**{f"carry {number}": leaf for number, leaf in enumerate(tree.leaves(carry))}, **data._asdict()}


def _placed(roots: Sequence[Root], words: Any) -> Any:
    """One piece of memory for what a step writes and reads again; what is not used at the same time shares it."""
    free: list[tuple[int, int]] = []  # when a place is free again, and its size
    starts: list[int] = []
    size = 0
    where: list[tuple[Root, int]] = []
    for root in sorted(roots, key=lambda root: root.first):
        # A byte more: up to 2.0, NumPy takes arrays that touch for ones that overlap, and rounds otherwise for those.
        needed = -(-(root.size + 1) // _LINE) * _LINE
        fits = [i for i, (until, room) in enumerate(free) if until < root.first and needed <= room <= 2 * needed]
        if fits:
            place = min(fits, key=lambda i: free[i][1])
            free[place] = root.last, free[place][1]
        else:
            place = len(free)
            free.append((root.last, needed))
            starts.append(size)
            size += needed
        where.append((root, starts[place]))
    memory = np.empty(size + _LINE, np.uint8)
    base = -(-address(memory) // _LINE) * _LINE
    for root, start in where:
        for word, offset in root.words:
            words[word] = base + start + offset
    return memory


def record(
    step: Callable[..., Any], carry: Tree, data: Any, index: Any, hyper: Mapping[str, Any], parts: int, worth: float
) -> Tape:
    """Write down a step while it is done on copies of what it changes.

    Raises
    ------
    Unrecordable
        With the reason, if a part of it cannot be written down.
    """
    recorder = Recorder(parts, traced, worth)
    copies = tree.map(lambda leaf: np.array(leaf, order="C"), carry)
    for number, leaf in enumerate(tree.leaves(copies)):
        recorder.bring(leaf, f"carry {number}")
    data = type(data)(*(None if x is None else _by_itself(x) for x in data))
    for name, x in zip(("x", "y", "weight"), data, strict=True):
        if x is not None:
            recorder.bring(x, name)
    index = np.array(index, np.int64)
    recorder.bring(index, "index")
    given = tree.map(traced, copies)
    examples = type(data)(*(None if x is None else traced(x) for x in data))
    with recording(recorder):
        *new, loss = step(*given, examples.batch(traced(index)), _numbers(hyper))
        if not isinstance(loss, np.ndarray):
            raise Unrecordable("the loss is no array")
        _end(recorder, copies, tuple(new))
        out = np.empty((), loss.dtype)
        recorder.bring(out, "loss")
        recorder.convert(loss, out)
    return Tape(recorder, out)


def _by_itself(x: Any) -> Any:
    """The same array as the owner of its memory: targets may be the examples, or both the columns of one table."""
    return np.lib.stride_tricks.as_strided(x, x.shape, x.strides)


def _numbers(hyper: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The numbers of a step, which know where they come from."""
    found: dict[str, Any] = {}
    for name, value in hyper.items():
        if isinstance(value, Mapping):
            found[name] = _numbers(value, *path, name)
        else:
            kind: Any = StepInt if isinstance(value, int) else StepFloat
            found[name] = kind(value, functools.partial(_at, path=(*path, name)))
    return found


def _at(numbers: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        numbers = numbers[name]
    return numbers


def _end(recorder: Recorder, old: Tree, new: Tree) -> None:
    """Let the next step find in its arrays what this one gave."""
    before = tree.leaves(old)
    homes = {id(leaf): number for number, leaf in enumerate(before)}
    moved = []
    for number, (home, leaf) in enumerate(zip(before, tree.leaves(new), strict=True)):
        leaf = plain(leaf) if isinstance(leaf, np.ndarray) else leaf
        if not isinstance(leaf, np.ndarray) or leaf.shape != home.shape or leaf.dtype != home.dtype:
            raise Unrecordable("what a step changes has another shape or dtype after it")
        lives = homes.get(id(owner(leaf)))
        if lives is not None and (lives != number or address(leaf) != address(home)):
            raise Unrecordable("arrays change places in a step")
        if lives is None:
            moved.append((leaf, home))
    for leaf, home in moved:
        recorder.convert(leaf, home)
