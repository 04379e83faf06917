"""The same backend with training steps recorded as CUDA graphs, and cuBLAS; CuPy must be installed to be imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import chunk as cupy_chunk
from portnn_backends.on_cupy import loop as cupy_loop
from portnn_backends.on_cupy import recording as cupy_recording
from portnn_backends.on_cupy.backend import CupyBackend

from portnn.backend import Backend
from portnn.kernels import Kernel

from . import fake_cupy
from .arrays import empty, ndarray
from .backend import CupyOnHost, open_cupy_on_host
from .cublas import CublasImitation
from .streams import Stream, get_current_stream


class Recorded(CupyOnHost):
    def loop(self, *steps: Any) -> Any:
        return CupyBackend.loop(self, *steps)

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        return {**super().kernels(), **cupy_blas.KERNELS}


class Portable(Recorded):
    """With the portable forms of all functions but `matmul`: no kernel is compiled."""

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        return cupy_blas.KERNELS

    def uniform(self, stream: Any, shape: Any, dtype: str) -> Any:
        """Reads the step in device memory, as a kernel does."""
        if not isinstance(stream.step, ndarray):
            return Backend.uniform(self, stream, shape, dtype)
        made, step = empty(shape, dtype), stream.step._host
        to = made._host
        get_current_stream().do(
            lambda: np.copyto(to, stream.at(int(step)).generator().random(shape, dtype=np.dtype(dtype).type))
        )
        return made


class Plain(Portable):
    """Nothing is recorded."""

    def loop(self, *steps: Any) -> Any:
        return Backend.loop(self, *steps)


@contextlib.contextmanager
def open_recorded(backend: type[Recorded]) -> Iterator[Recorded]:
    """As `open_cupy_on_host`; and CuPy's modules compute with the imitation."""
    with open_cupy_on_host(backend) as opened, pytest.MonkeyPatch.context() as patch:
        for module in (cupy_blas, cupy_chunk, cupy_loop, cupy_recording):
            patch.setattr(module, "cupy", fake_cupy)
        patch.setattr(cupy_blas, "_load", CublasImitation)
        yield opened
    assert [stream for stream in Stream.known.values() if stream.captured is not None] == []
