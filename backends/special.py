"""The error functions of each library as twins of the portable ones: one call instead of many passes over memory."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from array_api_compat import array_namespace

from portnn.kernels import Kernel

__all__ = ["erf_kernels"]


def erf_kernels(module: str) -> dict[str, Kernel]:
    """The twins made of ``erf`` and ``erfc`` in a module of the library, which is imported when it is first needed."""

    def pair(name: str, x: Any, factor: float) -> Any:
        xp = array_namespace(x)

        def backward(dy: Any) -> Any:
            return dy * (xp.exp(-x * x) * factor)

        return getattr(import_module(module), name)(x), backward

    def erf(x: Any) -> Any:
        return pair("erf", x, 2.0 / math.sqrt(math.pi))

    def erfc(x: Any) -> Any:
        return pair("erfc", x, -2.0 / math.sqrt(math.pi))

    return {"erf": Kernel(erf), "erfc": Kernel(erfc)}
