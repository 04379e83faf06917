"""Update rules: each is written for one array with the names of its paper, and wrapped as an optimizer below it.

``p`` is a parameter, ``g`` its gradient; hyper-parameters are Python floats (or 0-d values of a compiled step).
"""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.checks import check_number
from portnn.kernels import update_rule
from portnn.optim.optimizer import UpdateRule

__all__ = ["SGD", "Adam", "Momentum", "adam", "momentum", "sgd"]


@update_rule
def sgd(p: Array, g: Array, *, lr: float) -> tuple[Array]:
    """``p - lr g``."""
    return (p - lr * g,)


@dataclass(frozen=True)
class SGD(UpdateRule):
    """Gradient descent: ``p <- p - lr g``.

    Parameters
    ----------
    lr : float, default 0.01
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

    lr: float = 0.01

    rule = staticmethod(sgd)
    slot_count = 0

    def __post_init__(self) -> None:
        check_number("lr", self.lr, 0, open_low=True)

    def hyper(self, step: int) -> dict[str, float]:
        return {"lr": float(self.lr)}


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
    lr : float, default 0.01
        Learning rate, > 0.
    alpha : float, default 0.9
        Share of the velocity that is kept, in [0, 1).
    """

    lr: float = 0.01
    alpha: float = 0.9

    rule = staticmethod(momentum)
    slot_count = 1

    def __post_init__(self) -> None:
        check_number("lr", self.lr, 0, open_low=True)
        check_number("alpha", self.alpha, 0, 1)

    def hyper(self, step: int) -> dict[str, float]:
        return {"lr": float(self.lr)}


@update_rule
def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    bias1: float,
    bias2: float,
) -> tuple[Array, Array, Array]:
    """Algorithm 1 of Kingma and Ba, with ``bias1 = 1 - beta1^t`` and ``bias2 = 1 - beta2^t``."""
    xp = array_namespace(p)
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    m_hat, v_hat = m / bias1, v / bias2
    return p - lr * m_hat / (xp.sqrt(v_hat) + eps), m, v


@dataclass(frozen=True)
class Adam(UpdateRule):
    """Adaptive moments (Kingma and Ba 2015, algorithm 1), epsilon outside the bias-corrected root, as in torch.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate, > 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the running averages of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    rule = staticmethod(adam)
    slot_count = 2

    def __post_init__(self) -> None:
        check_number("lr", self.lr, 0, open_low=True)
        check_number("beta1", self.beta1, 0, 1)
        check_number("beta2", self.beta2, 0, 1)
        check_number("eps", self.eps, 0)

    def hyper(self, step: int) -> dict[str, float]:
        return {
            "lr": float(self.lr),
            "bias1": 1.0 - self.beta1**step,
            "bias2": 1.0 - self.beta2**step,
        }
