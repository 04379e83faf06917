"""Products of cuBLASLt, compared with CuPy's in all layouts, so that a wrong argument never trains a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from portnn.errors import BackendError

from .lt import BIAS, PLAIN, RELU_BIAS

__all__ = ["check_products"]

#: How far apart products may be of factors up to 1, with sums up to 10, whose numbers have 24, 11, 53 or 8 bits.
_TOLERANCES = {"float32": 1e-5, "tf32": 0.02, "float64": 1e-12, "bfloat16": 0.05, "bfloat16 to float32": 1e-5}

#: Lengths of which no two are alike, and whose rows begin at multiples of 16 bytes.
_COUNT, _M, _K, _N = 3, 24, 16, 8


def check_products(multiply: Callable[..., Any], kind: str, epilogue: int, stacked: bool) -> None:
    """Compare products of a kind.

    Parameters
    ----------
    multiply : callable
        ``multiply(a, b, bias, relu)`` gives a product on the device.
    kind : str
        Of `portnn_backends.on_cupy.lt.KINDS`.
    epilogue : int
        What is done with the product.
    stacked : bool
        Whether there are several.

    Raises
    ------
    BackendError
        If one differs.
    """
    dtype = np.float64 if kind == "float64" else np.float32
    sizes = (_COUNT * _M * _K, _COUNT * _K * _N, _N)
    a, b, bias = (_representable(np.sin(np.arange(size, dtype=dtype)), kind) for size in sizes)
    a, b = np.reshape(a, (_COUNT, _M, _K)), np.reshape(b, (_COUNT, _K, _N))
    if not stacked:
        a, b = a[0], b[0]
    expected = cupy.asnumpy(cupy.matmul(cupy.asarray(a), cupy.asarray(b)))
    if epilogue in (BIAS, RELU_BIAS):
        expected = expected + bias
    if epilogue == RELU_BIAS:
        expected = np.maximum(expected, 0)
    added = None if epilogue == PLAIN else cupy.asarray(bias if kind != "bfloat16" else _bits(bias))
    for turned in ((False, False), (True, False), (False, True), (True, True)):
        left, right = (_laid_out(host, kind, turn) for host, turn in zip((a, b), turned, strict=True))
        # On the host: what is to be trusted here is no reduction of CuPy.
        made = cupy.asnumpy(multiply(left, right, added, epilogue == RELU_BIAS))
        difference = float(np.max(np.abs((_of_bits(made) if made.dtype == np.uint16 else made) - expected)))
        if not difference <= _TOLERANCES[kind]:
            raise BackendError(f"a product of cuBLASLt differs by {difference} from CuPy's")


def _laid_out(host: Any, kind: str, turn: bool) -> Any:
    """A factor on the device, in memory by rows or by columns."""
    if kind.startswith("bfloat16"):
        host = _bits(host)
    if not turn:
        return cupy.asarray(host)
    axes = (*range(host.ndim - 2), host.ndim - 1, host.ndim - 2)
    return cupy.asarray(np.ascontiguousarray(host.transpose(axes))).transpose(*axes)


def _representable(values: Any, kind: str) -> Any:
    return _of_bits(_bits(values)) if kind.startswith("bfloat16") else values


def _bits(values: Any) -> Any:
    """Those of bfloat16, which are the upper half of float32's: cut off, not rounded."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _of_bits(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32)
