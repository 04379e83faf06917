"""Update rules on arrays that the caller has given up: in place, on all cores.

With Numba a rule is one pass over memory. Without it, the portable rule runs over pieces that are small enough for its
temporary arrays to stay in the cache.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portnn.kernels import registry

from ..update_rules import InPlaceRule, rule_kernels
from .arrays import FLOATS
from .compile import loops
from .workspace import share

__all__ = ["KERNELS"]

#: Elements of a piece: small enough for the cache, large enough to hide the calls.
_PIECE = 2**15


class _Rule(InPlaceRule):
    """The portable rule of a name, or the loop that Numba made of it, on flat views of the arrays."""

    @functools.cache  # noqa: B019  (there is one rule of a name; a cached_property would hold a lock over a fork)
    def _loop(self) -> Any:
        """``loop(arrays, hyper)``"""
        compiled = loops("updates")
        if compiled is None:
            return _adam if self.__name__ == "adam" else functools.partial(_by_pieces, registry[self.__name__].portable)
        loop = getattr(compiled, self.__name__)
        names = list(inspect.signature(registry[self.__name__].portable).parameters)

        def call(arrays: list[Any], hyper: Mapping[str, Any]) -> None:
            numbers = [hyper[name] for name in names[len(arrays) :]]
            loop(*arrays, *[n if isinstance(n, float) else float(n) for n in numbers])

        return call

    def update(self, leaves: Sequence[tuple[Any, ...]], hyper: Mapping[str, Any]) -> None:
        """Each core takes its part of all leaves."""
        rows = [[a.reshape(-1) for a in leaf] for leaf in leaves]
        sizes, loop = [row[0].size for row in rows], self._loop()

        def work(*parts: slice) -> None:
            for row, part in zip(rows, parts, strict=True):
                loop([a[part] for a in row], hyper)

        share(work, *sizes, cost=sum(sizes) / 2)


def _by_pieces(rule: Any, arrays: list[Any], hyper: Mapping[str, Any]) -> None:
    for start in range(0, arrays[0].size, _PIECE):
        p, g, *slots = (a[start : start + _PIECE] for a in arrays)
        for old, new in zip((p, *slots), rule(p, g, *slots, **hyper), strict=True):
            old[...] = new


def _adam(arrays: list[Any], hyper: Mapping[str, Any]) -> None:
    """The rule ``adam``, the one that is used most, piece by piece with one temporary array: 0.6 of the time."""
    beta1, beta2, eps, bias2 = (float(hyper[name]) for name in ("beta1", "beta2", "eps", "bias2"))
    rate, some = float(hyper["lr"]) / float(hyper["bias1"]), np.empty_like(arrays[0][:_PIECE])
    for start in range(0, arrays[0].size, _PIECE):
        p, g, m, v = (a[start : start + _PIECE] for a in arrays)
        t = some[: p.size]
        m *= beta1
        m += np.multiply(g, 1.0 - beta1, out=t)
        v *= beta2
        np.multiply(g, g, out=t)
        t *= 1.0 - beta2
        v += t
        np.sqrt(np.divide(v, bias2, out=t), out=t)
        t += eps
        np.divide(m, t, out=t)
        t *= rate
        p -= t


def _is_ours(array: Any) -> bool:
    """Flat in memory, so that ``reshape(-1)`` is a view, and open to writing."""
    return bool(array.flags.carray)


KERNELS = rule_kernels(_Rule, FLOATS, _is_ours)
