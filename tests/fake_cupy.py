"""A stand-in for CuPy on NumPy, honest about what CUDA graphs do not forgive.

- Work on a stream other than the null one is done when somebody waits for it.
- What is launched while a stream is captured is not computed: its results hold garbage until the graph is launched.
  Then it is done on the very addresses of the recording, with the numbers of the recording.
- Memory comes from pools and goes back to them, and what goes back is overwritten with NaN: a graph may find
  its memory in other hands, or hand memory out that it writes to.
- Captured streams refuse what CUDA and CuPy refuse: reading and bringing values, waiting, and products of matrices,
  but for those of the imitation of cuBLAS.

Only what portnn uses is here.
"""

import ctypes
import math
import sys
import threading
import weakref
from contextlib import contextmanager
from importlib import metadata
from types import SimpleNamespace

import array_api_compat.numpy as compat
import cupy_on_host
import numpy as np
import pytest
from numpy import arange as _host_arange
from numpy import float32, uint8
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import graph as cupy_graph
from portnn_backends.on_cupy.backend import CupyBackend

import portnn.registry
from portnn.backend import Backend, Status

_LOCAL = threading.local()


# ---- streams and graphs


class Graph:
    def __init__(self, works):
        self.works, self.launches = works, 0

    def launch(self, stream=None):
        self.launches += 1
        for work in self.works:
            (stream or get_current_stream()).do(work)


class Stream:
    known = {}

    def __init__(self, non_blocking=False):
        assert non_blocking, "a blocking stream waits for the null stream"
        self._begin()

    def _begin(self):
        self.ptr = 1 + len(Stream.known)
        self.waiting, self.captured = [], None
        Stream.known[self.ptr] = self

    def do(self, work):
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.waiting.append(work)

    def refuse_if_captured(self, what):
        if self.captured is not None:
            raise RuntimeError(f"{what}: the current stream is capturing")

    def synchronize(self):
        self.refuse_if_captured("synchronize")
        while self.waiting:
            self.waiting.pop(0)()

    def record(self):
        return SimpleNamespace(stream=self)

    def wait_event(self, event):
        event.stream.synchronize()

    def begin_capture(self):
        self.captured = []

    def end_capture(self):
        works, self.captured = self.captured, None
        return Graph(works)

    def __enter__(self):
        _streams().append(self)
        return self

    def __exit__(self, *error):
        _streams().pop()


class _Null(Stream):
    def __init__(self):
        self._begin()

    def do(self, work):
        work()

    def begin_capture(self):
        raise RuntimeError("the null stream cannot be captured")


_NULL = _Null()


def _streams():
    if not hasattr(_LOCAL, "streams"):
        _LOCAL.streams = [_NULL]
    return _LOCAL.streams


def get_current_stream():
    return _streams()[-1]


# ---- memory


class MemoryPool:
    """Blocks that are handed out again, to the stream that had them, once nothing refers to them."""

    forever = []

    def __init__(self):
        self.free = {}

    def malloc(self, nbytes):
        stream, size = get_current_stream(), 512 * max_of(1, -(-nbytes // 512))
        blocks = self.free.setdefault((stream.ptr, size), [])
        if not blocks:
            block = bytearray(b"\xff" * size)
            MemoryPool.forever.append(block)
            blocks.append(block)
        block = blocks.pop()
        lease = (ctypes.c_char * size).from_buffer(block)
        weakref.finalize(lease, _give_back, stream, blocks, block).atexit = False
        return lease

    def used_bytes(self):
        return 0

    total_bytes = used_bytes


def _give_back(stream, blocks, block):
    blocks.append(block)
    if stream.captured is None:
        stream.do(lambda: block.__setitem__(slice(None), b"\xff" * len(block)))


_DEFAULT = MemoryPool()


@contextmanager
def using_allocator(malloc):
    before = getattr(_LOCAL, "malloc", _DEFAULT.malloc)
    _LOCAL.malloc = malloc
    try:
        yield
    finally:
        _LOCAL.malloc = before


# ---- arrays


class ndarray(np.ndarray):  # as CuPy calls it
    @property
    def data(self):
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])

    @property
    def device(self):
        return Device(0)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if ufunc is np.matmul and get_current_stream().captured is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        return _launch(getattr(ufunc, method), inputs, options, None if out is None else out[0])

    def __array_function__(self, function, types, args, kwargs):
        if function is np.copyto:
            to, source = args
            return _launch(lambda a: a, (source,), {}, to)
        return _launch(function, args, kwargs)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray | list) for part in parts):
            return _launch(lambda a, *p: a[p], (self, *parts), {})
        if Ellipsis not in parts:
            parts = (*parts, ...)  # a view of no dimensions, where NumPy would give a number
        return self.view(np.ndarray)[parts].view(ndarray)

    def __setitem__(self, index, value):
        _launch(lambda a: a, (value,), {}, self[index])

    def reshape(self, *shape):
        return _launch(lambda a: a.reshape(*shape), (self,), {})

    def astype(self, dtype, copy=True):
        return _launch(lambda a: np.array(a, dtype), (self,), {})

    def copy(self):
        return _launch(np.array, (self,), {})

    def set(self, host, stream):
        stream.refuse_if_captured("cudaMemcpyAsync")
        staged, to = np.array(host), _raw(self)
        stream.do(lambda: np.copyto(to, staged))

    def _number(self, kind):
        get_current_stream().refuse_if_captured("cudaMemcpy")
        get_current_stream().synchronize()
        return kind(np.array(_raw(self)))

    def __float__(self):
        return self._number(float)

    def __int__(self):
        return self._number(int)

    def __bool__(self):
        return self._number(bool)

    __index__ = __int__


