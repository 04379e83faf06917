"""Regularizers: penalties on the parameters that are added to the loss; see `portnn.Trainer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import nextafter
from typing import Any

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import hold_number
from portnn.optim.descent import sgd

__all__ = ["ElasticNet", "Regularizer"]


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

    (Zou and Hastie 2005.) Biases and the parameters of a normalisation are left alone. The derivative of ``|w|`` at 0
    is taken as 0.

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
        weights = {path: w for path, w in tree.flatten(params).items() if path.rpartition(".")[2] == "w"}
        flat, value = tree.flatten(grads), None
        for path, w in weights.items():
            xp = array_namespace(w)
            row = xp.reshape(w, (-1,))
            # One pass over the weights, where a sum of squares would first write them down.
            here = 0.5 * l2 * xp.vecdot(row, row)
            # A step of the gradient along the weights, for which backends have twins.
            (gradient,) = sgd(flat[path], w, lr=-l2)
            if self.l1_ratio:
                here, gradient = here + l1 * xp.sum(xp.abs(w)), gradient + l1 * xp.sign(w)
            flat[path], value = gradient, here if value is None else value + here
        return (0.0 if value is None else value), tree.unflatten(grads, flat)
