"""NumPy: the CPU, and the reference that every other backend is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from portnn._typing import Shape
from portnn.backend import Backend, RandomStream, Status
from portnn.errors import BackendError
from portnn.forward import Forward
from portnn.kernels import Kernel
from portnn.loop import Loop

from .arrays import FLOATS
from .compile import HAS_NUMBA, loaded
from .forward import TapeForward
from .kernels import KERNELS
from .noise import philox_uniform
from .recording import recorder
from .subnormal import FlushingLoop
from .workspace import share, workspace

#: Dtypes whose arrays come in as they are.
_PLAIN = frozenset(map(np.dtype, ("bool", "uint8", "int32", "int64", "float32", "float64")))

#: Of one core, for a number that is squared.
_NANOSECONDS = 0.15


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
        if type(x) is np.ndarray and (x.dtype in _PLAIN if dtype is None else x.dtype == np.dtype(dtype)):
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

    def forward(self, apply: Callable[..., Any]) -> Forward:
        return TapeForward(apply) if HAS_NUMBA else Forward(apply)

    def all_finite(self, x: Any) -> bool:
        # The square of a number that is not finite is none either: one pass, and no array of truth values. Where the
        # squares of large numbers are too large, too, each number is looked at.
        if x.dtype not in FLOATS or not x.flags.c_contiguous:
            return super().all_finite(x)
        flat, sums = x.reshape(-1), []
        share(lambda part: sums.append(np.vdot(flat[part], flat[part])), x.size, cost=x.size * _NANOSECONDS)
        return all(map(math.isfinite, sums)) or super().all_finite(x)

    def context(self) -> AbstractContextManager[None]:
        return _Context()


class _Context:
    """As on every other library: infinity and NaN show in the results, and no warnings come on top."""

    __slots__ = ("_quiet", "_space")

    def __enter__(self) -> None:
        self._space = workspace().__enter__()
        self._quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        self._quiet.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._quiet.__exit__(*error)
        self._space.__exit__(*error)
