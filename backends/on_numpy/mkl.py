"""Intel's MKL for products of matrices, on Intel's processors, where the package ``mkl`` is installed.

There it takes 0.5 to 0.85 of the time of OpenBLAS, with which NumPy comes; on AMD's it takes 1.7 times as long. A clock
that chose between them would change the bits of a run, so a rule does. MKL computes on the thread that calls it, and
in its mode of strict reproducibility, in which results do not depend on how arrays lie in memory.
"""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from portnn.backend import first_line
from portnn.errors import BackendError

from ..layouts import layout

__all__ = ["Mkl", "mkl"]

# In mkl_service.h and mkl_cblas.h
_INTERFACE_LP64, _THREADING_SEQUENTIAL = 0, 1
_CBWR_AUTO, _CBWR_STRICT = 2, 0x10000
_ROWS, _AS_IT_LIES, _TURNED = 101, 111, 112

#: Of ``cblas_?gemm`` for `machine_code.caller`: order, transpositions, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc.
_KINDS = {np.dtype(np.float32): "v:wwwwwwfiwiwfiw", np.dtype(np.float64): "v:wwwwwwdiwiwdiw"}
_C_TYPES: dict[str, Any] = {"w": ctypes.c_int, "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_void_p}

#: Sizes and steps are 32-bit integers.
_MOST = 2**31 - 1


class Mkl:
    """The library at a path.

    Raises
    ------
    BackendError
        If it cannot be loaded, or does not compute as it is to: sequentially, and with the same bits wherever arrays
        lie.
    """

    def __init__(self, path: str) -> None:
        try:
            library = ctypes.CDLL(path)
            functions = {dtype: library[f"cblas_{name}gemm"] for dtype, name in zip(_KINDS, "sd", strict=True)}
            interface, threading = library.MKL_Set_Interface_Layer, library.MKL_Set_Threading_Layer
            reproducible = library.MKL_CBWR_Set
        except (OSError, AttributeError) as error:
            raise BackendError(f"it cannot be loaded: {first_line(error)}") from None
        # All three only before the first computation: another package may have made other choices.
        if (interface(_INTERFACE_LP64), threading(_THREADING_SEQUENTIAL)) != (_INTERFACE_LP64, _THREADING_SEQUENTIAL):
            raise BackendError("another package has chosen its threads or its integers")
        if (status := reproducible(_CBWR_AUTO | _CBWR_STRICT)) != 0:
            raise BackendError(f"its strict reproducibility cannot be had here: status {status}")
        self._functions: dict[Any, tuple[int, str, Callable[..., None]]] = {}
        for dtype, function in functions.items():
            kinds = _KINDS[dtype]
            function.argtypes, function.restype = [_C_TYPES[kind] for kind in kinds[2:]], None
            address = ctypes.cast(function, ctypes.c_void_p).value
            assert address is not None
            self._functions[dtype] = address, kinds, function

    def call(self, a: Any, b: Any, out: Any) -> tuple[int, str, Callable[..., None], list[Any]] | None:
        """What writes ``a @ b`` into ``out``: its address, the kinds of its arguments, itself and the arguments.

        None for what NumPy is to multiply: other dtypes, no values, and arrays without steps that MKL knows.
        """
        found = self._functions.get(out.dtype)
        if found is None or not a.dtype == b.dtype == out.dtype or not (a.size and b.size and out.size):
            return None
        first, second, third = _operand(a), _operand(b), _operand(out)
        if first is None or second is None or third is None or third[0] != _AS_IT_LIES:
            return None
        (m, k), n, one, nothing = a.shape, b.shape[1], (1.0, out.dtype), (0.0, out.dtype)
        sizes = [_ROWS, first[0], second[0], m, n, k]
        return *found, [*sizes, one, a, first[1], b, second[1], nothing, out, third[1]]


def _operand(x: Any) -> tuple[int, int] | None:
    """Whether a matrix is a transposed one, and the elements from one row in memory on to the next."""
    found = layout(x.shape, x.strides, x.itemsize)
    if found is None or found[1] * x.itemsize > _MOST:
        return None
    return (_TURNED if found[0] else _AS_IT_LIES), found[1]


@functools.cache
def mkl() -> Mkl | None:
    """MKL, by the rule above; None where it is not to be used, with a warning where it is of no use."""
    if not _of_intel():
        return None
    path = _path()
    if path is None:
        return None
    try:
        return Mkl(path)
    except BackendError as error:
        warnings.warn(f"MKL is installed but not used, so products are NumPy's: {error}", RuntimeWarning, stacklevel=2)
        return None


def _of_intel() -> bool:
    """Whether the processor is one of Intel's."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return any(line.startswith("vendor_id") and "GenuineIntel" in line for line in file)
    except OSError:
        return "GenuineIntel" in os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows


def _path() -> str | None:
    """Where the package ``mkl`` has put its library, if it is installed."""
    try:
        files = metadata.files("mkl") or []
    except metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name.startswith(("libmkl_rt.so", "mkl_rt."))]
    return os.path.realpath(str(found[0].locate())) if found else None
