"""The cores and the memory that a computation on the CPU has for itself while it runs.

OpenBLAS keeps threads of its own, which go on spinning for some 30 ms after each matrix product and take the other
cores away from everything else. So a computation takes the cores over: BLAS runs on one thread for as long, and every
kernel, matrix products included, is split into as many parts as there are cores. How it is split depends on the machine
alone, and not on what else runs, so results are reproducible. Where several Python threads compute at once, each one
works through its parts by itself.

Large arrays come from memory that is used again as soon as nobody holds the array any more. The C library would give
it back to the system after each step, and the system would fill it with zeros, page after page.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["Workspace", "empty", "share", "workspace"]

#: Beyond so many cores, BLAS keeps them all: its own threads scale further than parts handed out from Python.
_MOST_CORES = 8

#: What is worth being split, in nanoseconds of one core: a core that sleeps takes 100,000 to wake up.
_WORTH = 250_000

#: Smaller arrays, in bytes, are left to NumPy.
_LARGE = 2**15


class Workspace:
    """What a thread holds between entering and leaving `NumpyBackend.context`; may be entered again while it is held.

    The cores are taken by the first kernel that is worth it.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._cores: _Cores | None = None
        self._memory: list[Any] = []

    def __enter__(self) -> Workspace:
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            cores, self._cores, self._memory = self._cores, None, []
            if cores is not None:
                cores.release()

    @property
    def held(self) -> bool:
        return self._depth > 0

    def cores(self) -> _Cores:
        if self._cores is None:
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
    space = _here.workspace
    return space.empty(shape, dtype) if space.held else np.empty(shape, dtype)


def share(function: Callable[..., None], *lengths: int, cost: float) -> None:
    """Call ``function(*slices)`` with a slice for each of the lengths: once for everything, or once for each core.

    ``cost`` is about the time of everything on one core in nanoseconds. The calls run at the same time, and none of
    them may wait for another.
    """
    space = _here.workspace
    if cost < _WORTH or not space.held:
        function(*(slice(0, length) for length in lengths))
    else:
        space.cores().run(function, lengths)


class _Cores:
    """The cores of the machine, taken from BLAS; and threads for all of them but the caller's own."""

    def __init__(self) -> None:
        self._count = _take()
        self._helpers: list[_Helper] = []

    def run(self, function: Callable[..., None], lengths: tuple[int, ...]) -> None:
        parts = [
            tuple(slice(n * i // self._count, n * (i + 1) // self._count) for n in lengths) for i in range(self._count)
        ]
        if _owners > 1:
            for part in parts:
                function(*part)
            return
        while len(self._helpers) < self._count - 1:
            self._helpers.append(_Helper())
        for helper, part in zip(self._helpers, parts[1:], strict=True):
            helper.start_on(functools.partial(function, *part))
        try:
            function(*parts[0])
        finally:
            errors = [error for error in [helper.result() for helper in self._helpers] if error is not None]
        if errors:
            raise errors[0]

    def release(self) -> None:
        for helper in self._helpers:
            helper.end()
        _give_back()


class _Helper:
    """A thread that does one thing after the other."""

    def __init__(self) -> None:
        # Locks hand over three times as fast as queues.
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._work: Callable[[], None] | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._loop, daemon=True, name="portnn").start()

    def _loop(self) -> None:
        with workspace(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while True:
                self._go.acquire()
                if self._work is None:
                    return
                try:
                    self._work()
                except BaseException as error:  # raised again in the thread that asked for the work
                    self._error = error
                self._work = None  # the arrays in it may be used again
                self._done.release()

    def start_on(self, work: Callable[[], None]) -> None:
        self._work = work
        self._go.release()

    def result(self) -> BaseException | None:
        """Wait for the end of the work: what it raised, if anything."""
        self._done.acquire()
        error, self._error = self._error, None
        return error

    def end(self) -> None:
        self._work = None
        self._go.release()


_lock = threading.Lock()
_owners = 0
_limit: Any = None


@functools.cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def _take() -> int:
    """Hold BLAS at one thread; into how many parts work is split."""
    global _owners, _limit
    with _lock:
        if _owners == 0:
            threads = max((library["num_threads"] for library in _blas().info()), default=1)
            if threads > _MOST_CORES:
                threads = 1
            _limit = threads, _blas().limit(limits=1) if threads > 1 else None
        _owners += 1
        return int(_limit[0])


def _give_back() -> None:
    global _owners, _limit
    with _lock:
        _owners -= 1
        if _owners == 0:
            if _limit[1] is not None:
                _limit[1].restore_original_limits()
            _limit = None
