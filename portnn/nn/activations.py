"""Activation layers: each names its function; what they share stands in `Parameterless`."""

from dataclasses import dataclass

from portnn import functional
from portnn.nn.layer import Parameterless

__all__ = ["ReLU", "Sigmoid", "Tanh"]


@dataclass(frozen=True)
class ReLU(Parameterless):
    """``max(x, 0)``, elementwise: `functional.relu`."""

    function = staticmethod(functional.relu)


@dataclass(frozen=True)
class Sigmoid(Parameterless):
    """``1 / (1 + exp(-x))``, elementwise: `functional.sigmoid`."""

    function = staticmethod(functional.sigmoid)


@dataclass(frozen=True)
class Tanh(Parameterless):
    """The hyperbolic tangent, elementwise: `functional.tanh`."""

    function = staticmethod(functional.tanh)
