"""Arrays on the device, and how the current stream computes something of them."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import shortage
from .memory import Lease, allocate
from .streams import get_current_stream, wait

#: NumPy's functions that CuPy computes with cuBLAS.
_PRODUCTS = (np.matmul, np.tensordot, np.dot, np.einsum)


class Device:
    """Stands for ``cupy.cuda.Device``."""

    def __init__(self, number: int = 0) -> None:
        self.id, self.compute_capability = number, "90"

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # type: ignore[assignment]

    def synchronize(self) -> None:
        get_current_stream().synchronize()


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # as CuPy calls it
    """Stands for ``cupy.ndarray``: an array of NumPy, which is reached through the operators and functions only."""

    __module__ = "cupy"

    def __init__(self, host: np.ndarray[Any, Any], lease: Lease) -> None:
        self._host, self._lease = host, lease

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self._host.flags.c_contiguous))
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    device = property(lambda self: Device(0))
    T = property(lambda self: ndarray(self._host.T, self._lease))
    mT = property(lambda self: ndarray(self._host.swapaxes(-1, -2), self._lease))

    def transpose(self, *axes: int) -> ndarray:
        return ndarray(self._host.transpose(*axes), self._lease)

    def __reduce__(self) -> Any:
        return asarray, (asnumpy(self),)

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> ndarray:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, ndarray | list) for part in parts):
            return launch(lambda a, *p: a[p], (self, *parts))
        if Ellipsis not in parts:
            parts = (*parts, ...)  # a view of no dimensions, where NumPy would give a number
        return ndarray(self._host[lower(parts)], self._lease)

    def __setitem__(self, key: Any, value: Any) -> None:
        to, index, given = self._host, lower(key), lower(value)
        get_current_stream().do(lambda: to.__setitem__(index, given))

    def view(self, dtype: Any) -> ndarray:
        return ndarray(self._host.view(dtype), self._lease)

    def reshape(self, *shape: Any) -> ndarray:
        return launch(lambda a: a.reshape(*shape), (self,))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return self if not copy and self.dtype == dtype else launch(lambda a: a.astype(dtype), (self,))

    def copy(self) -> ndarray:
        return launch(np.array, (self,))

    def set(self, host: np.ndarray[Any, Any], stream: Any) -> None:
        stream.refuse_if_captured("cudaMemcpyAsync")
        staged, to = np.array(host), self._host
        stream.do(lambda: np.copyto(to, staged))

    def __array_namespace__(self, api_version: Any = None) -> Any:
        from .namespace import NAMESPACE

        return NAMESPACE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (None,), **options: Any) -> Any:
        return launch(ufunc if method == "__call__" else getattr(ufunc, method), inputs, options, out[0])

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def _number(self, kind: Any) -> Any:
        wait("an array becomes a number")
        return kind(self._host)

    def __bool__(self) -> bool:
        return bool(self._number(bool))

    def __int__(self) -> int:
        return int(self._number(int))

    def __float__(self) -> float:
        return float(self._number(float))

    def __index__(self) -> int:
        return int(self._number(operator.index))


def lower(value: Any) -> Any:
    """The arrays of NumPy behind ours, in whatever holds them; they do not keep their memory from the pool."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: an array of the host meets one of the device")
    if isinstance(value, list | tuple):
        return type(value)(lower(v) for v in value)
    return {k: lower(v) for k, v in value.items()} if isinstance(value, dict) else value


def _needs_cublas(function: Callable[..., Any], given: tuple[Any, ...]) -> bool:
    # Of two vectors, `vecdot` is a sum there, by a kernel of CuPy.
    return function in _PRODUCTS or (function is np.vecdot and max(a.ndim for a in given) > 1)


def launch(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: Mapping[str, Any] | None = None,
    out: ndarray | None = None,
) -> Any:
    """Let the current stream compute something of arrays; what is only a view of them is there at once."""
    stream = get_current_stream()
    given, named = lower(args), lower(dict(options or {}))
    if stream.captured is not None and _needs_cublas(function, given):
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    silent = _by_cub(function, given)
    # For shape and dtype: the values may not be there yet, and CuPy raises at no index.
    lenient = {} if stream.is_immediate or function is not np.take else {"mode": "clip"}
    with np.errstate(all="ignore"):
        probe = function(*given, **named, **lenient)
    leases = [(a._host, a._lease) for a in _arrays((args, options))]

    def one(probe: Any, of: Callable[[Any], Any]) -> Any:
        if isinstance(probe, tuple | list):
            parts = [one(part, lambda made, i=i: of(made)[i]) for i, part in enumerate(probe)]
            return type(probe)(*parts) if hasattr(probe, "_fields") else type(probe)(parts)
        if not isinstance(probe, np.ndarray | np.generic):
            return probe
        probe = np.asarray(probe)
        if out is None:
            for host, lease in leases:
                if np.may_share_memory(probe, host):
                    return ndarray(probe, lease)
        made = empty(probe.shape, probe.dtype) if out is None else out
        if silent:
            return made
        shortage.load_or_launch("launch by CuPy")
        to = made._host

        def write(value: Any) -> None:
            with np.errstate(all="ignore"):
                np.copyto(to, value, casting="same_kind")

        def work() -> None:
            with np.errstate(all="ignore"):
                value = of(function(*given, **named))
            write(value)

        if stream.is_immediate:
            write(probe)
        else:
            stream.do(work)
        return made

    return one(probe, lambda made: made)


#: The reductions of CuPy that were recorded.
_recorded: list[list[str]] = []


@contextlib.contextmanager
def reductions_recorded() -> Iterator[list[str]]:
    """The names of the reductions of CuPy, of those that end in CUB, that are recorded into a graph inside."""
    names: list[str] = []
    _recorded.append(names)
    try:
        yield names
    finally:
        _recorded.pop()


def _by_cub(function: Callable[..., Any], given: tuple[Any, ...]) -> bool:
    """Whether CuPy computes this by CUB, and CUB does nothing, for want of memory, and says nothing."""
    name = function.__name__
    if name not in shortage.CUB:
        return False
    if get_current_stream().captured is not None:
        for names in _recorded:
            names.append(name)
    return shortage.is_silent(name, str(given[0].dtype))


def _arrays(value: Any) -> Iterator[ndarray]:
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _arrays(part)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    dtype, shape = np.dtype(dtype), tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    lease = allocate(math.prod(shape) * dtype.itemsize)
    return ndarray(lease.bytes.view(dtype).reshape(shape), lease)


def asarray(host: Any, dtype: Any = None) -> ndarray:
    """An array of the host, brought to the device by the current stream."""
    if isinstance(host, ndarray):
        return host if dtype is None else host.astype(dtype, copy=False)
    stream = get_current_stream()
    stream.refuse_if_captured("cudaMemcpyAsync")
    staged = np.array(host, dtype)
    made = empty(staged.shape, staged.dtype)
    to = made._host
    stream.do(lambda: np.copyto(to, staged))
    return made


def asnumpy(a: ndarray) -> np.ndarray[Any, Any]:
    wait("an array goes to the host")
    return a._host.copy()
