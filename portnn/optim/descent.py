"""Gradient descent, with and without momentum.

Each rule is written for one array with the names of its paper, and wrapped as an optimizer below it: ``p`` is a
parameter, ``g`` its gradient; hyper-parameters are Python floats (or 0-d values of a compiled step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from portnn._typing import Array
from portnn.checks import hold_number
from portnn.kernels import update_rule
from portnn.optim.optimizer import UpdateRule
from portnn.optim.schedules import Schedule

__all__ = ["SGD", "Momentum", "Nesterov", "momentum", "nesterov", "sgd"]


@update_rule
def sgd(p: Array, g: Array, *, lr: float) -> tuple[Array]:
    """``p <- p - lr g``."""
    return (p - lr * g,)


@dataclass(frozen=True)
class SGD(UpdateRule):
    """Gradient descent: ``p <- p - lr g``.

    Parameters
    ----------
    lr : float or Schedule, default 0.01
        Learning rate, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> opt = SGD(lr=0.5)
    >>> params = {"w": np.asarray([1.0, 2.0])}
    >>> params, opt_state = opt.step(params, {"w": np.asarray([1.0, -1.0])}, opt.init(params))
    >>> params
    {'w': array([0.5, 2.5])}
    """

    lr: float | Schedule = 0.01

    rule = staticmethod(sgd)
    slot_count = 0


@update_rule
def momentum(p: Array, g: Array, v: Array, *, lr: float, alpha: float) -> tuple[Array, Array]:
    """``v <- alpha v - lr g``, then ``p <- p + v``."""
    v = alpha * v - lr * g
    return p + v, v


@dataclass(frozen=True)
class Momentum(UpdateRule):
    """Gradient descent with momentum: ``v <- alpha v - lr g``, ``p <- p + v`` (Polyak 1964).

    The learning rate is inside the velocity, so that a new rate does not change the way already gathered. torch's
    ``SGD(momentum=alpha)`` keeps it outside; at a constant rate the two give the same parameters.

    Parameters
    ----------
    lr : float or Schedule, default 0.01
        Learning rate, > 0.
    alpha : float, default 0.9
        Share of the velocity that is kept, in [0, 1).
    """

    lr: float | Schedule = 0.01
    alpha: float = 0.9

    rule: ClassVar[Any] = staticmethod(momentum)
    slot_count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "alpha", 0, 1)


@update_rule
def nesterov(p: Array, g: Array, v: Array, *, lr: float, alpha: float) -> tuple[Array, Array]:
    """``v <- alpha v - lr g``, then ``p <- p + alpha v - lr g``."""
    v = alpha * v - lr * g
    return p + alpha * v - lr * g, v


@dataclass(frozen=True)
class Nesterov(Momentum):
    """`Momentum` with the gradient taken ahead (Nesterov 1983), for the point ahead, as Sutskever et al. 2013 have it.

    ``v <- alpha v - lr g``, ``p <- p + alpha v - lr g``, as torch's ``SGD(momentum=alpha, nesterov=True)`` at a
    constant rate.
    """

    rule = staticmethod(nesterov)
