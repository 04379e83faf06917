"""A lack of device memory, in the words of the libraries that meet it, and one more try when CuPy's pool was emptied.

CuPy's allocator empties the pool by itself. Loading a kernel, or launching one for the first time, does not come by it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, TypeVar

from portnn.backend import Backend, first_line
from portnn.errors import DeviceMemoryError

__all__ = ["lack_told", "lacks_memory", "once_more"]

R = TypeVar("R")

#: What errors of the runtime, the driver and cuBLAS are called, which are RuntimeErrors.
_WORDS = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory on the device."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS)


def once_more(cupy: Any, function: Callable[..., R], *args: Any) -> R:
    """Call a function; once more, where it lacked memory, when what CuPy's pool holds for nobody was given back."""
    try:
        return function(*args)
    except Exception as error:
        if not lacks_memory(error):
            raise
        with suppress(Exception):  # while a stream is captured, nothing can be given back: the error above says why
            cupy.get_default_memory_pool().free_all_blocks()
    return function(*args)


class lack_told:
    """``with lack_told(backend, context):`` enters a context; a lack of memory inside becomes a DeviceMemoryError."""

    def __init__(self, backend: Backend, context: AbstractContextManager[Any]) -> None:
        self._backend, self.context = backend, context

    def __enter__(self) -> None:
        self.context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.__exit__(kind, error, trace)
        if error is None or isinstance(error, DeviceMemoryError) or not lacks_memory(error):
            return
        try:
            memory = self._backend.memory()
            told = f"{memory.free:,} of its {memory.total:,} bytes are free: "
        except Exception:  # the device may be past telling
            told = ""
        raise DeviceMemoryError(
            f"{self._backend} has no memory left ({first_line(error)}); {told}end what else uses it, or give it fewer "
            "examples at once"
        ) from error
