"""Penalties on weights: parts of the loss, links of a chain, and decoupled weight decay.

They act on weights, the parameters called ``w``, and not on biases or the parameters of a normalisation. A
`Regularizer` is part of the loss, which the examples share (see `portnn.Trainer`); `L1` and `L2` are links of
`optim.chain`, which add their gradient and leave the loss alone. The derivative of ``|w|`` at 0 is taken as 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import nextafter
from typing import Any

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_type, hold_number
from portnn.functional.reductions import of_all
from portnn.optim.descent import sgd
from portnn.optim.optimizer import Optimizer, check_shapes
from portnn.optim.transforms import Around, GradientTransform

__all__ = ["L1", "L2", "ElasticNet", "Regularizer", "WeightDecay"]


def _is_weight(path: str) -> bool:
    return path.rpartition(".")[2] == "w"


def _weights(params: Tree) -> dict[str, Array]:
    """What penalties act on, by their paths."""
    return {path: leaf for path, leaf in tree.flatten(params).items() if _is_weight(path)}


def _on_weights(function: Callable[[Array, Array], Array], params: Tree, grads: Tree) -> Tree:
    """``function(w, g)`` of every weight and its gradient; all other gradients as they are."""
    paths = iter(tree.flatten(params))

    def change(p: Array, g: Array) -> Array:
        check_shapes(p, g)
        return function(p, g) if _is_weight(next(paths)) else g

    return tree.map(change, params, grads)


def _with_l1(w: Array, g: Array, rate: Any) -> Array:
    """The gradient of a loss, and of ``rate sum |w|``."""
    return g + rate * array_namespace(w).sign(w)


class Regularizer(ABC):
    """A penalty with its gradient: a frozen dataclass without arrays.

    Attributes
    ----------
    smooth : bool
        Whether the penalty has a derivative everywhere, as full-batch methods need it.
    """

    @abstractmethod
    def __call__(self, params: Tree, grads: Tree, share: Any) -> tuple[Array, Tree]:
        """``share`` times the penalty, a 0-d array, and the gradients with ``share`` times its gradient added.

        The caller gives up the gradients: they may be overwritten.
        """

    @property
    def smooth(self) -> bool:
        return True


@dataclass(frozen=True)
class ElasticNet(Regularizer):
    """``rate ((1 - l1_ratio) / 2 sum w^2 + l1_ratio sum |w|)`` over all weights, the parameters called ``w``.

    (Zou and Hastie 2005.) Biases and the parameters of a normalisation are left alone.

    Parameters
    ----------
    rate : float
        Strength of the penalty, >= 0.
    l1_ratio : float, default 0.0
        Share of the absolute values, in [0, 1]: 0 is the L2 penalty, 1 the L1 penalty.

    Examples
    --------
    >>> import numpy as np
    >>> params, grads = {"w": np.asarray([[3.0, -1.0]])}, {"w": np.zeros((1, 2))}
    >>> ElasticNet(0.5)(params, grads, 1.0)
    (np.float64(2.5), {'w': array([[ 1.5, -0.5]])})
    """

    rate: float
    l1_ratio: float = 0.0

    def __post_init__(self) -> None:
        hold_number(self, "rate", 0)
        hold_number(self, "l1_ratio", 0, nextafter(1, 2))

    @property
    def smooth(self) -> bool:
        return self.l1_ratio == 0 or self.rate == 0

    def __call__(self, params: Tree, grads: Tree, share: Any) -> tuple[Array, Tree]:
        l2, l1 = share * (self.rate * (1.0 - self.l1_ratio)), share * (self.rate * self.l1_ratio)
        flat, value = tree.flatten(grads), None
        for path, w in _weights(params).items():
            xp = array_namespace(w)
            row = xp.reshape(w, (-1,))
            # One pass over the weights, where a sum of squares would first write them down.
            here = 0.5 * l2 * xp.vecdot(row, row)
            # A step of the gradient along the weights, for which backends have twins.
            (gradient,) = sgd(flat[path], w, lr=-l2)
            if self.l1_ratio:
                here, gradient = here + l1 * of_all(xp.abs(w), "sum"), _with_l1(w, gradient, l1)
            flat[path], value = gradient, here if value is None else value + here
        return (0.0 if value is None else value), tree.unflatten(grads, flat)


@dataclass(frozen=True)
class L2(GradientTransform):
    """Adds the gradient ``rate w`` of the penalty ``rate / 2 sum w^2`` to that of every weight; rate >= 0."""

    rate: float

    def __post_init__(self) -> None:
        hold_number(self, "rate", 0)

    def transform(self, params: Tree, grads: Tree) -> Tree:
        return _on_weights(lambda w, g: g + self.rate * w, params, grads)

    def terms(self, params: Tree) -> list[Array]:
        """The penalty itself: a 0-d array for each weight, to be added up."""
        return [0.5 * self.rate * array_namespace(w).sum(w * w) for w in _weights(params).values()]


@dataclass(frozen=True)
class L1(GradientTransform):
    """Adds the gradient ``rate sign(w)`` of the penalty ``rate sum |w|`` to that of every weight; rate >= 0."""

    rate: float

    def __post_init__(self) -> None:
        hold_number(self, "rate", 0)

    def transform(self, params: Tree, grads: Tree) -> Tree:
        return _on_weights(lambda w, g: _with_l1(w, g, self.rate), params, grads)


@dataclass(frozen=True)
class WeightDecay(Around):
    """Decoupled weight decay of the weights alone: ``w <- w - lr rate w`` before another optimizer's step.

    Parameters
    ----------
    rate : float
        >= 0; in units of the optimizer's learning rate (Loshchilov and Hutter 2019).
    optimizer : Optimizer
    """

    rate: float
    optimizer: Optimizer

    def __post_init__(self) -> None:
        hold_number(self, "rate", 0)
        check_type(self, "optimizer", Optimizer)

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        shrunk = _on_weights(lambda w, own: own - (hyper["lr"] * self.rate) * own, params, params)
        return self.optimizer.update(shrunk, grads, slots, hyper)
