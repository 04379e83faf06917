"""Gradients gathered over several micro-batches before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_type, hold_count
from portnn.errors import ConfigError
from portnn.optim.optimizer import Optimizer, check_shapes, zeros_like

__all__ = ["Accumulate"]


@dataclass(frozen=True)
class Accumulate(Optimizer):
    """Gathers the gradients of ``every`` steps, and lets another optimizer step with their mean over the examples.

    So a batch that does not fit into memory is trained on in pieces. What is added up are the sums over the examples
    and their weights, so the result is that of the whole batch, also for pieces of unequal size, with weights of
    examples and classes, and with a penalty; but for layers that look at the whole batch, such as BatchNorm. Parameters
    change at every ``every``-th step only; a schedule of the other optimizer counts those. What an epoch leaves over
    goes on in the next one: that batch has its pieces from both. A piece whose step is skipped, as not finite, is not
    in the mean; if it is the last one of its batch, the others wait for the next.

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

    @property
    def role(self) -> Literal["step", "collect", "close"]:
        return "close"

    def slots(self, params: Tree) -> tuple[Tree, ...]:
        """The sum of the gradients, what the other optimizer remembers, and the sums of both of ``hyper["weight"]``."""
        numbers = [array_namespace(p).sum(p) for p in tree.leaves(params)[:1]]  # 0-d, of their dtype and device
        weights = tuple(zeros_like(number) for number in numbers for _ in range(2))
        return (zeros_like(params), *self.optimizer.slots(params), weights)

    def hyper(self, step: int) -> dict[str, float]:
        return self.optimizer.hyper(-(-step // self.every))

    def phases(self) -> tuple[Optimizer, ...]:
        return (_Collect(self.every, self.optimizer),) * (self.every - 1) + (self,)

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        total, inner, weights = _gathered(grads, slots, hyper)
        if not weights:
            return params, slots
        weight, usual = weights
        over = array_namespace(weight).where(weight > 0, weight, usual)
        # A new dict: the other rule takes what is in it as its keywords.
        numbers = {name: value for name, value in hyper.items() if name != "weight"}
        params, new = self.optimizer.update(params, tree.map(lambda t: t / over, total), inner, numbers)
        return params, (zeros_like(total), *new, zeros_like(weights))


class _Collect(Accumulate):
    """The steps between: gradients are added up."""

    @property
    def role(self) -> Literal["step", "collect", "close"]:
        return "collect"

    def hyper(self, step: int) -> dict[str, float]:
        return super().hyper(step) | {"lr": 0.0}  # for what decays weights around us

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        total, inner, weights = _gathered(grads, slots, hyper)
        return params, (total, *inner, weights)


def _gathered(
    grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
) -> tuple[Tree, tuple[Tree, ...], tuple[Array, ...]]:
    """The slots with another piece in the sums. Where nobody tells what it weighs, all pieces weigh the same."""
    total, *inner, weights = slots
    weight, usual = hyper.get("weight", (1.0, 1.0))

    def add(t: Array, g: Array) -> Array:
        check_shapes(t, g)
        # ``usual``: the gradient of a piece in which nothing counts is its share of a penalty.
        return t + usual * g

    here = (weight, usual)
    return tree.map(add, total, grads), tuple(inner), tuple(w + more for w, more in zip(weights, here, strict=False))
