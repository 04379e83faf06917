"""NumPy: the CPU, and the reference that every other backend is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from portnn._typing import Shape
from portnn.backend import Backend, RandomStream, Status
from portnn.errors import BackendError
from portnn.kernels import Kernel
from portnn.loop import Loop

from .compile import HAS_NUMBA, loaded
from .kernels import KERNELS
from .noise import philox_uniform
from .recording import recorder
from .subnormal import FlushingLoop
from .workspace import workspace


class NumpyBackend(Backend):
    """Arrays of NumPy in the host's memory."""

    name = "numpy"
    aliases = ("cpu",)
    #: The second is that of arrays whose uses are recorded: `tape.traced`.
    array_modules = ("numpy", "portnn_backends")

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, "cpu"):
            raise BackendError(f"NumPy has one device, cpu; there is no {device!r}")
        self.device = "cpu"
        self.xp = xp

    @classmethod
    def status(cls) -> Status:
        return Status(True, "ready", np.__version__)

    @classmethod
    def from_array(cls, array: Any) -> NumpyBackend:
        return cls()

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        return KERNELS

    def owns(self, array: Any) -> bool:
        # No subclasses: masked arrays and matrices compute otherwise.
        return type(array) is np.ndarray or isinstance(array, np.generic)

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        if type(x) is np.ndarray and dtype is not None and x.dtype == np.dtype(dtype):
            return x
        return self.host_array(x, dtype)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def copy(self, array: Any) -> Any:
        return np.array(array) if recorder() is None else recorder().copied(array)

    def uniform(self, stream: RandomStream, shape: Shape, dtype: str) -> Any:
        return philox_uniform(stream, shape, dtype)

    def loop(self, *steps: Callable[..., Any]) -> Loop:
        if HAS_NUMBA:
            loop: Loop = loaded("tape.loop").TapeLoop(self, steps)
            return loop
        return FlushingLoop(self, steps)

    @contextmanager
    def context(self) -> Iterator[None]:
        # As on every other library: infinity and NaN show in the results, and no warnings come on top.
        with workspace(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield
