"""The loops of the Numba twins: compiled for the arguments that they are first given, kept on disk, and called.

They run without the GIL and on one thread. Numba is imported only where something is to be compiled; to load what is
kept takes a tenth of the time of that import.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import numpy as np

from portnn.backend import first_line

from .loading import loading
from .recording import recorder

__all__ = ["HAS_NUMBA", "Code", "Compiled", "Loops", "compiled", "loaded", "loops"]

F = TypeVar("F")

#: What a function is called in the object file that was made of it.
_SYMBOL = "portnn_loop"

_ARRAY = np.ndarray


def _switched_off() -> bool:
    """By Numba's own variable, as Numba reads it."""
    try:
        return int(os.environ.get("NUMBA_DISABLE_JIT", "0")) != 0
    except ValueError:
        return False


#: Whether Numba (the extra ``fast``) is installed, and not switched off.
HAS_NUMBA = find_spec("numba") is not None and not _switched_off()


def compiled(function: F) -> F:
    """Numba's decorator with the options of all loops, for the modules in `loops`."""
    from numba import njit

    # NumPy's division, which does not raise: a loop with a test for zero in it is not vectorised. No memory of Numba's
    # and no wrappers for Python: the code is called by its address, also where Numba is not imported.
    options = {"nogil": True, "error_model": "numpy", "_nrt": False}
    return cast(F, njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function))


@dataclass(frozen=True)
class Code:
    """What was made of a loop for arguments of some forms.

    Attributes
    ----------
    address : int
        Of a function that takes two addresses, of what it gives and of its error, and then the flat arguments.
    gives : str
        v for nothing, i for an integer, t for a truth value.
    letters : str
        One for each of the flat arguments, as for `machine_code.caller`.
    """

    address: int
    gives: str
    letters: str

    @property
    def kinds(self) -> str:
        """For `machine_code.caller`."""
        return "i:ii" + self.letters


class Compiled:
    """A loop; a call is also written down where this thread records.

    Parameters
    ----------
    subject, name : str
        The module in `loops` that it stands in, and its name there.
    """

    def __init__(self, subject: str, name: str) -> None:
        self.__name__, self._subject = name, subject
        self._codes: dict[Any, Code] = {}
        self._calls: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        here = recorder()
        return self.now(*args) if here is None else here.loop(self, args)

    def now(self, *args: Any) -> Any:
        """A call that nobody writes down."""
        call, block = self._call(args)
        return call(block(args))

    def prepared(self, *args: Any) -> Callable[[], Any]:
        """`now` for what stands in the same arrays at any time: to be called often."""
        call, block = self._call(args)
        words = block(args)
        return lambda: (call(words), args)[0]  # which keeps the arrays

    def _call(self, args: tuple[Any, ...]) -> tuple[Callable[[bytes], Any], Callable[..., bytes]]:
        forms = tuple([(a.dtype, a.ndim, a.flags.num) if type(a) is _ARRAY else type(a) for a in args])
        made = self._calls.get(forms)
        if made is None:
            made = self._calls[forms] = self._new_call(args)
        return made

    def _new_call(self, args: tuple[Any, ...]) -> tuple[Callable[[bytes], Any], Callable[..., bytes]]:
        from .machine_code import FAILED, python_call

        code, letters, flat = self.code(args), [], 0
        for argument in args:
            if isinstance(argument, np.ndarray):
                letters.append(f"a{argument.ndim}:{argument.itemsize}")
                flat += 5 + 2 * argument.ndim
            else:
                many = len(argument) if isinstance(argument, tuple) else 1
                letters += ["u"] if type(argument) is np.uint64 else list(code.letters[flat : flat + many])
                flat += many
        several = any(isinstance(argument, tuple) for argument in args)
        call_block, block_of = python_call(code.gives, tuple(letters))
        finishes: dict[str, Callable[[int], Any]] = {"v": _nothing, "i": int, "t": bool}
        address, finish = code.address, finishes[code.gives]

        def block(args: Any) -> bytes:
            if several:
                args = [value for a in args for value in (a if type(a) is tuple else (a,))]
            return block_of(address, args)

        def call(words: bytes) -> Any:
            result = call_block(words)
            if result == FAILED:  # nothing else is raised in a loop
                raise IndexError(f"{self.__name__}: an index is out of range")
            return finish(result)

        return call, block

    def code(self, args: tuple[Any, ...]) -> Code:
        """The code for such arguments: loaded if it was kept, else compiled."""
        form = ",".join(map(_form, args))
        with loading:
            code = self._codes.get(form)
            if code is None:
                code = self._codes[form] = self._made(form, args)
        return code

    def _made(self, form: str, args: tuple[Any, ...]) -> Code:
        from . import kept
        from .machine_code import install

        name = f"{self._subject}.{self.__name__}-{hashlib.sha256(form.encode()).hexdigest()[:16]}"
        content = kept.read(name)
        if content is None:
            from .compiler import compile_loop

            function = getattr(import_module(f".loops.{self._subject}", __package__), self.__name__)
            code, *described = compile_loop(function, args, _SYMBOL)
            content = json.dumps(described).encode() + b"\n" + code
            kept.write(name, content)
        header, code = content.split(b"\n", 1)
        return Code(install(code, _SYMBOL), *json.loads(header))


def _nothing(result: int) -> None:
    """What a loop gives that gives nothing."""


def _form(argument: Any) -> str:
    """All that the code for an argument depends on."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        order = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return f"{argument.dtype.str} {argument.ndim} {order} {flags.aligned} {flags.writeable}"
    if isinstance(argument, tuple):
        return f"({' '.join(map(_form, argument))})"
    return type(argument).__name__


class Loops:
    """The loops of a module by their names; the module itself is imported only to be compiled."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __getattr__(self, name: str) -> Compiled:
        if name.startswith("_"):
            raise AttributeError(name)
        vars(self)[name] = loop = Compiled(self._subject, name)
        return loop


def loaded(module: str) -> Any:
    """A module beside this one that takes long to import: no other thread forks meanwhile."""
    with loading:
        return import_module(f".{module}", __package__)


@functools.cache
def loops(subject: str) -> Any:
    """`Loops`: the functions of the module ``loops.<subject>`` by their names.

    None without Numba or where it is switched off, and with a warning where it is installed but of no use.
    """
    if not HAS_NUMBA:
        return None
    try:
        with loading:
            return Loops(subject) if _usable() else None
    except ImportError as error:  # as where NumPy is newer than Numba knows
        warnings.warn(f"Numba cannot be used, so training is slower: {first_line(error)}", RuntimeWarning, stacklevel=2)
        return None


def _usable() -> bool:
    """Whether loops can be compiled, or were compiled with these versions. Raises ImportError."""
    from . import kept
    from .machine_code import knows_arrays

    numba = sys.modules.get("numba")
    if numba is None and kept.is_empty():
        numba = import_module("numba")
    if numba is not None and numba.config.DISABLE_JIT:  # by its file or in the program: loops would be run by Python
        return False
    return knows_arrays()
