"""How many threads BLAS has: the number is one for the whole process."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["hold_at_one", "numbers_of_threads", "set_numbers_of_threads"]


@functools.cache
def _libraries() -> list[Any]:
    # Its own context manager would do the same in ten times the time. SciPy may have brought another BLAS along, with
    # which nothing is computed here; NumPy's lies in or beside NumPy's folder, or is the system's.
    found = list(ThreadpoolController().select(user_api="blas").lib_controllers)
    return [library for library in found if library.filepath.startswith(os.path.dirname(np.__file__))] or found


@functools.cache
def _calls() -> list[tuple[Any, Any]]:
    """What tells the number of each library, and what sets it."""
    return [_calls_of(library) for library in _libraries()]


def _calls_of(library: Any) -> tuple[Any, Any]:
    if library.internal_api == "openblas" and getattr(library, "threading_layer", "") == "pthreads":
        # Its own functions take a tenth of the time, a tenth of that of a small prediction.
        find = getattr(library, "_get_symbol", lambda name: None)
        calls = find("openblas_get_num_threads"), find("openblas_set_num_threads")
        if None not in calls:
            return calls
    # Since 3.8, threadpoolctl lets only the thread that came first set the number. Ours is set by the first owner and
    # given back by the last, whichever threads they are.
    free = getattr(library, "clear_controlling_thread", lambda force: None)

    def set_number(n: int) -> None:
        free(force=True)
        library.set_num_threads(n)
        free(force=True)

    return library.get_num_threads, set_number


def numbers_of_threads() -> list[int]:
    """That of each BLAS that NumPy computes with."""
    return [tell() for tell, _ in _calls()]


def hold_at_one(most: int) -> list[int]:
    """Let each BLAS that has ``most`` threads or fewer have one; the numbers before, for `set_numbers_of_threads`."""
    before = []
    for tell, set_number in _calls():
        before.append(n := tell())
        if 1 < n <= most:
            set_number(1)
    return before


def set_numbers_of_threads(numbers: Sequence[int]) -> None:
    """Let each BLAS have so many threads."""
    for place, (_, set_number) in enumerate(_calls()):
        set_number(numbers[place])
