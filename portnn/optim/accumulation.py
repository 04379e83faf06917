"""Gradients averaged over several micro-batches before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_type, hold_count
from portnn.errors import ConfigError
from portnn.optim.optimizer import Optimizer, check_shapes, zeros_like

__all__ = ["Accumulate"]


@dataclass(frozen=True)
class Accumulate(Optimizer):
    """Averages the gradients of ``every`` steps, and lets another optimizer step with the average.

    So a batch that does not fit into memory is trained on in pieces: for pieces of one size, the result is that of the
    whole batch, but for layers that look at the whole batch, such as BatchNorm. Parameters change at
    every ``every``-th step only; a schedule of the other optimizer counts those. What an epoch
    leaves over goes on in the next one.

    Parameters
    ----------
    every : int
        Number of micro-batches that make one batch.
    optimizer : Optimizer

    Examples
    --------
    >>> from portnn import optim
    >>> optim.Accumulate(4, optim.Adam(lr=0.002)).hyper(8) == optim.Adam(lr=0.002).hyper(2)
    True
    """

    every: int
    optimizer: Optimizer

    def __post_init__(self) -> None:
        hold_count(self, "every")
        check_type(self, "optimizer", Optimizer)
        if len(self.optimizer.phases()) > 1:
            raise ConfigError("an Accumulate within another one: multiply their numbers instead")

    @property
    def kind(self) -> object:
        return Accumulate, self.every, self.optimizer.kind

    def slots(self, params: Tree) -> tuple[Tree, ...]:
        return (zeros_like(params), *self.optimizer.slots(params))

    def hyper(self, step: int) -> dict[str, float]:
        return self.optimizer.hyper(-(-step // self.every))

    def phases(self) -> tuple[Optimizer, ...]:
        return (_Collect(self.every, self.optimizer),) * (self.every - 1) + (self,)

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        total, *inner = slots
        mean = tree.map(lambda t, g: (t + g) / self.every, total, grads)
        params, new = self.optimizer.update(params, mean, tuple(inner), hyper)
        return params, (zeros_like(total), *new)


class _Collect(Accumulate):
    """The steps between: gradients are added up."""

    def hyper(self, step: int) -> dict[str, float]:
        return {"lr": 0.0}  # for what decays weights around us

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        def add(t: Array, g: Array) -> Array:
            check_shapes(t, g)
            return t + g

        return params, (tree.map(add, slots[0], grads), *slots[1:])
