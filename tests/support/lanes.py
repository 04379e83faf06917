"""The lanes that the suite runs in: a backend each, adversarial ones among them.

``strict:device1`` stands for a GPU: an array that strays to the host, or meets one of another device, raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cupy_on_host
import numpy as np
import pytest
from portnn_backends.on_numpy.backend import NumpyBackend

from portnn.backend import Backend, available_backends, get_backend

#: The CuPy backend without a GPU: its kernels run on the CPU, where there is a compiler for them. Slow tests.
_ON_HOST = "cupy-on-host"
_EVERY = f"numpy numpy-readonly strict:device1 strict:no_x64 torch jax jax-x64 cupy {_ON_HOST}"
#: All of them, or those that PORTNN_LANES names: other devices, too, such as "cupy:1" or "torch:cuda".
NAMES = tuple(os.environ.get("PORTNN_LANES", _EVERY).split())
WITHOUT_FLOAT64 = ("strict:no_x64", "jax")


def library_of(name: str) -> str:
    return name.partition(":")[0].partition("-")[0]


def _is_usable(name: str) -> bool:
    if library_of(name) not in STATUS:
        raise pytest.UsageError(
            f"PORTNN_LANES names {name!r}, which is no backend: there are {', '.join(STATUS)}. "
            "Install the package that advertises it (pip install -e .), and again when its entry point changes"
        )
    return bool(cupy_on_host.COMPILER) if name == _ON_HOST else STATUS[library_of(name)].usable


STATUS = available_backends()
if "PYTEST_XDIST_WORKER" in os.environ and STATUS["torch"].usable:
    import torch

    torch.set_num_threads(1)  # those of several workers would wait for one another, and spin meanwhile
_FOUND = tuple(name for name in NAMES if _is_usable(name))
if NAMES and "PORTNN_LANES" in os.environ and not _FOUND:
    raise pytest.UsageError(f"no lane of PORTNN_LANES can be used: {STATUS[library_of(NAMES[0])].message}")
#: What the suite runs over; `test_backends` skips once, with the reason, for each library that is not usable.
USABLE = tuple(name for name in _FOUND if name != "jax-x64")
#: What the tests in float64 run over.
USABLE64 = tuple(name for name in _FOUND if name not in WITHOUT_FLOAT64)


class ReadOnlyNumpy(NumpyBackend):
    """NumPy whose arrays refuse to be written to: code that changes its input fails."""

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        array = np.array(super().asarray(x, dtype))
        array.flags.writeable = False
        return array

    def copy(self, array: Any) -> Any:
        return self.asarray(array)


@contextmanager
def open_lane(name: str) -> Iterator[Backend]:
    if name == "numpy-readonly":
        yield ReadOnlyNumpy()
    elif name == "cupy-on-host":
        with cupy_on_host.open_cupy_on_host() as backend:
            yield backend
    elif name == "jax-x64":
        import jax

        # Not `with jax.enable_x64(True)`: that is for one thread, and host draws of a compiled step may run in others.
        jax.config.update("jax_enable_x64", True)
        try:
            yield get_backend("jax")
        finally:
            jax.config.update("jax_enable_x64", False)
    elif library_of(name) == "strict":
        import array_api_strict

        with array_api_strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False):
            yield get_backend(name)
    else:
        yield get_backend(name)


@contextmanager
def host_closed(backend: Backend) -> Iterator[None]:
    """Inside, an array of array-api-strict that is turned into a number or taken to the host raises."""
    import array_api_strict

    array_type = type(array_api_strict.zeros(1))

    def refuse(name: str) -> Any:
        def method(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"{name} of a device array: this waits for the device, or leaves it")

        return method

    names = ["__float__", "__int__", "__bool__", "__index__", "__complex__", "__dlpack__", "__array__", "to_device"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            if hasattr(array_type, name):
                patch.setattr(array_type, name, refuse(name))
        yield
