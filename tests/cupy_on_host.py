"""CuPy without a GPU, as far as the twins of the CuPy backend use it: their kernels, compiled by g++, run on the CPU.

What CuPy and CUDA do not check is checked here. The arguments of a launch must have the types of the kernel's
parameters and be C-contiguous; nothing may be written outside an array; a new array holds NaN; nothing may depend on
the order of blocks and threads; and inside `never_waiting` an array that becomes a number raises.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import operator
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy
import numpy as np
import pytest
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy.backend import CupyBackend
from portnn_backends.on_cupy.kernels import KERNELS

import portnn.registry
from portnn import kernels
from portnn.backend import Backend, Memory, Status
from portnn.kernels import Kernel

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Fibers are made as on Linux.
COMPILER = shutil.which("g++") if sys.platform == "linux" and fcntl else None
SHIM = Path(__file__).parent / "cuda_on_host.hpp"
#: What was compiled is kept between runs, and shared by workers.
CACHE = Path(__file__).parent.parent / ".pytest_cache" / "cuda_on_host"

#: Bytes around an array that nobody may write to; as floats they are NaN.
GUARD = 256


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for ``cupy.ndarray``: an array of NumPy, which is reached through the operators and functions only."""

    __module__ = "cupy"

    def __init__(self, host: np.ndarray[Any, Any], memory: Any = None) -> None:
        self._host = host
        self._memory = memory

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self._host.flags.c_contiguous))
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    device = property(lambda self: DEVICE)
    T = property(lambda self: Array(self._host.T, self._memory))
    mT = property(lambda self: Array(self._host.swapaxes(-1, -2), self._memory))

    def __reduce__(self) -> Any:
        return upper, (self._host,)

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> Array:
        return Array(np.asarray(self._host[lower(key)]), self._memory)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[lower(key)] = lower(value)

    def reshape(self, *shape: Any) -> Array:
        return Array(self._host.reshape(*shape), self._memory)

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        return self if not copy and self.dtype == dtype else upper(self._host.astype(dtype))

    def __array_namespace__(self, api_version: Any = None) -> Any:
        return NAMESPACE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return upper(getattr(ufunc, method)(*lower(inputs), **lower(options)))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def _as_number(self, kind: Any) -> Any:
        assert not _never_waiting, "an array becomes a number: this waits for the device"
        return kind(self._host)

    def __bool__(self) -> bool:
        return bool(self._as_number(bool))

    def __int__(self) -> int:
        return int(self._as_number(int))

    def __float__(self) -> float:
        return float(self._as_number(float))

    def __index__(self) -> int:
        return int(self._as_number(operator.index))


_never_waiting: list[bool] = []


@contextlib.contextmanager
def never_waiting() -> Iterator[None]:
    """Inside, an array that becomes a number or goes to the host raises."""
    _never_waiting.append(True)
    try:
        yield
    finally:
        _never_waiting.pop()


DEVICE = "0"


def lower(value: Any) -> Any:
    """The arrays of NumPy behind ours, in whatever holds them."""
    if isinstance(value, Array):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: an array of the host meets one of the device")
    if isinstance(value, list | tuple):
        return type(value)(lower(v) for v in value)
    return {k: lower(v) for k, v in value.items()} if isinstance(value, dict) else value


def upper(value: Any) -> Any:
    """Our arrays from those of NumPy, each with memory of its own."""
    if isinstance(value, np.ndarray | np.generic):
        new = empty(value.shape, value.dtype)
        new._host[...] = value
        return new
    return (
        type(value)(*map(upper, value))
        if hasattr(value, "_fields")
        else (type(value)(map(upper, value)) if isinstance(value, list | tuple) else value)
    )


def empty(shape: Any, dtype: Any) -> Array:
    dtype, shape = np.dtype(dtype), tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.full(size + 2 * GUARD, 0xFF, np.uint8)
    return Array(memory[GUARD : GUARD + size].view(dtype).reshape(shape), memory)


def ascontiguousarray(x: Array) -> Array:
    return upper(np.ascontiguousarray(x._host))


class Namespace:
    """The functions of the standard for our arrays."""

    __name__ = "cupy_on_host"

    def __getattr__(self, name: str) -> Any:
        value = getattr(array_api_compat.numpy, name)
        if isinstance(value, type) or not callable(value):
            return value

        @functools.wraps(value)
        def function(*arguments: Any, **options: Any) -> Any:
            assert options.pop("device", DEVICE) in (DEVICE, None)
            return upper(value(*lower(arguments), **lower(options)))

        return function


