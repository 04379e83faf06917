"""Stands for the module ``cupy``; only what portnn uses is here."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy import float32, uint8

from .arrays import Device, asarray, asnumpy, empty, launch, ndarray
from .kernels import RawModule
from .memory import DEFAULT_POOL, MemoryPool, using_allocator
from .namespace import NAMESPACE
from .streams import Event, Stream, get_current_stream, get_elapsed_time

__all__ = [
    "RawModule",
    "abs",
    "arange",
    "argmax",
    "argmin",
    "asarray",
    "ascontiguousarray",
    "asnumpy",
    "concatenate",
    "copy",
    "copyto",
    "cuda",
    "cumprod",
    "cumsum",
    "empty",
    "float32",
    "get_default_memory_pool",
    "matmul",
    "max",
    "may_share_memory",
    "min",
    "ndarray",
    "prod",
    "reshape",
    "sin",
    "sum",
    "uint8",
]

abs, arange, argmax, argmin, matmul, max, min, prod, reshape, sin, sum = (
    getattr(NAMESPACE, name)
    for name in ("abs", "arange", "argmax", "argmin", "matmul", "max", "min", "prod", "reshape", "sin", "sum")
)


def cumprod(a: ndarray, axis: int | None = None) -> Any:
    return launch(np.cumprod, (a,), {"axis": axis})


def cumsum(a: ndarray, axis: int | None = None) -> Any:
    return launch(np.cumsum, (a,), {"axis": axis})


def copy(a: ndarray) -> ndarray:
    return a.copy()


def copyto(to: ndarray, source: ndarray) -> None:
    assert (to.shape, to.dtype) == (source.shape, source.dtype)
    launch(lambda a: a, (source,), out=to)


def concatenate(arrays: list[ndarray]) -> Any:
    return launch(np.concatenate, (arrays,))


def ascontiguousarray(a: ndarray) -> ndarray:
    return a if a.flags.c_contiguous else a.copy()


def may_share_memory(a: ndarray, b: ndarray) -> Any:
    return np.may_share_memory(a._host, b._host)


def get_default_memory_pool() -> MemoryPool:
    return DEFAULT_POOL


cuda = SimpleNamespace(
    Device=Device,
    Event=Event,
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_current_stream=get_current_stream,
    get_elapsed_time=get_elapsed_time,
    using_allocator=using_allocator,
    runtime=SimpleNamespace(
        memGetInfo=lambda: (2**33, 2**34),
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: {"name": b"the CPU, in CuPy's place", "multiProcessorCount": 1},
        driverGetVersion=lambda: 13000,
    ),
)
