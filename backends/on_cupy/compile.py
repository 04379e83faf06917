"""How the CUDA kernels of the CuPy twins are compiled and launched.

The sources are in the folder ``cuda``. CuPy compiles them when they are first needed, for the GPU that is there, and
keeps the result on disk. A launch waits for nothing and reads nothing back, so it may be recorded into a CUDA graph.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.resources import files
from numbers import Real
from typing import Any

import numpy as np

from .memory import once_more

__all__ = [
    "FLOATS",
    "THREADS",
    "ahead",
    "by_columns",
    "counter",
    "dense",
    "each",
    "each_column",
    "each_some",
    "empty",
    "is_array",
    "kernel",
    "lanes",
    "library",
    "number",
    "source",
]

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

#: Threads in a block: THREADS in common.cuh.
THREADS = 256

#: Blocks of a launch: what any GPU needs to be busy; the threads loop over the rest.
_BLOCKS = 2**16

#: Words of 16 bytes that a thread asks for before it waits: FLIGHT in vectors.cuh. More blocks are worth more, up to so
#: many, which keep any GPU busy.
_FLIGHT = 4
_BUSY = 2048

#: Sources that are compiled at the same time: NVRTC lets go of the interpreter.
_COMPILERS = 8

#: A grid has no more blocks than this along its second axis.
_BLOCKS_Y = 2**16 - 1

_NUMBER = np.dtype([("wide", np.uint64), ("narrow", np.uint64), ("value", np.float64)])
_COUNTER = np.dtype([("place", np.uint64), ("value", np.uint64)])

_C_TYPES = {
    "float32": "float",
    "float64": "double",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}


def library() -> Any:
    """CuPy, imported when it is first needed."""
    import cupy

    return cupy


@functools.cache
def source(subject: str) -> str:
    """The text of a file of kernels, with what all of them share, and what it includes."""
    folder = files(__package__).joinpath("cuda")

    def text(name: str) -> str:
        # What is included is put in here: the package may lie where the compiler cannot read.
        own = folder.joinpath(name).read_text(encoding="utf-8")
        return re.sub(r'^#include "(\w+\.cuh)"$', lambda found: text(found[1]), own, flags=re.MULTILINE)

    return text("common.cuh") + text(f"{subject}.cu")


@functools.cache
def kernel(subject: str, name: str, **options: Any) -> Any:
    """The kernel of a name, called as ``kernel(grid, block, arguments)``.

    ``options`` are what the source leaves open, such as ``REAL``: dtypes, whose names in C are put there, or numbers.
    """
    cupy = library()
    # A module is loaded when it is first asked for a function, and a function, by CUDA, when it is first launched.
    return functools.partial(once_more, cupy, once_more(cupy, _module(subject, **options).get_function, name))


@functools.cache
def _module(subject: str, **options: Any) -> Any:
    under_way = _under_way.pop(_key(subject, options), None)
    if under_way is not None:
        wait([under_way])  # whatever came of it: what went wrong goes wrong again, where somebody hears of it
    return _made(subject, options)


def _made(subject: str, options: Mapping[str, Any]) -> Any:
    return library().RawModule(code=source(subject), options=compiler_options(options))


#: What `ahead` has begun, and nobody has asked for.
_under_way: dict[Any, Future[None]] = {}


def _key(subject: str, options: Mapping[str, Any]) -> Any:
    return subject, frozenset(options.items())


@functools.cache
def ahead(subject: str, **options: Any) -> None:
    """Have a source compiled while something else is done; `kernel`, of the same options, waits for it."""
    device = library().cuda.Device().id

    def compile_it() -> None:
        with library().cuda.Device(device):  # of which every thread has its own
            _made(subject, options).compile()  # CuPy keeps what comes of it, by the source

    _under_way[_key(subject, options)] = _compilers().submit(compile_it)


@functools.cache
def _compilers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_COMPILERS, thread_name_prefix="portnn-nvrtc")


def compiler_options(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What `kernel` tells the compiler."""
    values = {key: _C_TYPES[value.name] if isinstance(value, np.dtype) else value for key, value in options.items()}
    return ("--std=c++17", *(f"-D{key}={value}" for key, value in values.items()))


def each(size: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block for a kernel over the numbers 0 .. size - 1."""
    return (min(max(math.ceil(size / THREADS), 1), _BLOCKS),), (THREADS,)


def lanes(dtype: Any) -> int:
    """Values in a word of 16 bytes: LANES in vectors.cuh."""
    return 16 // int(dtype.itemsize)


def each_some(size: int, dtype: Any) -> tuple[tuple[int], tuple[int]]:
    """Grid and block for a kernel over values that are read by words, if they can be."""
    words = max(math.ceil(size / lanes(dtype)), 1)
    return (min(_shared_out(math.ceil(words / THREADS), _BUSY), _BLOCKS),), (THREADS,)


def each_column(rows: int, columns: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """As `by_columns`, for a kernel whose threads take so many columns at a time where the length of rows allows it."""
    (across, most), block = by_columns(rows, columns // width if columns % width == 0 else columns)
    high = _shared_out(math.ceil(rows / block[1]), math.ceil(_BUSY / across))
    return (across, max(min(high, most), 1)), block


def _shared_out(blocks: int, busy: int) -> int:
    """How many blocks do the work of some that ask for a word once."""
    return max(min(blocks, busy), math.ceil(blocks / _FLIGHT))


def by_columns(rows: int, columns: int, slabs: int | None = None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block for a kernel over the columns of a matrix, whose rows are shared out, or parted into slabs.

    A block is as wide as the columns are, up to a warp: neighbouring threads read neighbouring values.
    """
    wide = 32 if columns > 16 else 1 << max(columns - 1, 0).bit_length()
    high = THREADS // wide
    across = max(math.ceil(columns / wide), 1)
    down = min(math.ceil(rows / high), max(_BLOCKS // across, 1)) if slabs is None else slabs
    return (across, min(max(down, 1), _BLOCKS_Y)), (wide, high)


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of any values."""
    return library().empty(shape, dtype)


def is_array(x: Any) -> bool:
    """Whether it is an array of CuPy, and so in the memory of a device."""
    return isinstance(x, library().ndarray)


def dense(x: Any) -> Any:
    """The array with its values one after the other, in C order: itself, if they are."""
    return x if x.flags.c_contiguous else library().ascontiguousarray(x)


def number(value: Any) -> Any:
    """The structure Number of common.cuh, which CuPy passes by value: a number from Python, or where a 0-d array is.

    Keep the array until the kernel is launched.
    """
    if isinstance(value, Real):
        return np.array((0, 0, value), _NUMBER)
    place = value.data.ptr
    return np.array((place, 0, 0) if value.dtype == np.float64 else (0, place, 0), _NUMBER)


def counter(value: Any) -> Any:
    """As `number`, of integers that are not negative: the structure Counter."""
    return np.array((0, value) if isinstance(value, Real) else (value.data.ptr, 0), _COUNTER)
