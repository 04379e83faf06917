"""What a fork waits for: no thread is loading or compiling anything then, as the child could not go on with it."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

__all__ = ["loading"]

#: Held while something is loaded or compiled: a child would find the locks of Numba and of llvmlite held for ever.
loading = threading.RLock()

#: Numba's lock, while it is held for a fork.
_compiling: list[Any] = []


def _before_fork() -> None:
    loading.acquire()
    compiler = sys.modules.get("numba.core.compiler_lock")
    if compiler is not None:
        compiler.global_compiler_lock.acquire()
        _compiling.append(compiler.global_compiler_lock)


def _after_fork() -> None:
    while _compiling:
        _compiling.pop().release()
    loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
