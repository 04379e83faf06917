"""CuPy's reductions, tried on known numbers before anybody relies on them.

CuPy 14 computes these by CUB, and throws away the error codes that CUB returns. A kernel is brought to the device when
it is first used. Where there is no memory left for it, nothing is computed and nothing is said: the result keeps what
lay in its memory before. So each of them is used here once, which brings it to the device, or is seen to fail. Without
CUB, sums over millions of values would take hundreds of times as long.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from portnn.backend import first_line
from portnn.errors import BackendError

__all__ = ["TRIED", "try_reductions"]

#: The functions of CuPy that end in kernels of CUB: of whole arrays, and those that it also has for rows.
#: `mean` is `sum`, divided; the standard's names of the last two are other ones.
_WHOLE = ("sum", "max", "min", "prod", "argmax", "argmin", "cumsum", "cumprod")
_ROWS = ("sum", "max", "min", "prod")
TRIED = frozenset({*_WHOLE, "mean", "cumulative_sum", "cumulative_prod"})

_DTYPES = ("float32", "float64", "int64")

#: No two of their results are alike: what another one has left behind is not taken for the right one.
_NUMBERS = ((3, 7, 5), (4, 2, 6))


@functools.cache
def try_reductions(cupy: Any, device: int) -> None:
    """Use each of the reductions once on the device of this number: 40 ms, and 2 MiB there.

    Raises
    ------
    BackendError
        If one fails, or gives anything but what NumPy gives.
    """
    with cupy.cuda.Device(device):
        for dtype in _DTYPES:
            for name, axis in [*((name, None) for name in _WHOLE), *((name, -1) for name in _ROWS)]:
                _try(cupy, device, name, dtype, axis)


def _try(cupy: Any, device: int, name: str, dtype: str, axis: int | None) -> None:
    host = np.asarray(_NUMBERS, dtype)
    expected, call = getattr(np, name)(host, axis=axis), f"cupy.{name} of six numbers of {dtype}"
    try:
        found = cupy.asnumpy(getattr(cupy, name)(cupy.asarray(host), axis=axis))
    except Exception as error:  # of the allocator, the driver or the runtime
        raise BackendError(f"GPU {device} cannot compute {call} ({first_line(error)}){_advice(cupy)}") from error
    if not np.array_equal(found, expected):
        raise BackendError(
            f"GPU {device} computes {call} as {found.tolist()} in place of {expected.tolist()}: a kernel of CuPy could "
            f"not be loaded, which CuPy does not tell{_advice(cupy)}"
        )


def _advice(cupy: Any) -> str:
    try:
        free, total = cupy.cuda.runtime.memGetInfo()
    except Exception:  # the device may be past telling
        told = ""
    else:
        told = f"{free:,} of its {total:,} bytes are free: "
    return f"; {told}end what else uses it, or take another one, such as device='cupy:1'"
