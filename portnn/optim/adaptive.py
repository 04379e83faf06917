"""Rules with a learning rate of its own for every parameter, from running averages of its gradients.

Each rule is written for one array with the names of its paper, and wrapped as an optimizer below it; see `descent`.
Epsilon is added to a root, never inside it, but for Adadelta, whose paper has it inside; all as in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.checks import hold_number
from portnn.kernels import update_rule
from portnn.optim.optimizer import UpdateRule
from portnn.optim.schedules import Schedule

__all__ = ["Adadelta", "Adagrad", "CentredRMSProp", "RMSProp", "adadelta", "adagrad", "centred_rmsprop", "rmsprop"]


@update_rule
def adagrad(p: Array, g: Array, h: Array, *, lr: float, eps: float) -> tuple[Array, Array]:
    """``h <- h + g^2``, then ``p <- p - lr g / (sqrt(h) + eps)``."""
    xp = array_namespace(p)
    h = h + g * g
    return p - lr * g / (xp.sqrt(h) + eps), h


@dataclass(frozen=True)
class Adagrad(UpdateRule):
    """Divides by the root of the sum of all squared gradients (Duchi et al. 2011); the sum starts at 0.

    Parameters
    ----------
    lr : float or Schedule, default 0.01
        Learning rate, > 0.
    eps : float, default 1e-10
        Added to the root, >= 0.
    """

    lr: float | Schedule = 0.01
    eps: float = 1e-10

    rule = staticmethod(adagrad)
    slot_count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "eps", 0)


@update_rule
def adadelta(
    p: Array, g: Array, h: Array, s: Array, *, lr: float, rho: float, eps: float
) -> tuple[Array, Array, Array]:
    """Algorithm 1 of Zeiler: ``h`` averages the squared gradients, ``s`` the squared updates."""
    xp = array_namespace(p)
    h = rho * h + (1.0 - rho) * (g * g)
    update = xp.sqrt(s + eps) / xp.sqrt(h + eps) * g
    s = rho * s + (1.0 - rho) * (update * update)
    return p - lr * update, h, s


@dataclass(frozen=True)
class Adadelta(UpdateRule):
    """Updates in the units of the parameter (Zeiler 2012, algorithm 1).

    Parameters
    ----------
    lr : float or Schedule, default 1.0
        Factor of the paper's update, > 0.
    rho : float, default 0.9
        Decay of both running averages, in [0, 1).
    eps : float, default 1e-6
        Added inside both roots, >= 0.
    """

    lr: float | Schedule = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    rule = staticmethod(adadelta)
    slot_count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "rho", 0, 1)
        hold_number(self, "eps", 0)


@update_rule
def rmsprop(p: Array, g: Array, v: Array, *, lr: float, decay: float, eps: float) -> tuple[Array, Array]:
    """``v <- decay v + (1 - decay) g^2``, then ``p <- p - lr g / (sqrt(v) + eps)``."""
    xp = array_namespace(p)
    v = decay * v + (1.0 - decay) * (g * g)
    return p - lr * g / (xp.sqrt(v) + eps), v


@dataclass(frozen=True)
class RMSProp(UpdateRule):
    """Divides by the root of a running average of the squared gradients (Tieleman and Hinton 2012).

    Parameters
    ----------
    lr : float or Schedule, default 0.01
        Learning rate, > 0.
    decay : float, default 0.99
        Of the running average, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    """

    lr: float | Schedule = 0.01
    decay: float = 0.99
    eps: float = 1e-8

    rule: ClassVar[Any] = staticmethod(rmsprop)
    slot_count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "decay", 0, 1)
        hold_number(self, "eps", 0)


@update_rule
def centred_rmsprop(
    p: Array, g: Array, s: Array, m: Array, *, lr: float, decay: float, eps: float
) -> tuple[Array, Array, Array]:
    """`rmsprop` with a running variance ``s`` of the gradients, around their running mean ``m``, for the mean square.

    ``s <- decay (s + (1 - decay) (g - m)^2)``, then ``m <- m + (1 - decay) (g - m)``. This ``s`` is the difference
    ``v - m^2`` of the running means of ``g^2`` and ``g``, of which rounding leaves nothing where g hardly changes.
    """
    xp = array_namespace(p)
    apart = g - m
    s = decay * (s + (1.0 - decay) * (apart * apart))
    m = m + (1.0 - decay) * apart
    return p - lr * g / (xp.sqrt(s) + eps), s, m


@dataclass(frozen=True)
class CentredRMSProp(RMSProp):
    """`RMSProp` that divides by the standard deviation of the gradients (Graves 2013, without its momentum)."""

    rule = staticmethod(centred_rmsprop)
    slot_count = 2

    @property
    def kind(self) -> object:
        # Version 0.1 kept the mean of the squares in the place of the variance: its slots would be misread.
        return CentredRMSProp, "variance"
