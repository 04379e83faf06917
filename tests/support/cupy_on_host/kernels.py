"""Kernels, compiled by g++, that the current stream runs on the CPU.

What CuPy and CUDA do not check is checked here: the arguments of a launch must have the types of the kernel's
parameters and be C-contiguous; nothing may be written outside an array; nothing may depend on the order of blocks and
threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from places import ROOT

from . import shortage
from .arrays import ndarray
from .memory import written_outside
from .streams import get_current_stream

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Fibers are made as on Linux.
COMPILER = shutil.which("g++") if sys.platform == "linux" and fcntl else None
SHIM = Path(__file__).parent / "cuda.hpp"
#: What was compiled is kept between runs, and shared by workers.
CACHE = ROOT / ".pytest_cache" / "cuda_on_host"


class RawModule:
    """Stands for ``cupy.RawModule``."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        self._library = ctypes.PyDLL(str(build(code, options)))  # which holds the GIL: fibers are no threads

    def compile(self) -> None:
        """Done when it was made."""

    def get_function(self, name: str) -> Any:
        shortage.load_or_launch("load")
        signature = getattr(self._library, f"signature_{name}")
        signature.restype = ctypes.c_char_p
        launch = getattr(self._library, f"launch_{name}")
        launch.restype = ctypes.c_char_p
        return functools.partial(run, name, launch, signature().decode().split())


def build(code: str, options: tuple[str, ...]) -> Path:
    exports = "\n".join(f"EXPORT({name})" for name in re.findall(r"^KERNEL (\w+)\(", code, re.MULTILINE))
    text = f'#include "{SHIM}"\n{code}\n{exports}\n'
    key = hashlib.sha256(repr((SHIM.read_text(encoding="utf-8"), text, options)).encode()).hexdigest()[:20]
    built = CACHE / f"{key}.so"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{key}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        if not built.exists():
            unfinished = built.with_suffix(".part")
            # No checks of jumps, which go from stack to stack here.
            flags = ["-O1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", *options]
            command = [str(COMPILER), *flags, "-x", "c++", "-", "-o", str(unfinished)]
            subprocess.run(command, input=text, text=True, check=True)
            unfinished.replace(built)
    return built


#: Whether the next kernels run backwards: in turn, but inside `in_order`.
_orders: list[Iterator[bool]] = [itertools.cycle([False, True])]
_recorded: list[list[str]] = []


@contextlib.contextmanager
def launches() -> Iterator[list[str]]:
    """The names of the kernels that are launched inside."""
    names: list[str] = []
    _recorded.append(names)
    try:
        yield names
    finally:
        _recorded.pop()


@contextlib.contextmanager
def in_order(backwards: bool) -> Iterator[None]:
    """Inside, blocks and threads run in this order."""
    _orders.append(itertools.repeat(backwards))
    try:
        yield
    finally:
        _orders.pop()


def run(name: str, launch: Any, signature: list[str], grid: Any, block: Any, arguments: tuple[Any, ...]) -> None:
    """Let the current stream run a kernel on what it is given now."""
    shortage.load_or_launch("launch")
    grid, block = ((*(int(n) for n in three), 1, 1)[:3] for three in (grid, block))
    assert all(0 < n <= most for n, most in zip(grid, (2**31 - 1, 2**16 - 1, 2**16 - 1), strict=True)), grid
    assert 0 < block[0] * block[1] * block[2] <= 1024, block
    assert len(arguments) == len(signature), f"{name} takes {len(signature)} arguments, not {len(arguments)}"
    given = [passed(value, type_) for value, type_ in zip(arguments, signature, strict=True)]
    three = ctypes.c_uint * 3
    edges = [edge for value in arguments if isinstance(value, ndarray) for edge in value._lease.edges]

    def work() -> None:
        pointers = (ctypes.c_void_p * len(given))(*(ctypes.addressof(g) for g in given))
        wrong = launch(three(*grid), three(*block), pointers, next(_orders[-1]))
        assert wrong is None, f"{name}: {wrong.decode()}"
        for names in _recorded:
            names.append(name)
        assert not written_outside(edges), f"{name} writes outside an array"

    get_current_stream().do(work)


def passed(value: Any, type_: str) -> Any:
    """A copy of an argument as CuPy passes it, if that is what the kernel's parameter takes."""
    if isinstance(value, ndarray):
        assert f"P{value.dtype.str[1:]}" == type_, f"an array of {value.dtype} for a parameter {type_}"
        assert value.flags.c_contiguous, "an array with gaps"
        return ctypes.c_void_p(value.data.ptr)
    if isinstance(value, bool | int | float):  # CuPy passes them with 64 bits
        value = np.float64(value) if isinstance(value, float) else np.int64(value)
    assert isinstance(value, np.generic | np.ndarray), f"an argument of type {type(value)}"
    assert value.size == 1
    assert value.dtype.str[1:] == type_, f"{value.dtype} for a parameter {type_}"
    return ctypes.create_string_buffer(value.tobytes(), value.dtype.itemsize)
