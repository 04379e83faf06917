"""The same backend with training steps recorded as CUDA graphs, and cuBLAS; CuPy must be installed to be imported."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from portnn_backends.on_cupy import agreement as cupy_agreement
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import choices as cupy_choices
from portnn_backends.on_cupy import chunk as cupy_chunk
from portnn_backends.on_cupy import loop as cupy_loop
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy import plans as cupy_plans
from portnn_backends.on_cupy import recording as cupy_recording
from portnn_backends.on_cupy import timing as cupy_timing
from portnn_backends.on_cupy.backend import CupyBackend

from portnn.backend import Backend
from portnn.groups import Group
from portnn.kernels import Kernel

from . import fake_cupy, memory
from .arrays import empty, ndarray
from .backend import CupyOnHost, open_cupy_on_host
from .cublas import CublasImitation
from .cublaslt import CublasLtImitation
from .streams import Graph, Stream, get_current_stream


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

    @classmethod
    def groups(cls) -> Sequence[Group]:
        return ()

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


def nodes(graph: Graph) -> list[str]:
    """What is launched with a graph, by name: kernels of ours, functions of CuPy, and products of cuBLAS."""
    names = []
    for work in graph.works:
        if work.__module__ != memory.__name__:  # which only sees to it that nobody relies on what lies there
            known = inspect.getclosurevars(work).nonlocals  # type: ignore[arg-type]
            names.append(known["name"] if "name" in known else getattr(known.get("function"), "__name__", "product"))
    return names


def forget_choices() -> None:
    """As in a new process, nothing is known of products, and nothing has been said of them."""
    cupy_choices.machine.cache_clear()
    cupy_plans.tell.cache_clear()


@contextlib.contextmanager
def open_recorded(backend: type[Recorded]) -> Iterator[Recorded]:
    """As `open_cupy_on_host`; and CuPy's modules compute with the imitation."""
    with open_cupy_on_host(backend) as opened, pytest.MonkeyPatch.context() as patch:
        for module in (
            *(cupy_agreement, cupy_blas, cupy_chunk),
            *(cupy_loop, cupy_plans, cupy_recording, cupy_timing),
        ):
            patch.setattr(module, "cupy", fake_cupy)
        patch.setattr(cupy_blas, "_load", CublasImitation)
        patch.setattr(cupy_lt, "_load", CublasLtImitation)
        patch.setattr(cupy_choices, "_folder", lambda: None)  # nothing is kept on disk
        patch.setattr(cupy_blas, "_WORKSPACE", 2**16)  # each is filled when it comes and when it goes
        for name, few in (("_IN_A_ROW", 2), ("_LAUNCHES", 1)):  # the clock of the imitation is exact
            patch.setattr(cupy_plans, name, few)
        forget_choices()
        yield opened
        forget_choices()
    assert [stream for stream in Stream.known.values() if stream.captured is not None] == []
