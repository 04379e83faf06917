"""JAX: whatever device XLA was built for; the training step is compiled by ``jax.jit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from portnn.backend import Backend, Status, first_line, library_status
from portnn.errors import BackendError
from portnn.kernels import Kernel

from .erf_kernels import erf_kernel


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
            self._device = devices[int(index or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise BackendError(f"jax {jax.__version__} cannot use device {device!r}: {first_line(error)}") from None
        self.device = f"{self._device.platform}:{self._device.id}" if self._device.id else self._device.platform
        self.xp = xp
        self._jax = jax

    @classmethod
    def status(cls) -> Status:
        return library_status("jax", "jax", 'pip install "portnn[jax]"')

    @classmethod
    def from_array(cls, array: Any) -> JaxBackend:
        device = next(iter(array.devices()))
        return cls(f"{device.platform}:{device.id}")

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        return {"erf": erf_kernel(_erf_and_exp)}

    def owns(self, array: Any) -> bool:
        return isinstance(array, self._jax.Array) and array.devices() == {self._device}

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if not isinstance(x, self._jax.Array):
            if hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray):
                x = self._jax.numpy.from_dlpack(x)
            else:
                x = np.asarray(x)
        wanted = self.dtype(dtype or self.kept_dtype(str(x.dtype)))
        # A NumPy array is cast on the host: JAX would otherwise round float64 to float32 with a warning.
        x = x.astype(wanted, copy=False)
        return self._jax.device_put(x, self._device, may_alias=False if isinstance(x, np.ndarray) else None)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def copy(self, array: Any) -> Any:
        return self._jax.numpy.array(array, copy=True)

    def supports(self, dtype: str) -> bool:
        if dtype in ("float64", "int64", "uint64", "complex128"):
            return bool(self._jax.config.jax_enable_x64)
        return hasattr(self.xp, dtype)

    def synchronize(self) -> None:
        self._jax.block_until_ready(self._jax.device_put(0.0, self._device))

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = self._jax.jit(step, donate_argnums=(0, 1, 2))
        return compiled

    def describe(self) -> str:
        kind = self._device.device_kind
        return self.device if kind == self._device.platform else f"{self.device} ({kind})"


def _erf_and_exp() -> Any:
    import jax

    return jax.scipy.special.erf, jax.numpy.exp
