"""How the loops of the Numba twins are compiled, and loaded when they are first needed: Numba takes a while.

They run without the GIL and on one thread, and the compiled code is kept on disk. A fork waits until no thread is
loading or compiling them: the child could do neither, as it does not have the thread that holds the locks.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from portnn.backend import first_line

from .recording import recorder

__all__ = ["HAS_NUMBA", "compiled", "loaded", "loops"]

F = TypeVar("F")


def _switched_off() -> bool:
    """By Numba's own variable, as Numba reads it."""
    try:
        return int(os.environ.get("NUMBA_DISABLE_JIT", "0")) != 0
    except ValueError:
        return False


#: Whether Numba (the extra ``fast``) is installed, and not switched off.
HAS_NUMBA = find_spec("numba") is not None and not _switched_off()


def compiled(function: F) -> F:
    from numba import njit

    # NumPy's division, which does not raise: a loop with a test for zero in it is not vectorised.
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, njit(cache=True, **options)(function))
    except RuntimeError:  # neither beside the file nor in the user's folder may the compiled code be written
        return cast(F, njit(**options)(function))


class Compiled:
    """What Numba made of a function; a call is also written down where this thread records.

    Attributes
    ----------
    dispatcher
        Numba's own object.
    """

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher, self.__name__, self.py_func = dispatcher, dispatcher.__name__, dispatcher.py_func

    def __call__(self, *args: Any) -> Any:
        here = recorder()
        return self.dispatcher(*args) if here is None else here.loop(self.dispatcher, args)


def loaded(module: str) -> Any:
    """A module beside this one that imports Numba: no other thread forks meanwhile."""
    with _loading:
        return import_module(f".{module}", __package__)


@functools.cache
def loops(subject: str) -> Any:
    """The functions of the module ``loops.<subject>`` by their names.

    None without Numba or where it is switched off, and with a warning where it is installed but of no use.
    """
    if not HAS_NUMBA:
        return None
    try:
        with _loading:  # Numba itself, too
            from numba import config

        if config.DISABLE_JIT:  # by its file or in the program: the loops would be run by Python
            return None
        module = loaded(f"loops.{subject}")
        return SimpleNamespace(**{name: Compiled(f) for name, f in vars(module).items() if hasattr(f, "py_func")})
    except ImportError as error:  # as where NumPy is newer than Numba knows
        warnings.warn(f"Numba cannot be used, so training is slower: {first_line(error)}", RuntimeWarning, stacklevel=2)
        return None


_loading = threading.RLock()
#: Numba's own lock, while it is held for a fork.
_compiling: list[Any] = []


def _before_fork() -> None:
    _loading.acquire()
    compiler = sys.modules.get("numba.core.compiler_lock")
    if compiler is not None:
        compiler.global_compiler_lock.acquire()
        _compiling.append(compiler.global_compiler_lock)


def _after_fork() -> None:
    while _compiling:
        _compiling.pop().release()
    _loading.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
