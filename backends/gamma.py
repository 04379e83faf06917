"""The logarithm of gamma, and its derivative, of each library as twins of the portable ones."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from array_api_compat import array_namespace

from portnn.functional.gamma import at_poles, trigamma
from portnn.kernels import Kernel

__all__ = ["gamma_kernels"]


def gamma_kernels(module: str) -> dict[str, Kernel]:
    """The twins made of ``gammaln`` and ``digamma`` in a module of the library, imported when it is first needed."""

    def gammaln(x: Any) -> Any:
        def backward(dy: Any) -> Any:
            return dy * digamma(x)[0]

        # At minus infinity there is no limit, whatever libraries say.
        return array_namespace(x).where(x == -math.inf, math.nan, import_module(module).gammaln(x)), backward

    def digamma(x: Any) -> Any:
        def backward(dy: Any) -> Any:
            return dy * trigamma(x)

        # Libraries have infinities of either sign there.
        return at_poles(x, import_module(module).digamma(x), math.nan), backward

    return {"gammaln": Kernel(gammaln), "digamma": Kernel(digamma)}
