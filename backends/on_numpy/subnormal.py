"""Subnormal numbers as zeros while training steps run: processors take up to a hundred times as long over them.

Adam's moments of a unit that died fade through the subnormal range for some 150 steps, and an epoch takes twice as
long. So a thread flushes subnormal results and operands to zero (FTZ and DAZ, bits 15 and 6 of MXCSR on x86-64) while
it computes for a step, as XLA's threads do always, and not one moment longer: NumPy's ``finfo`` warns where it is first
asked in this mode, and other people's code may count on IEEE 754. Only on Linux with glibc on x86-64; elsewhere nothing
is changed.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
import threading
from typing import Any

import numpy as np

from portnn.loop import Loop

__all__ = ["FlushingLoop", "flush", "flushed", "is_flushing"]

_FTZ_DAZ = 0x8040

#: Of glibc's ``fenv_t`` on x86-64: its bytes, and where MXCSR stands in it.
_BYTES, _MXCSR = 32, 28

for _kind in (np.float32, np.float64):
    np.finfo(_kind).smallest_subnormal  # noqa: B018  (asked before the mode is on for the first time)


@functools.cache
def _environment() -> Any:
    """``fegetenv`` and ``fesetenv``; None where this is another system."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return None
    try:
        library = ctypes.PyDLL("libm.so.6")  # which keeps the GIL: the calls take nanoseconds
        return library.fegetenv, library.fesetenv
    except (OSError, AttributeError):
        return None


class _Mode(threading.local):
    """That of a thread."""

    on = False
    #: The environment before, and the bytes of an environment with what they become.
    before: Any = None
    flushing: tuple[bytes, Any] = (b"", None)


_mode = _Mode()


def is_flushing() -> bool:
    """Whether subnormal numbers are zeros in this thread, by `flush`."""
    return _mode.on


def flush(on: bool) -> None:
    """Let subnormal numbers be zeros in this thread from now on, or no longer."""
    calls = _environment()
    if calls is None or _mode.on == on:
        return
    if on:
        before = ctypes.create_string_buffer(_BYTES)
        calls[0](before)
        if _mode.flushing[0] != before.raw:
            new = ctypes.create_string_buffer(before.raw, _BYTES)
            ctypes.c_uint32.from_buffer(new, _MXCSR).value |= _FTZ_DAZ
            _mode.flushing = before.raw, new
        calls[1](_mode.flushing[1])
        _mode.before = before
    else:
        calls[1](_mode.before)
    _mode.on = on


class flushed:
    """Within the block, subnormal numbers are zeros in this thread."""

    def __enter__(self) -> None:
        self._before = _mode.on
        flush(True)

    def __exit__(self, *_: object) -> None:
        flush(self._before)


class FlushingLoop(Loop):
    """The portable loop, in whose steps subnormal numbers are zeros."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        with flushed():
            return super().run(*args, **kwargs)