NAMESPACE = Namespace()


class RawModule:
    """Stands for ``cupy.RawModule``."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        self._library = ctypes.PyDLL(str(build(code, options)))  # which holds the GIL: fibers are no threads

    def get_function(self, name: str) -> Any:
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
    grid, block = ((*(int(n) for n in three), 1, 1)[:3] for three in (grid, block))
    assert all(0 < n <= most for n, most in zip(grid, (2**31 - 1, 2**16 - 1, 2**16 - 1), strict=True)), grid
    assert 0 < block[0] * block[1] * block[2] <= 1024, block
    assert len(arguments) == len(signature), f"{name} takes {len(signature)} arguments, not {len(arguments)}"
    given = [passed(value, type_) for value, type_ in zip(arguments, signature, strict=True)]
    three = ctypes.c_uint * 3
    pointers = (ctypes.c_void_p * len(given))(*(ctypes.addressof(g) for g in given))
    wrong = launch(three(*grid), three(*block), pointers, next(_orders[-1]))
    assert wrong is None, f"{name}: {wrong.decode()}"
    for names in _recorded:
        names.append(name)
    for value in arguments:
        if isinstance(value, Array) and value._memory is not None:
            edges = np.concatenate([value._memory[:GUARD], value._memory[-GUARD:]])
            assert (edges == 0xFF).all(), f"{name} writes outside an array"


def passed(value: Any, type_: str) -> Any:
    """A copy of an argument as CuPy passes it, if that is what the kernel's parameter takes."""
    if isinstance(value, Array):
        assert f"P{value.dtype.str[1:]}" == type_, f"an array of {value.dtype} for a parameter {type_}"
        assert value.flags.c_contiguous, "an array with gaps"
        return ctypes.c_void_p(value.data.ptr)
    if isinstance(value, bool | int | float):  # CuPy passes them with 64 bits
        value = np.float64(value) if isinstance(value, float) else np.int64(value)
    assert isinstance(value, np.generic | np.ndarray), f"an argument of type {type(value)}"
    assert value.size == 1
    assert value.dtype.str[1:] == type_, f"{value.dtype} for a parameter {type_}"
    return ctypes.create_string_buffer(value.tobytes(), value.dtype.itemsize)


class CupyOnHost(CupyBackend):
    """The CuPy backend with its twins and its random numbers, but arrays of ours."""

    def __init__(self, device: str | None = None) -> None:
        self.device = DEVICE
        self.xp = NAMESPACE
        self._device = contextlib.nullcontext()
        self._cupy = SimpleNamespace(ndarray=Array)

    @classmethod
    def status(cls) -> Status:
        return Status(True, "ready (for tests: on the CPU)", "0")

    @classmethod
    def from_array(cls, array: Any) -> CupyOnHost:
        return cls()

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        # But for the error function of CuPy and the products of cuBLAS, which are no kernels of ours.
        return {name: kernel for name, kernel in KERNELS.items() if name not in ("erf", "erfc")}

    def owns(self, array: Any) -> bool:
        return isinstance(array, Array)

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if isinstance(x, Array):
            return x if dtype is None else x.astype(dtype, copy=False)
        return upper(self.host_array(x, dtype))

    def to_numpy(self, array: Any) -> Any:
        assert not _never_waiting, "an array goes to the host: this waits for the device"
        return array._host.copy()

    def copy(self, array: Any) -> Any:
        return upper(array._host)

    def synchronize(self) -> None:
        pass

    def memory(self) -> Memory:
        return Memory(None, None)

    def context(self) -> Any:
        return np.errstate(over="ignore", invalid="ignore", divide="ignore")

    def compile(self, step: Any) -> Any:
        return Backend.compile(self, step)

    def uploads(self) -> Any:
        return Backend.uploads(self)

    def describe(self) -> str:
        return "the CPU, in CuPy's place"


@contextlib.contextmanager
def open_cupy_on_host() -> Iterator[CupyOnHost]:
    """Inside, this is the backend ``cupy``, and its kernels run on the CPU."""
    library = SimpleNamespace(RawModule=RawModule, empty=empty, ascontiguousarray=ascontiguousarray)
    found = dict(portnn.registry._discover()) | {"cupy": CupyOnHost}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portnn.registry, "_discover", lambda: found)
        patch.setattr(cupy_compile, "library", lambda: library)
        forget()
        try:
            yield CupyOnHost()
        finally:
            forget()


def forget() -> None:
    for cached in (cupy_compile.kernel, cupy_compile._module, kernels._twin):
        cached.cache_clear()
