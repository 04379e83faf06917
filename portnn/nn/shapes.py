"""Layers that put the same numbers into another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from portnn import functional
from portnn._typing import Shape
from portnn.checks import check_count
from portnn.errors import ConfigError, ShapeError
from portnn.nn.layer import Parameterless

__all__ = ["ChannelsLast", "Flatten", "Reshape"]


@dataclass(frozen=True)
class Flatten(Parameterless):
    """All axes of an example in one: (n, a, b, ...) to (n, a b ...), the last axis running fastest."""

    function = staticmethod(functional.flatten)

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Reshape(Parameterless):
    """Examples of another shape: (n, ...) to ``(n, *shape)``. ``Reshape((28, 28, 1))`` gives grey images their channel.

    Parameters
    ----------
    shape : tuple of int
        Of one example.
    """

    shape: Shape

    function = staticmethod(functional.reshape)

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple | list):
            raise ConfigError(f"Reshape's shape must be a tuple of ints, not {self.shape!r}")
        object.__setattr__(self, "shape", tuple(check_count("each length in Reshape's shape", n) for n in self.shape))

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape) != math.prod(self.shape):
            raise ShapeError(
                f"examples of shape {input_shape} hold {math.prod(input_shape)} numbers, those of shape {self.shape} "
                f"{math.prod(self.shape)}"
            )
        return self.shape


@dataclass(frozen=True)
class ChannelsLast(Parameterless):
    """Takes images with their channels first, (n, c, h, w), to (n, h, w, c), the order of all other layers here."""

    function = staticmethod(functional.channels_last)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(f"ChannelsLast takes images (c, h, w), not examples of shape {input_shape}")
        return (*input_shape[1:], input_shape[0])
