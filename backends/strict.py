"""array-api-strict: no speed, but the strictest reading of the standard and a fake device, for tests.

On ``device1``, the default here, an array that strays to the host or meets one of another device raises: code that
runs on it will not synchronise a GPU behind the user's back.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from portnn.backend import Backend, Status, library_status
from portnn.errors import BackendError


class StrictBackend(Backend):
    """Arrays of array-api-strict on one of its simulated devices."""

    name = "strict"
    array_modules = ("array_api_strict",)

    def __init__(self, device: str | None = None) -> None:
        import array_api_strict as xp

        self.device = device or "device1"
        known = {_name(d): d for d in xp.__array_namespace_info__().devices()}
        if self.device not in known:
            raise BackendError(f"array-api-strict has no device {device!r}; it has {', '.join(known)}")
        self._device = known[self.device]
        self.xp = xp

    @classmethod
    def status(cls) -> Status:
        status = library_status("array_api_strict", "array-api-strict", "pip install array-api-strict")
        return status._replace(message="ready (for tests: its device is simulated)") if status.usable else status

    @classmethod
    def from_array(cls, array: Any) -> StrictBackend:
        return cls(_name(array.device))

    def owns(self, array: Any) -> bool:
        return type(array).__module__.startswith("array_api_strict") and array.device == self._device

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if self.owns(x):
            return x if dtype is None else self.xp.astype(x, self.dtype(dtype))
        # A copy: array-api-strict would share the memory.
        return self.xp.asarray(np.array(self.host_array(x, dtype)), device=self._device)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array.to_device(self.xp.Device("CPU_DEVICE")))

    def copy(self, array: Any) -> Any:
        return self.xp.asarray(array, copy=True)

    def context(self) -> AbstractContextManager[Any]:
        # It computes with NumPy; see there.
        return np.errstate(over="ignore", invalid="ignore", divide="ignore")

    def supports(self, dtype: str) -> bool:
        return dtype in self.xp.__array_namespace_info__().dtypes(device=self._device)


def _name(device: Any) -> str:
    return repr(device).split("'")[1]
