"""The cores and the memory that a computation on the CPU has for itself while it runs.

OpenBLAS keeps threads of its own, which go on spinning for some 30 ms after each matrix product and take the other
cores away from everything else. So a computation takes the cores over: BLAS runs on one thread for as long, and every
kernel, matrix products included, is split into as many parts as there are cores. How it is split depends on the machine
alone, and not on what else runs, so results are reproducible. Where several Python threads compute at once, each one
works through its parts by itself.

A forked child has none of its parent's threads: it forgets all of this, and begins as if nothing were computing.

Large arrays come from memory that is used again as soon as nobody holds the array any more. The C library would give
it back to the system after each step, and the system would fill it with zeros, page after page.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import hold_at_one, set_numbers_of_threads
from .compile import loops
from .recording import recorder
from .subnormal import flush, is_flushing

__all__ = ["SPLIT", "Workspace", "contiguous", "empty", "give_back", "share", "take", "taken", "workspace", "zeros"]

#: Beyond so many cores, BLAS keeps them all: its own threads scale further than parts handed out from Python.
_MOST_CORES = 8

#: What is worth being split, in nanoseconds of one core: handing over takes a few thousand while the other core looks
#: for work, and 100,000 where it has gone to sleep. Measured: with more, a small network's products stay on one core.
_WORTH = 120_000

#: What falls into parts, in nanoseconds.
SPLIT = 2000

#: How often a thread looks for the other one before it sleeps: about two milliseconds.
_LOOKS = 5000

#: How often it looks whether the other one has begun, and how long it leaves the GIL to it then: about 7 microseconds.
_NEAR, _PAUSE = 40, 12

#: Smaller arrays, in bytes, are left to NumPy.
_LARGE = 2**15


class Workspace:
    """What a thread holds from entering to leaving `NumpyBackend.context`; may be entered again while it is held."""

    def __init__(self) -> None:
        self._depth = 0
        #: How often it was entered by the parent of this process, in blocks that the child may never leave.
        self._inherited = 0
        self._cores: _Cores | None = None
        self._memory: list[Any] = []

    def __enter__(self) -> Workspace:
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth <= self._inherited:
            self._inherited = self._depth
            cores, self._cores, self._memory = self._cores, None, []
            if cores is not None:
                cores.release()

    def forget_threads(self) -> None:
        """What a child process does with the workspace of the thread that forked it, the only one it has."""
        self._inherited, self._cores = self._depth, None

    def forget_memory(self) -> None:
        """Give back what is kept for arrays to come."""
        self._memory = []

    @property
    def held(self) -> bool:
        return self._depth > 0

    def cores(self) -> _Cores | None:
        """The cores, from the first call on; None if the workspace is not held, and without Numba.

        Without its wait that does not sleep, handing work over costs more than BLAS loses by sharing out for itself.
        """
        if self._cores is None and self._depth and loops("threads") is not None:
            self._cores = _Cores()
        return self._cores

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of any values, in memory that an earlier one has left if there is some of the size."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LARGE or not _COUNTS_REFERENCES:
            return np.empty(shape, dtype)
        memory = self._memory
        place = bisect_left(memory, size, key=len)
        for i in range(place, len(memory)):
            if len(memory[i]) > 2 * size:
                break
            if sys.getrefcount(memory[i]) == _UNUSED:
                return np.ndarray(shape, dtype, memory[i])
        memory.insert(place, np.empty(size, np.uint8))
        return np.ndarray(shape, dtype, memory[place])


#: Without a global interpreter lock, a count of references is not exact.
_COUNTS_REFERENCES = getattr(sys, "_is_gil_enabled", lambda: True)()

#: What the count is for memory that nothing but the list refers to.
_UNUSED = sys.getrefcount([np.empty(1, np.uint8)][0]) + 1


class _Here(threading.local):
    """The workspace of each thread."""

    def __init__(self) -> None:
        self.workspace = Workspace()


_here = _Here()


def workspace() -> Workspace:
    """That of this thread."""
    return _here.workspace


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """As ``np.empty``, with memory that is used again where the thread holds its workspace."""
    if (here := recorder()) is not None:
        return here.empty(shape, dtype)
    space = _here.workspace
    return space.empty(shape, dtype) if space.held else np.empty(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """As ``np.zeros``; seen where steps are recorded, so that every step begins with zeros."""
    here = recorder()
    return np.zeros(shape, dtype) if here is None else here.zeros(shape, dtype)


def contiguous(x: Any) -> Any:
    """As ``np.ascontiguousarray``; a copy is seen where steps are recorded."""
    here = recorder()
    return np.ascontiguousarray(x) if here is None else here.contiguous(x)


def share(function: Callable[..., None], *lengths: int, cost: float) -> None:
    """Call ``function(*slices)`` with a slice for each of the lengths: once for everything, or once for each core.

    ``cost`` is about the time of everything on one core in nanoseconds. The calls run at the same time if that pays,
    and none of them may wait for another. Into which parts work falls does not depend on that: BLAS rounds otherwise in
    a part, and a tape, on which handing over costs next to nothing, is to give the same bits.
    """
    # Taken also for what is not split: BLAS may round otherwise on several threads.
    cores, here = _here.workspace.cores(), recorder()
    if cores is None or cost < SPLIT:
        function(*(slice(0, length) for length in lengths))
        return
    works = [functools.partial(function, *part) for part in cores.parts_of(lengths)]
    if here is not None:
        here.parallel(works)
    else:
        cores.run(works, together=cost >= _WORTH)


class _Cores:
    """The cores of the machine, taken from BLAS; and threads for all of them but the caller's own."""

    def __init__(self) -> None:
        self._count = take()
        self._helpers: list[_Helper] = []

    @property
    def count(self) -> int:
        return self._count

    @property
    def alone(self) -> bool:
        """Whether no other thread of the process has taken the cores, too."""
        return _owners == 1

    def together(self, function: Callable[[int], None], abandon: Callable[[], None]) -> None:
        """Call ``function(part)`` for all parts, which run at the same time and may wait for one another.

        ``abandon`` is called where the first part ends by an exception, such as Ctrl-C before it has begun: the
        others must not wait for it then.
        """
        self._hand_out([functools.partial(function, part) for part in range(self._count)], abandon)

    def parts_of(self, lengths: tuple[int, ...]) -> list[tuple[slice, ...]]:
        """A slice of each of some lengths for each core."""
        n = self._count
        return [tuple([slice(length * i // n, length * (i + 1) // n) for length in lengths]) for i in range(n)]

    def run(self, works: Sequence[Callable[[], None]], together: bool = True) -> None:
        """Do a work for each core; at the same time where that pays and no other thread has the cores, too."""
        if together and _owners == 1:
            self._hand_out(works)
        else:
            for work in works:
                work()

    def _hand_out(self, work: Sequence[Callable[[], None]], abandon: Callable[[], None] = lambda: None) -> None:
        while len(self._helpers) < self._count - 1:
            self._helpers.append(_Helper())
        begun = []
        try:
            for helper, theirs in zip(self._helpers, work[1:], strict=True):
                helper.start_on(theirs)
                begun.append(helper)
            work[0]()
        except BaseException:
            abandon()
            raise
        finally:
            errors = [error for error in [helper.result() for helper in begun] if error is not None]
        if errors:
            raise errors[0]

    def release(self) -> None:
        for helper in self._helpers:
            helper.end()
        give_back()


class _Helper:
    """A thread that does one thing after the other."""

    def __init__(self) -> None:
        # Locks hand over three times as fast as queues; before each of them stands a wait without sleep.
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        #: How much work was given, how much is done, and how much was begun, each in a cache line of its own.
        self._flags = np.zeros(24, np.int64)
        self._begun = 0
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._flushing = False
        threading.Thread(target=self._loop, daemon=True, name="portnn").start()

    def _loop(self) -> None:
        with workspace(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for done in itertools.count():
                self._await(8, done, 0, done + 1)
                self._go.acquire()
                self._flags[16] = done + 1
                if self._work is None:
                    return
                try:
                    flush(self._flushing)
                    self._work()
                except BaseException as error:  # raised again in the thread that asked for the work
                    self._error = error
                self._work = None  # the arrays in it may be used again
                self._done.release()

    def _await(self, mine: int, value: int, other: int, awaited: int) -> None:
        """Set a flag, and look at the other one for a while."""
        loops("threads").announce_and_wait(self._flags, mine, value, other, awaited, _LOOKS)

    def start_on(self, work: Callable[[], None]) -> None:
        """Begin with some work, in the mode of the thread that asks for it."""
        self._work, self._flushing = work, is_flushing()
        self._begun += 1
        self._go.release()
        loops("threads").hand_over(self._flags, 0, self._begun, 16, _NEAR, _PAUSE)

    def result(self) -> BaseException | None:
        """Wait for the end of the work: what it raised, if anything."""
        self._await(0, self._begun, 8, self._begun)
        self._done.acquire()
        error, self._error = self._error, None
        return error

    def end(self) -> None:
        self._work = None
        self._go.release()


_lock = threading.RLock()
_owners = 0
#: How many threads each BLAS library had.
_threads: list[int] = []


def take() -> int:
    """Hold BLAS at one thread until `give_back`; into how many parts work is split."""
    global _owners, _threads
    with _lock:
        if _owners == 0:
            _threads = hold_at_one(_MOST_CORES)
        _owners += 1
        most = max(_threads) if _threads else 1
        return most if most <= _MOST_CORES else 1


def taken() -> bool:
    """Whether BLAS is held at one thread now; not where there are so many cores that it keeps its own."""
    return _owners > 0 and max(_threads, default=1) <= _MOST_CORES


def give_back() -> None:
    """End what `take` began."""
    global _owners
    with _lock:
        _owners -= 1
        if _owners == 0:
            set_numbers_of_threads(_threads)


def _forget_threads() -> None:
    """In a forked child: the cores are nobody's, and BLAS has the threads that it had before anybody took them."""
    global _owners
    _here.workspace.forget_threads()
    if _owners:
        _owners = 0
        set_numbers_of_threads(_threads)
    _lock.release()


if hasattr(os, "register_at_fork"):
    # Held by nobody else at that moment, so the child does not find it locked by a thread that it has not.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_threads)