def _raw(a):
    """The values at the address of a device array, without keeping its memory from the pool."""
    if isinstance(a, tuple | list):
        return type(a)(_raw(x) for x in a)
    if not isinstance(a, ndarray):
        return a
    low, high = np.lib.array_utils.byte_bounds(a)
    memory = (ctypes.c_char * max_of(1, high - low)).from_address(low)
    return np.ndarray(a.shape, a.dtype, memory, a.__array_interface__["data"][0] - low, a.strides)


def _kept(a):
    """The values of a device array; what is a view of them keeps its memory."""
    if isinstance(a, tuple | list):
        return type(a)(_kept(x) for x in a)
    return a.view(np.ndarray) if isinstance(a, ndarray) else a


def _launch(function, args, options, out=None):
    """Let the current stream compute something of arrays; what is only a view of them is there at once."""
    raw, keywords = _raw(tuple(args)), {key: _raw(value) for key, value in options.items()}
    with np.errstate(all="ignore"):
        # For shape and dtype: the values may not be there yet, and CuPy raises at no index.
        lenient = {"mode": "clip"} if function is np.take else {}
        probe = function(*_kept(tuple(args)), **keywords, **lenient)
    if isinstance(probe, tuple | list):
        return type(probe)(_launch(lambda *a, i=i, **k: function(*a, **k)[i], args, options) for i in range(len(probe)))
    probe = np.asarray(probe)
    if out is None and any(np.may_share_memory(probe, _kept(arg)) for arg in _arrays(args)):
        return probe.view(ndarray)
    out = empty(probe.shape, probe.dtype) if out is None else out
    to = _raw(out)

    def work():
        with np.errstate(all="ignore"):
            to[...] = function(*raw, **keywords)

    get_current_stream().do(work)
    return out


def _arrays(args):
    for arg in args:
        if isinstance(arg, ndarray):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _arrays(arg)


