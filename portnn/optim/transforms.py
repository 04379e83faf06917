"""Gradient transforms, and `chain`, which links them before an optimizer.

``chain(ClipByNorm(1.0), L2(1e-4), Adam())`` clips, adds the gradient of a penalty (see `portnn.optim.penalties`), and
then steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from array_api_compat import array_namespace

from portnn import tree
from portnn._deprecated import moved
from portnn._typing import Array, Tree
from portnn.checks import hold_number
from portnn.errors import ConfigError
from portnn.functional.reductions import of_all
from portnn.optim.optimizer import Optimizer

__all__ = ["Around", "Chain", "ClipByNorm", "ClipByValue", "GradientTransform", "chain"]


class GradientTransform(ABC):
    """A link of a chain: a pure function of parameters and gradients; a frozen dataclass."""

    @abstractmethod
    def transform(self, params: Tree, grads: Tree) -> Tree:
        """Other gradients, of the same structure."""


@dataclass(frozen=True)
class ClipByValue(GradientTransform):
    """Every entry of the gradient is held within ``-limit`` and ``limit``, > 0."""

    limit: float

    def __post_init__(self) -> None:
        hold_number(self, "limit", 0, open_low=True)

    def transform(self, params: Tree, grads: Tree) -> Tree:
        def clip(g: Array) -> Array:
            xp = array_namespace(g)
            return xp.where(g > self.limit, self.limit, xp.where(g < -self.limit, -self.limit, g))

        return tree.map(clip, grads)


@dataclass(frozen=True)
class ClipByNorm(GradientTransform):
    """The whole gradient is shortened to the Euclidean norm ``limit``, > 0, where it is longer (Pascanu et al. 2013).

    The norm is that of all entries of all arrays together; its direction stays.
    """

    limit: float

    def __post_init__(self) -> None:
        hold_number(self, "limit", 0, open_low=True)

    def transform(self, params: Tree, grads: Tree) -> Tree:
        leaves = [g for g in tree.leaves(grads) if 0 not in g.shape]
        if not leaves:
            return grads
        xp = array_namespace(leaves[0])
        largest = of_all(xp.stack([of_all(xp.abs(g), "max") for g in leaves]), "max")
        unit = xp.where(largest > 0, largest, 1.0)  # the squares of a gradient of 1e20 would overflow float32
        norm = unit * xp.sqrt(sum(of_all((g / unit) ** 2, "sum") for g in leaves))
        factor = self.limit / xp.where(norm > self.limit, norm, self.limit)
        return tree.map(lambda g: factor * g, grads)


class Around(Optimizer):
    """An optimizer that changes what another one gets, and remembers nothing itself."""

    optimizer: Optimizer

    @property
    def kind(self) -> object:
        return self.optimizer.kind

    @property
    def role(self) -> Literal["step", "collect", "close"]:
        return self.optimizer.role

    def phases(self) -> tuple[Optimizer, ...]:
        rules = self.optimizer.phases()
        around = {id(rule): replace(self, optimizer=rule) for rule in rules}  # type: ignore[type-var]  # dataclasses all
        return tuple(around[id(rule)] for rule in rules)

    def slots(self, params: Tree) -> tuple[Tree, ...]:
        return self.optimizer.slots(params)

    def hyper(self, step: int) -> dict[str, float]:
        return self.optimizer.hyper(step)


@dataclass(frozen=True)
class Chain(Around):
    """Transforms the gradients, one link after the other, and hands them to an optimizer; made by `chain`."""

    transforms: tuple[GradientTransform, ...]
    optimizer: Optimizer

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        for link in self.transforms:
            grads = link.transform(params, grads)
        return self.optimizer.update(params, grads, slots, hyper)


def chain(*links: GradientTransform | Optimizer) -> Optimizer:
    """Link gradient transforms before an optimizer, which comes last.

    >>> from portnn import optim
    >>> chain(ClipByNorm(1.0), optim.SGD())
    Chain(transforms=(ClipByNorm(limit=1.0),), optimizer=SGD(lr=0.01))
    """
    if not links:
        raise ConfigError("chain needs an optimizer as its last entry")
    *transforms, optimizer = links
    for link in transforms:
        if not isinstance(link, GradientTransform):
            raise ConfigError(f"chain links gradient transforms before its last entry, not {link!r}")
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"chain ends with an optimizer, not with {optimizer!r}")
    return Chain(tuple(link for link in transforms if isinstance(link, GradientTransform)), optimizer)


if not TYPE_CHECKING:
    __getattr__ = moved(
        __name__, dict.fromkeys(("L1", "L2", "WeightDecay"), "portnn.optim.penalties"), since="0.2", until="0.4"
    )
