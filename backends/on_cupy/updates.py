"""Update rules for CuPy, on arrays that the caller has given up: in place, and all leaves in one launch."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..update_rules import InPlaceRule, rule_kernels
from .compile import FLOATS, THREADS, kernel, number

__all__ = ["KERNELS"]

#: Leaves of a launch: their table and the hyper-parameters must fit into the 4 KiB of a kernel's arguments.
_LEAVES = 64

#: Values that a block works on: 16 bytes a thread, of every array, if they are of float32.
_PIECE = 1024

#: The structure Leaves of updates.cu.
_TABLE = np.dtype(
    [
        ("p", np.uint64, _LEAVES),
        ("g", np.uint64, _LEAVES),
        ("slots", np.uint64, (3, _LEAVES)),
        ("size", np.int64, _LEAVES),
        ("block", np.int64, _LEAVES),
        ("count", np.int64),
    ]
)


class _Rule(InPlaceRule):
    """The kernel of a rule's name, for one leaf or for several."""

    @functools.cached_property
    def _keywords(self) -> list[str]:
        """The hyper-parameters, in the order in which the kernel has them."""
        parameters = self.__signature__.parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def update(self, leaves: Sequence[tuple[Any, ...]], hyper: Mapping[str, Any]) -> None:
        numbers = [number(hyper[name]) for name in self._keywords]
        for real in dict.fromkeys(leaf[0].dtype for leaf in leaves):
            update = kernel("updates", self.__name__, REAL=real, LEAVES=_LEAVES, PIECE=_PIECE)
            alike = [leaf for leaf in leaves if leaf[0].dtype == real]
            for start in range(0, len(alike), _LEAVES):
                blocks, table = _table(alike[start : start + _LEAVES])
                update((blocks,), (THREADS,), (table, *numbers))


def _table(leaves: Sequence[tuple[Any, ...]]) -> tuple[int, Any]:
    """How many blocks some leaves need, and where their arrays are."""
    table = np.zeros((), _TABLE)
    for i, (p, g, *slots) in enumerate(leaves):
        table["p"][i], table["g"][i] = p.data.ptr, g.data.ptr
        for k, slot in enumerate(slots):
            table["slots"][k, i] = slot.data.ptr
    sizes = [leaf[0].size for leaf in leaves]
    ends = list(itertools.accumulate(math.ceil(size / _PIECE) for size in sizes))
    table["size"][: len(leaves)] = sizes
    table["block"][1 : len(leaves)] = ends[:-1]
    table["count"] = len(leaves)
    return max(ends[-1], 1), table


def _is_ours(array: Any) -> bool:
    return bool(array.flags.c_contiguous)


KERNELS = rule_kernels(_Rule, FLOATS, _is_ours)
