"""The CuPy backend on the imitation, and how portnn comes to know it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import trial as cupy_trial
from portnn_backends.on_cupy.backend import CupyBackend
from portnn_backends.on_cupy.kernels import KERNELS

import portnn.registry
from portnn import kernels
from portnn.backend import Backend, Status
from portnn.kernels import Kernel

from . import fake_cupy, memory, shortage
from .arrays import Device
from .namespace import NAMESPACE

#: Twins that call a function of CuPy, and are no kernels of ours.
OF_CUPY = {"digamma", "erf", "erfc", "gammaln", "scatter_add"}


class CupyOnHost(CupyBackend):
    """With its twins and its random numbers. Nothing is recorded, so that CuPy need not be installed."""

    def __init__(self, device: str | None = None) -> None:
        self._device, self.device, self.xp, self._cupy = Device(0), "0", NAMESPACE, fake_cupy
        cupy_trial.try_reductions(fake_cupy, 0)

    @classmethod
    def status(cls) -> Status:
        return Status(True, "ready (for tests: on the CPU)", "0")

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        # But for functions of CuPy and the products of cuBLAS, which are no kernels of ours.
        return {name: kernel for name, kernel in KERNELS.items() if name not in OF_CUPY}

    def loop(self, *steps: Any) -> Any:
        return Backend.loop(self, *steps)


@contextlib.contextmanager
def open_cupy_on_host(backend: type[CupyOnHost] = CupyOnHost) -> Iterator[CupyOnHost]:
    """Inside, this is the backend ``cupy``, and its kernels run on the CPU."""
    found = dict(portnn.registry._discover()) | {"cupy": backend}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portnn.registry, "_discover", lambda: found)
        patch.setattr(cupy_compile, "library", lambda: fake_cupy)
        forget()
        try:
            yield backend()
        finally:
            forget()
            memory.forget()


def forget() -> None:
    for cached in (
        cupy_compile.kernel,
        cupy_compile._module,
        cupy_compile.ahead,
        cupy_trial.try_reductions,
        kernels._twin,
    ):
        cached.cache_clear()
    shortage.forget()


def with_source(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    """Kernels from a changed source."""
    original = cupy_compile.source
    patch.setattr(cupy_compile, "source", lambda subject: change(original(subject)))
    forget()
