"""Activation layers: each names its function of `portnn.functional`; what they share stands in `Parameterless`."""

import math
from dataclasses import dataclass

from portnn import functional
from portnn.checks import hold_number
from portnn.nn.layer import Parameterless

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "GELUTanh",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
]


@dataclass(frozen=True)
class Identity(Parameterless):
    """``y = x``."""

    function = staticmethod(functional.identity)


@dataclass(frozen=True)
class Step(Parameterless):
    """1 where ``x > 0``, else 0; for prediction only: its backward raises GradientError."""

    function = staticmethod(functional.step)


@dataclass(frozen=True)
class ReLU(Parameterless):
    """``max(x, 0)``."""

    function = staticmethod(functional.relu)


@dataclass(frozen=True)
class LeakyReLU(Parameterless):
    """``x`` where ``x > 0``, else ``slope x``.

    Parameters
    ----------
    slope : float, default 0.1
        In [0, 1).
    """

    slope: float = 0.1

    function = staticmethod(functional.leaky_relu)

    def __post_init__(self) -> None:
        hold_number(self, "slope", 0, 1)


@dataclass(frozen=True)
class ELU(Parameterless):
    """``x`` where ``x > 0``, else ``alpha (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float, default 1.0
        > 0.
    """

    alpha: float = 1.0

    function = staticmethod(functional.elu)

    def __post_init__(self) -> None:
        hold_number(self, "alpha", 0, math.inf, open_low=True)


@dataclass(frozen=True)
class SELU(Parameterless):
    """The self-normalising `ELU`; wants LeCun-normal weights."""

    function = staticmethod(functional.selu)


@dataclass(frozen=True)
class Sigmoid(Parameterless):
    """``1 / (1 + exp(-x))``."""

    function = staticmethod(functional.sigmoid)


@dataclass(frozen=True)
class HardSigmoid(Parameterless):
    """``x / 6 + 1/2``, held within 0 and 1."""

    function = staticmethod(functional.hard_sigmoid)


@dataclass(frozen=True)
class Tanh(Parameterless):
    """The hyperbolic tangent."""

    function = staticmethod(functional.tanh)


@dataclass(frozen=True)
class Softplus(Parameterless):
    """``log(1 + exp(x))``."""

    function = staticmethod(functional.softplus)


@dataclass(frozen=True)
class SiLU(Parameterless):
    """``x sigmoid(x)``, also called swish."""

    function = staticmethod(functional.silu)


@dataclass(frozen=True)
class HardSwish(Parameterless):
    """``x hard_sigmoid(x)``."""

    function = staticmethod(functional.hard_swish)


@dataclass(frozen=True)
class GELU(Parameterless):
    """``x Phi(x)``, with the exact distribution function of the normal law."""

    function = staticmethod(functional.gelu)


@dataclass(frozen=True)
class GELUTanh(Parameterless):
    """``x Phi(x)``, with Phi approximated by tanh."""

    function = staticmethod(functional.gelu_tanh)


@dataclass(frozen=True)
class Softmax(Parameterless):
    """Probabilities over the last axis. `losses.SoftmaxCrossEntropy` takes the scores before it, not these."""

    function = staticmethod(functional.softmax)


@dataclass(frozen=True)
class LogSoftmax(Parameterless):
    """Logarithms of probabilities over the last axis."""

    function = staticmethod(functional.log_softmax)
