"""What a tape is made of: memory, words that hold addresses in it, and the order of the instructions."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..machine_code import caller
from .numbers import StepFloat, StepInt, Unrecordable, plain_number

__all__ = ["MEET", "Instruction", "Place", "Root", "Shifted", "Words", "address", "bits", "owner", "plain", "strided"]

#: In the place of an instruction: all threads meet.
MEET = (0, 0)


def plain(x: Any) -> Any:
    """The same array as NumPy's own type, on the same memory."""
    return x.view(np.ndarray) if isinstance(x, np.ndarray) and type(x) is not np.ndarray else x


def address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


def owner(x: Any) -> Any:
    """The array whose memory this one is a view of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def strided(x: Any, count: int, step: int) -> Any:
    """So many values of an array from its first one on, ``step`` bytes apart; a view of what owns the memory."""
    base = owner(x)
    return np.ndarray((count,), x.dtype, base, address(x) - address(base), (step,))


@dataclass
class Root:
    """Some memory: what it is to the step, and which words hold addresses in it.

    Attributes
    ----------
    array : ndarray or weak reference to one
        Owns the memory. What a step makes lives no longer than in a step that is not recorded.
    size : int
        Bytes.
    known : bool
        Whether a replayed step finds in it what the recorded one found: it is the step's to read, or was written
        by an instruction.
    fresh : bool
        Whether it was asked for to be written: a compiled loop may be the first to do so.
    name : str or None
        Of memory that each run brings: then the addresses are bound anew.
    words : list of (word, offset)
    first, last : int
        Between which meetings of the threads it is used.
    """

    array: Any
    size: int
    known: bool
    fresh: bool = False
    name: str | None = None
    anchor: int = 0
    words: list[tuple[int, int]] = field(default_factory=list)
    first: int = -1
    last: int = -1

    def used(self, time: int) -> None:
        self.first, self.last = time if self.first < 0 else self.first, time


@dataclass(frozen=True)
class Place:
    """So many words of the tape, as an array of int64 that an instruction is given."""

    word: int
    size: int


@dataclass(frozen=True)
class Shifted:
    """An array from so many bytes on."""

    array: Any
    bytes: int


class Instruction(NamedTuple):
    """What is known of an instruction beside what does it: for people who look at a tape.

    Attributes
    ----------
    part, place : int
        Where it stands in `Words.program`.
    name : str
        Of the ufunc or the compiled loop.
    sizes : tuple of int
        Of a product, the lengths (m, k, n) that ``2 m k n`` operations come of, behind a number of products if there
        are several; else ().
    bytes : int
        That it reads and writes.
    """

    part: int
    place: int
    name: str
    sizes: tuple[int, ...]
    bytes: int


class Words:
    """The blocks of a step, and the order of its instructions.

    Parameters
    ----------
    parts : int
        Into how many parts work is split (`portnn_backends.on_numpy.workspace.share`).
    wrap : callable
        Makes of an array one that says what is done with it.
    worth : float
        From so many numbers on a pass of NumPy's over an array is split; handing over costs a tape next to nothing.

    Attributes
    ----------
    words : list of int
        All blocks, one behind the other.
    links : list of (word, word)
        Words that hold the address of another word.
    numbers : list of (word, number, dtype)
        Words that hold a number of the step.
    program : list of list of (caller, word)
        The instructions of each part.
    instructions : list of Instruction
        Those of all parts, in the order in which they were written down.
    """

    def __init__(self, parts: int, wrap: Callable[[Any], Any], worth: float) -> None:
        self.parts, self.wrap, self.worth = parts, wrap, worth
        self.words: list[int] = []
        self.links: list[tuple[int, int]] = []
        self.numbers: list[tuple[int, StepFloat | StepInt, Any]] = []
        self.program: list[list[tuple[int, int]]] = [[] for _ in range(parts)]
        self.instructions: list[Instruction] = []
        self._roots: dict[int, Root] = {}
        self._made: list[Root] = []
        self._part, self._time = 0, 0
        #: Whether the part is one of a work that is split.
        self._inside = False

    # Memory

    def bring(self, x: Any, name: str) -> None:
        """Memory that each run brings."""
        base = owner(x)
        if id(base) in self._roots:
            raise Unrecordable(f"{name} shares memory with {self._roots[id(base)].name}")
        self._roots[id(base)] = Root(base, base.nbytes, known=True, name=name, anchor=address(x))

    @property
    def brought(self) -> dict[str, Root]:
        return {root.name: root for root in self._roots.values() if root.name is not None}

    @property
    def temporary(self) -> list[Root]:
        """Memory that a step writes before it reads it."""
        written = [root for root in self._roots.values() if root.fresh and isinstance(root.array, np.ndarray)]
        return [root for root in (*self._made, *written) if root.words and root.name is None]

    @property
    def constants(self) -> list[Any]:
        return [root.array for root in self._roots.values() if not root.fresh and root.name is None]

    def root(self, x: Any) -> Root:
        """That of an array. One that nobody has brought is a constant, unless it was made from what is recorded."""
        base = owner(x)
        root = self._roots.get(id(base))
        if root is None:
            known = type(base) is np.ndarray and type(x) is np.ndarray
            root = self._roots[id(base)] = Root(base, base.nbytes, known, anchor=address(base))
        return root

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Memory for results."""
        made = np.empty(shape, dtype)
        self.made(made)
        return self.wrap(made)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        made = self.empty(shape, dtype)
        made.fill(0)
        return made

    def contiguous(self, x: Any) -> Any:
        return x if x.flags.c_contiguous else self.wrap(x).copy()

    def copied(self, x: Any) -> Any:
        return self.wrap(x).copy()

    def taken(self, x: Any, index: Any) -> Any:
        return self.wrap(x).take(index, axis=0)

    def made(self, x: Any) -> None:
        """Memory whose values an instruction will write."""
        base = owner(x)
        gone = weakref.ref(base, functools.partial(self._forget, id(base)))
        root = self._roots[id(base)] = Root(gone, base.nbytes, known=False, fresh=True, anchor=address(base))
        self._made.append(root)

    def _forget(self, number: int, gone: Any) -> None:
        """An array of the step is no more, and another object may get its number."""
        if number in self._roots and self._roots[number].array is gone:
            del self._roots[number]

    def reads(self, x: Any) -> None:
        if x.size and not self.root(x).known:
            raise Unrecordable("it reads what was made by something that is not recorded")

    def writes(self, x: Any, reading: Sequence[Any] = ()) -> None:
        root = self.root(x)
        if root.known and not root.fresh and root.name is None:
            whole = x.size * x.itemsize == root.size
            if not whole or any(isinstance(other, np.ndarray) and owner(other) is root.array for other in reading):
                raise Unrecordable("values are added to an array whose first values are not written in the step")
            root.fresh = True
        root.known = True

    # Words

    def block(self, values: Sequence[Any]) -> int:
        """Room for some words; the first one. A value is an int, a float with its kind, an array or a `Place`."""
        first = len(self.words)
        for value in values:
            word = len(self.words)
            self.words.append(0)
            if isinstance(value, np.ndarray | Shifted):
                array, more = (value.array, value.bytes) if isinstance(value, Shifted) else (value, 0)
                root, at = self.root(array), address(array) + more
                root.words.append((word, at - root.anchor))
                root.used(self._time)
                self.words[word] = at
            elif isinstance(value, Place):
                self.links.append((word, value.word))
            elif isinstance(value, tuple):
                self._scalar(word, *value)
            else:
                self.words[word] = int(value)
        return first

    def _scalar(self, word: int, value: Any, dtype: Any) -> None:
        if isinstance(value, StepFloat | StepInt):
            self.numbers.append((word, value, np.dtype(dtype)))
        self.words[word] = bits(value, dtype)

    def instruct(
        self, name: str, kinds: str, function: int, values: Sequence[Any], bytes_: int, sizes: tuple[int, ...] = ()
    ) -> None:
        block, program = self.block([function, *values]), self.program[self._part]
        self.instructions.append(Instruction(self._part, len(program), name, sizes, bytes_))
        program.append((caller(kinds), block))

    def splits(self, numbers: float) -> bool:
        """Whether a pass over so many numbers is to be split."""
        return self.parts > 1 and not self._inside and numbers >= self.worth

    def parallel(self, works: Sequence[Callable[[], None]]) -> None:
        """What the cores do at the same time, a work for each."""
        if self._inside:  # what splits in a part of split work is done there as it is
            for work in works:
                work()
            return
        self._meet()
        self._inside = True
        for self._part, work in enumerate(works):
            work()
        self._part, self._inside = 0, False
        self._meet()

    def _meet(self) -> None:
        if all(not instructions or instructions[-1] == MEET for instructions in self.program):
            return
        length = max(len(instructions) for instructions in self.program)
        for instructions in self.program:
            instructions += [(-1, 0)] * (length - len(instructions)) + [MEET]
        self._time += 1


def bits(value: Any, dtype: Any) -> int:
    """A number of a dtype as a word."""
    dtype = np.dtype(dtype)
    word = np.zeros(1, np.int64)
    word.view(dtype)[0] = plain_number(value)
    return int(word[0])
