"""CuPy: NVIDIA GPUs.

``import cupy`` succeeds on machines without a GPU, without a driver and without CUDA's compiler, so whether CuPy can
compute is found out by computing (`probe`). That initialises CUDA, which a later ``fork`` does not survive: it
happens when a GPU is asked for, never on import.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from portnn._typing import Shape
from portnn.backend import Backend, Bring, Memory, RandomStream, Status, first_line, library_status
from portnn.errors import BackendError
from portnn.groups import Group
from portnn.kernels import Kernel
from portnn.loop import Loop

from ..capability import lack_of
from ..forks import refuse_in_fork
from .memory import lack_told, lacks_memory
from .noise import philox_uniform
from .precision import precision
from .trial import try_reductions

# cudaError_t, in CUDA's driver_types.h
_INSUFFICIENT_DRIVER = 35
_NO_DEVICE = 100

# DLDeviceType, in dlpack.h
_DLPACK_CUDA = 2

_INSTALL = (
    'pip install "cupy-cuda13x[ctk]" (NVIDIA driver 580 or newer), '
    "or cupy-cuda12x (an older driver, and the CUDA 12 toolkit)"
)
_PROBE_KERNEL = """
#include <cuda_fp16.h>
extern "C" __global__ void portnn_probe(float* x) { x[0] = __half2float(__float2half(1.0f)); }
"""


class CupyBackend(Backend):
    """Arrays of CuPy on one NVIDIA GPU."""

    name = "cupy"
    aliases = ("gpu", "cuda")
    array_modules = ("cupy",)

    def __init__(self, device: str | None = None) -> None:
        import array_api_compat.cupy as xp
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if device is not None and not (device.isdecimal() and int(device) < count):
            raise BackendError(f"there is no GPU {device!r}: CuPy sees {count}, numbered from 0")
        self._device = cupy.cuda.Device(int(device or 0))
        self.device = str(self._device.id)
        try_reductions(cupy, self._device.id)
        self.xp = xp
        self._cupy = cupy

    @classmethod
    def status(cls) -> Status:
        return probe()

    @classmethod
    def from_array(cls, array: Any) -> CupyBackend:
        backend = cls(str(array.device.id))
        backend.precision = precision()  # who knows an array alone, within a context, does not leave its precision
        return backend

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        from . import blas, kernels

        return {**kernels.KERNELS, **blas.KERNELS}

    @classmethod
    def groups(cls) -> Sequence[Group]:
        from .groups import GROUPS

        return GROUPS

    def owns(self, array: Any) -> bool:
        return isinstance(array, self._cupy.ndarray) and array.device == self._device

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        # CuPy copies what comes from the host into pinned memory, and from there while the host goes on.
        with lack_told(self, self._device):
            if not isinstance(x, self._cupy.ndarray):
                on_gpu = hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == _DLPACK_CUDA
                x = self._cupy.from_dlpack(x) if on_gpu else self.host_array(x, dtype)
            return self._cupy.asarray(x, dtype=dtype)

    def to_numpy(self, array: Any) -> Any:
        return self._cupy.asnumpy(array)

    def copy(self, array: Any) -> Any:
        with self._device:
            return array.copy()

    def overwritten(self, array: Any, values: Any) -> Any:
        with self._device:
            self._cupy.copyto(array, values)
        return array

    def uniform(self, stream: RandomStream, shape: Shape, dtype: str) -> Any:
        with self._device:
            return philox_uniform(stream, shape, dtype)

    def synchronize(self) -> None:
        self._device.synchronize()

    def memory(self) -> Memory:
        with self._device:
            pool = self._cupy.get_default_memory_pool()
            free, total = self._cupy.cuda.runtime.memGetInfo()
            return Memory(free, total, pool.used_bytes(), pool.total_bytes())

    def is_out_of_memory(self, error: BaseException) -> bool:
        return lacks_memory(error)

    def draw(self, function: Callable[[Any], Any], step: Any, shape: Any, dtype: str) -> Any:
        if isinstance(step, self._cupy.ndarray):
            raise BackendError("random numbers that the host draws cannot be recorded")
        return super().draw(function, step, shape, dtype)

    def loop(self, *steps: Callable[..., Any]) -> Loop:
        from .loop import GraphLoop

        return GraphLoop(self, steps, self._has_tf32())

    def _has_tf32(self) -> bool:
        """Whether products that are called directly may be in TF32, which changes no number of bfloat16."""
        return self.precision != "float32"

    def without_tf32(self) -> str | None:
        return lack_of("TF32", int(self._device.compute_capability) / 10)

    def without_bf16(self) -> str | None:
        return lack_of("bfloat16", int(self._device.compute_capability) / 10)

    def context(self) -> AbstractContextManager[Any]:
        refuse_in_fork("CuPy")
        # CuPy allocates on the current device, whatever device= says in array_api_compat, and refuses other arrays.
        device = self._cupy.cuda.Device(self._device.id)
        usual = self.precision == precision() == "float32"
        return lack_told(self, device if usual else self._with_products(device))

    @contextmanager
    def _with_products(self, device: Any) -> Iterator[None]:
        from .blas import in_tf32

        with device, precision.entered(self.precision), in_tf32(self.precision == "tf32"):
            yield

    def uploads(self) -> AbstractContextManager[Bring]:
        return self._uploads_beside(self._cupy.cuda.get_current_stream())

    @contextmanager
    def _uploads_beside(self, computing: Any) -> Iterator[Bring]:
        """On a stream of their own, next to what another one computes."""
        with self.context(), self._cupy.cuda.Stream(non_blocking=True) as copying:

            def bring(make: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
                # Memory may come from batches that are done on the host, but still read by what it has started.
                copying.wait_event(computing.record())
                made = make()
                arrived = copying.record()
                return made, lambda: computing.wait_event(arrived)

            yield bring

    def describe(self) -> str:
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._device.id)
        return f"{self.device} ({properties['name'].decode()})"


@functools.cache
def probe() -> Status:
    """Find out by computing whether CuPy can use a GPU here; asked once a process."""
    status = library_status("cupy", "CuPy", _INSTALL)
    if not status.usable:
        return status
    import cupy
    from cupy.cuda import runtime

    version = status.version
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return Status(False, _why_no_count(error, runtime), version)
    if count == 0:
        return Status(False, _no_device(), version)
    missing = _smoke_test(cupy, runtime.runtimeGetVersion() // 1000)
    return Status(False, missing, version) if missing else status


def _why_no_count(error: Any, runtime: Any) -> str:
    driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion() // 1000
    if error.status == _NO_DEVICE:
        return _no_device()
    if error.status == _INSUFFICIENT_DRIVER and driver == 0:
        return (
            "CuPy is installed, but there is no NVIDIA driver (libcuda.so.1 cannot be loaded): install the driver "
            "of your GPU (on Debian and Ubuntu: apt install nvidia-driver), or use --device cpu"
        )
    if error.status == _INSUFFICIENT_DRIVER:
        other = ""
        if 12 <= driver // 1000 < needed:
            other = f", or pip uninstall cupy-cuda{needed}x and pip install cupy-cuda{driver // 1000}x"
        return (
            f"the NVIDIA driver is too old: it supports CUDA {driver // 1000}.{driver % 1000 // 10}, and the installed "
            f"CuPy needs CUDA {needed}: update the driver (apt install nvidia-driver){other}"
        )
    return f"CUDA does not start (error {error.status}): {first_line(error)}; nvidia-smi shows the state of the driver"


def _no_device() -> str:
    return "there is an NVIDIA driver, but no visible GPU: is there one, and does CUDA_VISIBLE_DEVICES hide it?"


def _smoke_test(cupy: Any, cuda: int) -> str | None:
    """What is missing to compile a kernel and to multiply two matrices; None if nothing is."""
    toolkit = f'pip install "cupy-cuda{cuda}x[ctk]"'
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError):  # cuda.pathfinder's DynamicLibNotFoundError is a RuntimeError
        return f"CUDA's compiler library NVRTC is missing: {toolkit}"
    try:
        x = cupy.arange(4, dtype=cupy.float32)
        cupy.RawKernel(_PROBE_KERNEL, "portnn_probe")((1,), (1,), (x,))
        (x * 2).get()
    except Exception as error:  # compiler, driver and header problems have no common type
        return f"a test kernel does not compile and run; CUDA's headers may be missing: {toolkit} ({first_line(error)})"
    try:
        (cupy.reshape(x, (2, 2)) @ cupy.reshape(x, (2, 2))).get()
    except Exception as error:
        return f"cuBLAS, which multiplies matrices, does not work: {toolkit} ({first_line(error)})"
    return None