def empty(shape, dtype=float):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    lease = getattr(_LOCAL, "malloc", _DEFAULT.malloc)(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(lease, dtype, math.prod(shape)).reshape(shape).view(ndarray)


def asarray(host, dtype=None):
    if isinstance(host, ndarray):
        return host if dtype is None or host.dtype == dtype else host.astype(dtype)
    get_current_stream().refuse_if_captured("cudaMemcpyAsync")
    host = np.array(host, dtype)
    out = empty(host.shape, host.dtype)
    to = _raw(out)
    get_current_stream().do(lambda: np.copyto(to, host))
    return out


def asnumpy(a):
    get_current_stream().refuse_if_captured("cudaMemcpy")
    get_current_stream().synchronize()
    return np.array(_raw(a))


def arange(*args, **options):
    return asarray(_host_arange(*args, **options))


def copy(a):
    return a.copy()


def copyto(to, source):
    assert (to.shape, to.dtype) == (source.shape, source.dtype)
    np.copyto(to, source)


def ascontiguousarray(a):
    return a if a.flags.c_contiguous else a.copy()


def may_share_memory(a, b):
    return np.may_share_memory(_raw(a), _raw(b))


max_of = max
sin, abs, max, matmul, reshape = np.sin, np.abs, np.max, np.matmul, np.reshape


class Device:
    def __init__(self, number):
        self.id, self.compute_capability = number, "90"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __eq__(self, other):
        return self.id == other.id

    __hash__ = None

    def synchronize(self):
        get_current_stream().synchronize()


cuda = SimpleNamespace(
    Device=Device,
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_current_stream=get_current_stream,
    using_allocator=using_allocator,
    runtime=SimpleNamespace(
        memGetInfo=lambda: (2**33, 2**34), getDeviceProperties=lambda number: {"name": b"an imitation"}
    ),
)


def get_default_memory_pool():
    return _DEFAULT


# ---- kernels


class RawModule:
    """Kernels that the current stream computes: as `cupy_on_host` runs them, at the addresses of the launch."""

    def __init__(self, *, code, options):
        self._module = cupy_on_host.RawModule(code=code, options=options)

    def get_function(self, name):
        run = self._module.get_function(name)

        def launch(grid, block, args):
            given = [cupy_on_host.Array(_raw(a)) if isinstance(a, ndarray) else a for a in args]
            get_current_stream().do(lambda: run(grid, block, given))

        return launch


# ---- cuBLAS


class CublasImitation:
    """The C functions that `cupy_blas` calls, on the memory that its pointers name. What is asked of it is kept."""

    def __init__(self):
        self.modes, self.products, self.stream, self.destroyed = [], 0, None, []

    def cublasCreate_v2(self, handle):
        handle._obj.value = 77
        return 0

    def cublasDestroy_v2(self, handle):
        self.destroyed.append(handle.value)
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = Stream.known[stream.value], None
        return 0

    def cublasSetWorkspace_v2(self, handle, pointer, size):
        self.workspace = pointer.value, size.value
        return 0

    def cublasSetMathMode(self, handle, mode):
        self.modes.append(mode.value)
        return 0

    def cublasGemmEx(
        self, handle, turn_a, turn_b, m, n, k, alpha, a, ta, lda, b, tb, ldb, beta, c, tc, ldc, kind, algo
    ):
        """As NVIDIA describes it: ``C = alpha op(A) op(B) + beta C``, everything column by column."""
        assert handle.value == 77
        assert self.workspace is not None, "the stream was set after the workspace, which took it away"
        assert ta.value == tb.value == tc.value
        dtype, scalar = {(0, 68): (np.float32, ctypes.c_float), (1, 70): (np.float64, ctypes.c_double)}[
            (ta.value, kind.value)
        ]
        assert type(alpha._obj) is type(beta._obj) is scalar
        shapes = [(m.value, k.value), (k.value, n.value)]
        shapes = [shape[::-1] if turn.value else shape for shape, turn in zip(shapes, (turn_a, turn_b), strict=True)]
        left, right, out = (
            _columns(pointer.value, shape, ld.value, dtype)
            for pointer, shape, ld in ((a, shapes[0], lda), (b, shapes[1], ldb), (c, (m.value, n.value), ldc))
        )
        if left is None or right is None or out is None:
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        factor, rest, self.products = alpha._obj.value, beta._obj.value, self.products + 1
        assert rest == 0.0

        def work():
            # By rows, as CuPy's own imitation: the same bits.
            with np.errstate(all="ignore"):
                product = (right if not turn_b.value else right.T).T @ (left if not turn_a.value else left.T).T
                out.T[...] = factor * product

        self.stream.do(work)
        return 0


def _columns(address, shape, leading, dtype):
    """A matrix stored column by column, whose columns are ``leading`` elements apart."""
    itemsize = np.dtype(dtype).itemsize
    if leading < shape[0]:
        return None
    size = ((shape[1] - 1) * leading + shape[0]) * itemsize
    memory = (ctypes.c_char * size).from_address(address)
    return np.ndarray(shape, dtype, memory, 0, (itemsize, leading * itemsize))


# ---- the backend


class FakeCupyBackend(CupyBackend):
    """The CuPy backend on the imitation, with the portable forms of all functions but `matmul`."""

    name = "fake_cupy"
    aliases = ()
    array_modules = ("fake_cupy",)

    def __init__(self, device=None):
        import fake_cupy

        self._device, self.device, self.xp, self._cupy = Device(0), "0", compat, fake_cupy

    @classmethod
    def status(cls):
        return Status(True, "ready", "0")

    @classmethod
    def kernels(cls):
        return cupy_blas.KERNELS

    def uniform(self, stream, shape, dtype):
        """Reads the step in device memory, as a kernel does."""
        if not isinstance(stream.step, ndarray):
            return Backend.uniform(self, stream, shape, dtype)
        out, step = empty(shape, dtype), _raw(stream.step)
        to = _raw(out)
        get_current_stream().do(
            lambda: np.copyto(to, stream.at(int(step)).generator().random(shape, dtype=np.dtype(dtype).type))
        )
        return out


@contextmanager
def installed(twins=False):
    """Inside, portnn knows the imitation as a backend, perhaps with all twins, and CuPy's modules compute with it."""
    real = metadata.entry_points
    found = [*real(group="portnn.backends")]
    found.append(metadata.EntryPoint("fake_cupy", "fake_cupy:FakeCupyBackend", "portnn.backends"))
    with pytest.MonkeyPatch.context() as patch:
        for module in (cupy_blas, cupy_graph):
            patch.setattr(module, "cupy", sys.modules[__name__])
        patch.setattr(cupy_blas, "_load", CublasImitation)
        if twins:
            patch.setattr(cupy_compile, "library", lambda: sys.modules[__name__])
            patch.setattr(FakeCupyBackend, "kernels", classmethod(lambda cls: CupyBackend.kernels()))
            patch.setattr(FakeCupyBackend, "uniform", CupyBackend.uniform)
        cupy_on_host.forget()
        ours = {"group": "portnn.backends"}
        patch.setattr(metadata, "entry_points", lambda **asked: found if asked == ours else real(**asked))
        portnn.registry._discover.cache_clear()
        yield
    portnn.registry._discover.cache_clear()
    cupy_on_host.forget()
    assert [stream for stream in Stream.known.values() if stream.captured is not None] == []


__all__ = ["float32", "uint8"]
