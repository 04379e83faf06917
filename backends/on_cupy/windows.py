"""How kernels over images, and the windows that slide over them, are launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.functional.windows import Axis

from .compile import each, kernel, lanes

__all__ = ["launch"]

#: The structure Axis of windows.cuh.
_AXIS = np.dtype([(name, np.int32) for name in ("size", "count", "kernel", "stride", "dilation", "before")])

#: Up to so many values are numbered with 32 bits; the threads count beyond it by at most as much.
_NARROW = 2**31


def launch(subject: str, name: str, arrays: tuple[Any, ...], rows: Axis, columns: Axis, out: tuple[Any, ...]) -> None:
    """A kernel of convolution or pooling, whose threads go over the values of the first of its results."""
    geometry = tuple(
        np.array((a.size, a.count, a.kernel, a.stride, a.dilation, a.before), _AXIS) for a in (rows, columns)
    )
    size, channels = out[0].size, (arrays if name == "unfold" else out)[0].shape[-1]
    place = "unsigned int" if max(a.size for a in (*arrays, *out)) < _NARROW else "unsigned long long"
    launched = kernel(subject, name, REAL=out[0].dtype, PLACE=place)
    width = lanes(out[0].dtype) if channels % lanes(out[0].dtype) == 0 else 1
    launched(*each(size // width), (*arrays, *geometry, np.int32(channels), size, *out))
