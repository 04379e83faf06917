"""What stands in the words of a tape: NumPy's own inner loops, and the arguments of what Numba made.

NumPy's inner loops are found in the object of a ufunc, whose beginning has been the same since NumPy 1.0
(``numpy/ufuncobject.h``).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

__all__ = ["flat_arguments", "loop_kinds", "loop_of"]


def loop_kinds(operands: int) -> str:
    """Of ``loop(char **args, npy_intp *dimensions, npy_intp *steps, void *data)``, which may change ``args``."""
    return f"v:{operands}iii"


def flat_arguments(argument: Any) -> list[Any]:
    """An argument as the words that Numba makes of it; an array's address stands as the array itself."""
    if isinstance(argument, np.ndarray):
        return [0, 0, argument.size, argument.itemsize, argument, *argument.shape, *argument.strides]
    if isinstance(argument, tuple):
        return [word for part in argument for word in flat_arguments(part)]
    return [argument]


class _Ufunc(ctypes.Structure):
    """The beginning of NumPy's ``PyUFuncObject``, after what every object has."""

    _fields_ = (
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    )


@functools.cache
def loop_of(ufunc: np.ufunc, characters: str) -> tuple[int, int] | None:
    """Address and data of the inner loop for some dtypes, such as ``"fff"``; None if there is none."""
    head = _Ufunc.from_address(id(ufunc) + object.__basicsize__)
    if (head.nin, head.nout, head.ntypes) != (ufunc.nin, ufunc.nout, ufunc.ntypes):
        return None  # an interpreter or a NumPy that lays its objects out otherwise
    types = [types.replace("->", "") for types in ufunc.types]
    if characters not in types:
        return None
    place = types.index(characters)
    address = head.functions[place]
    return None if not address else (address, (head.data[place] or 0) if head.data else 0)
