"""What twins of the update rules share: the names, and one leaf as the case of several."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from portnn.kernels import Kernel, registry

__all__ = ["InPlaceRule", "rule_kernels"]

_RULES = (
    *("sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "centred_rmsprop"),
    *("adam", "amsgrad", "adamax", "adamw", "nadam"),
)


class InPlaceRule(ABC):
    """The portable rule of a name, on arrays that the caller has given up: in place."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(registry[self.__name__].portable)

    @abstractmethod
    def update(self, leaves: Sequence[tuple[Any, ...]], hyper: Mapping[str, Any]) -> None:
        """Overwrite ``p`` and the slots of leaves ``(p, g, *slots)``."""

    def many(self, leaves: Sequence[tuple[Any, ...]], **hyper: Any) -> list[tuple[Any, ...]]:
        self.update(leaves, hyper)
        return [(p, *slots) for p, _, *slots in leaves]

    def __call__(self, p: Any, g: Any, *slots: Any, **hyper: Any) -> Any:
        return self.many([(p, g, *slots)], **hyper)[0]


def rule_kernels(
    rule: Callable[[str], InPlaceRule], dtypes: frozenset[Any], layout: Callable[[Any], bool]
) -> dict[str, Kernel]:
    """A twin of every update rule, for arrays of these dtypes that lie in memory as the twins need it."""
    rules = {name: rule(name) for name in _RULES}
    return {name: Kernel(made, dtypes=dtypes, layout=layout, many=made.many) for name, made in rules.items()}
