"""A device that runs out of memory: one of the calls that need some fails, or all from there on.

Allocations, kernels that are loaded or launched, calls of cuBLAS and of graphs are counted, in their order.
What fails is loud, as with CuPy: but for the reductions that CuPy leaves to CUB, which keep what lay in the memory of
their results where their kernel could not be loaded, at its first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

#: What CuPy computes by CUB, by the names of the standard: not `any` and `all`, nor `std`.
CUB = frozenset(
    {"sum", "mean", "max", "min", "prod", "argmax", "argmin", "cumsum", "cumprod", "cumulative_sum", "cumulative_prod"}
)


class Shortage:
    """The calls so far, and which of them fails.

    Attributes
    ----------
    calls : list of str
        Their kinds.
    failed : list of str
        Those that did not get any memory.
    """

    def __init__(self, call: int | None, lasting: bool) -> None:
        self.calls: list[str] = []
        self.failed: list[str] = []
        self._call, self._lasting = call, lasting

    def meets(self, kind: str) -> bool:
        self.calls.append(kind)
        number = len(self.calls) - 1
        met = self._call is not None and (number >= self._call if self._lasting else number == self._call)
        if met:
            self.failed.append(kind)
        return met


_now: list[Shortage] = []
_loaded: set[tuple[str, str]] = set()


@contextlib.contextmanager
def shortage(call: int | None = None, lasting: bool = False) -> Iterator[Shortage]:
    """Inside, a call fails, counted from 0, and with ``lasting`` all that follow it; None to count only."""
    _now.append(Shortage(call, lasting))
    try:
        yield _now[-1]
    finally:
        _now.pop()


def forget() -> None:
    """As in a new process, no kernel of CUB is loaded."""
    _loaded.clear()


def is_met(kind: str) -> bool:
    """Whether a call of some kind gets no memory; counts it."""
    return bool(_now) and _now[-1].meets(kind)


def allocate(size: int) -> None:
    if is_met("allocation"):
        raise MemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")


def load_or_launch(kind: str) -> None:
    if is_met(kind):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")


def call_of_runtime(kind: str) -> None:
    if is_met(kind):
        raise RuntimeError("cudaErrorMemoryAllocation: out of memory")


def is_silent(name: str, dtype: str) -> bool:
    """Whether a kernel of CUB is not there, and could not be loaded."""
    if (name, dtype) in _loaded:
        return False
    if is_met("load by CUB"):
        return True
    _loaded.add((name, dtype))
    return False
