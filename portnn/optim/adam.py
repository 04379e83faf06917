"""Adam and its relatives.

Each rule is written for one array with the names of its paper, and wrapped as an optimizer below it; see `descent`.
``bias1 = 1 - beta1^t`` and ``bias2 = 1 - beta2^t`` correct the running averages, which start at 0.
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

__all__ = ["AMSGrad", "Adam", "AdamW", "Adamax", "NAdam", "adam", "adamax", "adamw", "amsgrad", "nadam"]


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
    """Algorithm 1 of Kingma and Ba."""
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
    lr : float or Schedule, default 0.001
        Learning rate, > 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the running averages of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the root, >= 0.
    """

    lr: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    rule: ClassVar[Any] = staticmethod(adam)
    slot_count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "beta1", 0, 1)
        hold_number(self, "beta2", 0, 1)
        hold_number(self, "eps", 0)

    def hyper(self, step: int) -> dict[str, float]:
        # In double precision, on the host: in float32, 1 - beta2 of the first step would be wrong by 5e-5.
        return super().hyper(step) | {"bias1": 1.0 - self.beta1**step, "bias2": 1.0 - self.beta2**step}


@update_rule
def amsgrad(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    v_max: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    bias1: float,
    bias2: float,
) -> tuple[Array, Array, Array, Array]:
    """`adam` with the largest ``v`` so far in the place of ``v``."""
    xp = array_namespace(p)
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    v_max = xp.maximum(v_max, v)
    return p - lr * (m / bias1) / (xp.sqrt(v_max / bias2) + eps), m, v, v_max


@dataclass(frozen=True)
class AMSGrad(Adam):
    """`Adam` whose rate never grows again (Reddi et al. 2018), with bias correction, as in torch."""

    rule = staticmethod(amsgrad)
    slot_count = 3


@update_rule
def adamax(
    p: Array,
    g: Array,
    m: Array,
    u: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    bias1: float,
    bias2: float,
) -> tuple[Array, Array, Array]:
    """Algorithm 2 of Kingma and Ba: ``u <- max(beta2 u, |g| + eps)``; ``bias2`` is not needed."""
    xp = array_namespace(p)
    m = beta1 * m + (1.0 - beta1) * g
    u = xp.maximum(beta2 * u, xp.abs(g) + eps)
    return p - lr * (m / bias1) / u, m, u


@dataclass(frozen=True)
class Adamax(Adam):
    """`Adam` with the largest gradient in the place of their mean square (Kingma and Ba 2015, algorithm 2)."""

    lr: float | Schedule = 0.002

    rule = staticmethod(adamax)
    slot_count = 2


@update_rule
def adamw(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    bias1: float,
    bias2: float,
) -> tuple[Array, Array, Array]:
    """`adam` after ``p <- p - lr weight_decay p``."""
    shrunk = p - (lr * weight_decay) * p
    stepped: tuple[Array, Array, Array] = adam.portable(
        shrunk, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, bias1=bias1, bias2=bias2
    )
    return stepped


@dataclass(frozen=True)
class AdamW(Adam):
    """`Adam` with decoupled weight decay (Loshchilov and Hutter 2019), of all parameters, as in torch.

    Parameters
    ----------
    lr, beta1, beta2, eps
        As in `Adam`.
    weight_decay : float, default 0.01
        Share of a parameter, in units of lr, that each step takes off; >= 0.
    """

    weight_decay: float = 0.01

    rule = staticmethod(adamw)

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "weight_decay", 0)


@update_rule
def nadam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    momentum_decay: float,
    bias1: float,
    bias2: float,
    now: float,
    ahead: float,
) -> tuple[Array, Array, Array]:
    """`adam` whose step looks ahead: ``now`` is the weight of the gradient, ``ahead`` that of the new average."""
    xp = array_namespace(p)
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * (g * g)
    return p - lr * (now * g + ahead * m) / (xp.sqrt(v / bias2) + eps), m, v


@dataclass(frozen=True)
class NAdam(Adam):
    """`Adam` with Nesterov's momentum (Dozat 2016), whose decay warms up: ``mu_t = beta1 (1 - 0.96^(t psi) / 2)``.

    As in torch, with ``psi = momentum_decay``.

    Parameters
    ----------
    lr : float or Schedule, default 0.002
    beta1, beta2, eps
        As in `Adam`.
    momentum_decay : float, default 0.004
        Speed of the warm-up, >= 0.
    """

    lr: float | Schedule = 0.002
    momentum_decay: float = 0.004

    rule = staticmethod(nadam)

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "momentum_decay", 0)

    def hyper(self, step: int) -> dict[str, float]:
        mu, mu_next = (self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1))
        product = _product_of_mu(self.beta1, self.momentum_decay, step)
        return super().hyper(step) | {
            "now": (1.0 - mu) / (1.0 - product),
            "ahead": mu_next / (1.0 - product * mu_next),
        }


#: The last product for each pair of constants, so that the next step multiplies once.
_last_product: dict[tuple[float, float], tuple[int, float]] = {}


def _product_of_mu(beta1: float, momentum_decay: float, step: int) -> float:
    done, product = _last_product.get((beta1, momentum_decay), (0, 1.0))
    if done > step:
        done, product = 0, 1.0
    for t in range(done + 1, step + 1):
        product *= beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
    _last_product[beta1, momentum_decay] = (step, product)
    return product
