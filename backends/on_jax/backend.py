"""JAX: whatever device XLA was built for; the training step is compiled by ``jax.jit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from portnn.backend import Backend, Memory, Status, first_line, library_status
from portnn.errors import BackendError
from portnn.kernels import Kernel
from portnn.loop import Loop
from portnn.reading import widened

from ..capability import lack_of
from ..forks import refuse_in_fork


class JaxBackend(Backend):
    """Arrays of JAX. float64 and int64 exist only where the user turned ``jax_enable_x64`` on."""

    name = "jax"
    array_modules = ("jax", "jaxlib")
    missing_dtype_hint = ': call jax.config.update("jax_enable_x64", True) first'

    def __init__(self, device: str | None = None) -> None:
        import jax
        import jax.numpy as xp

        platform, _, index = (device or "").partition(":")
        try:
            devices = jax.devices(platform or None)
            self._device = {str(i): d for i, d in enumerate(devices)}[index or "0"]
        except (RuntimeError, AssertionError, KeyError) as error:
            raise BackendError(f"jax {jax.__version__} cannot use device {device!r}: {first_line(error)}") from None
        self.device = f"{self._device.platform}:{self._device.id}" if self._device.id else self._device.platform
        self.xp = xp
        self._jax = jax

    @classmethod
    def status(cls) -> Status:
        status = library_status("jax", "jax", "pip install jax")
        if not status.usable:
            return status
        import jax

        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # a platform that JAX_PLATFORMS names, and that is not there
            return Status(False, f"jax is installed, but finds no device: {first_line(error)}", status.version)
        return status

    @classmethod
    def from_array(cls, array: Any) -> JaxBackend:
        import jax

        from .precision import precision

        if isinstance(array, jax.core.Tracer):
            backend = cls()
        else:
            device = next(iter(array.devices()))
            backend = cls(f"{device.platform}:{device.id}")
        backend.precision = precision()  # who knows an array alone, within a context, does not leave its precision
        return backend

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        from .kernels import KERNELS

        return KERNELS

    def owns(self, array: Any) -> bool:
        if isinstance(array, self._jax.core.Tracer):  # under jit there are no devices yet
            return True
        return isinstance(array, self._jax.Array) and array.devices() == {self._device}

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if isinstance(x, self._jax.Array):
            x = x if dtype is None else x.astype(self.dtype(dtype))
            return x if self.owns(x) else self._jax.device_put(x, self._device)
        # Cast on the host: JAX would round float64 to float32 with a warning. Copied: on the CPU, JAX shares the memory
        # of a NumPy array where it is aligned, whatever may_alias says, and the owner of that array may write to it.
        return self._jax.device_put(np.array(self.host_array(x, dtype)), self._device)

    def to_numpy(self, array: Any) -> Any:
        return widened(np.asarray(array))

    def copy(self, array: Any) -> Any:
        return self._jax.numpy.array(array, copy=True)

    def supports(self, dtype: str) -> bool:
        if dtype in ("float64", "int64", "uint64", "complex128"):
            return bool(self._jax.config.jax_enable_x64)
        return hasattr(self.xp, dtype)

    def to_floats(self, scalars: Sequence[Any]) -> list[float]:
        # Stacking would compile anew for every number of scalars.
        return [float(value) for value in self._jax.device_get(list(scalars))]

    def synchronize(self) -> None:
        # There is no queue to wait for, but all arrays that are still being computed are alive.
        self._jax.block_until_ready(self._jax.live_arrays())

    def draw(self, function: Callable[[Any], Any], step: Any, shape: Any, dtype: str) -> Any:
        if not isinstance(step, self._jax.core.Tracer):
            return super().draw(function, step, shape, dtype)
        drawn = self._jax.ShapeDtypeStruct(shape, self.dtype(dtype))
        return self._jax.pure_callback(lambda number: function(int(number)).astype(dtype), drawn, step)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return "RESOURCE_EXHAUSTED" in str(error) or super().is_out_of_memory(error)

    def memory(self) -> Memory:
        told = self._device.memory_stats() or {}  # the CPU tells nothing
        limit, used = told.get("bytes_limit"), told.get("bytes_in_use")
        return Memory() if limit is None or used is None else Memory(limit - used, limit)

    def without_tf32(self) -> str | None:
        if self._device.platform != "gpu":
            return super().without_tf32()
        return lack_of("TF32", self._capability())

    def without_bf16(self) -> str | None:
        if self._device.platform == "cpu":
            return None
        if self._device.platform != "gpu":
            return super().without_bf16()
        return lack_of("bfloat16", self._capability())

    def _capability(self) -> float:
        return float(getattr(self._device, "compute_capability", "0"))

    def context(self) -> AbstractContextManager[Any]:
        from .precision import precision

        refuse_in_fork("JAX")
        entered = precision.entered(self.precision)
        return entered if self._device.platform != "gpu" else self._with_products(entered)

    @contextmanager
    def _with_products(self, entered: AbstractContextManager[Any]) -> Iterator[None]:
        """Products in our precision, and others than those of twins in float32; JAX would take TF32 for them."""
        chosen = "tensorfloat32" if self.precision == "tf32" else "float32"
        with entered, self._jax.default_matmul_precision(chosen):
            yield

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = self._jax.jit(step, donate_argnums=(0, 1, 2))
        return compiled

    def loop(self, *steps: Callable[..., Any]) -> Loop:
        from .loop import JaxLoop

        return JaxLoop(self, steps)

    def describe(self) -> str:
        kind = self._device.device_kind
        return self.device if kind == self._device.platform else f"{self.device} ({kind})"
