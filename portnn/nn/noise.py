"""Layers that disturb their input in training, so that a network cannot rely on any one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from array_api_compat import array_namespace

from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import hold_number
from portnn.errors import ConfigError
from portnn.nn.convolution import check_image
from portnn.nn.layer import Layer
from portnn.random import Stream
from portnn.shapes import checked_pullback

__all__ = ["ChannelDropout", "Dropout", "GaussianNoise"]


def _needed(rng: Stream | None, layer: Layer) -> Stream:
    if rng is None:
        raise ConfigError(f"{type(layer).__name__} draws random numbers in training: forward needs rng=")
    return rng


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets values to 0 at random in training (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        Probability to DROP a value, in [0, 1).
    scale : {"train", "predict"}, default "train"
        When the missing values are made up for: in training, what is left is divided by ``1 - rate`` (inverted
        dropout); or at inference, everything is multiplied by ``1 - rate``.
    """

    rate: float
    scale: Literal["train", "predict"] = "train"

    def __post_init__(self) -> None:
        hold_number(self, "rate", 0, 1)
        if self.scale not in ("train", "predict"):
            raise ConfigError(f'Dropout\'s scale must be "train" or "predict", not {self.scale!r}')

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, (), input_shape

    def _decided_once(self, x: Array) -> Array:
        """An array with an entry for everything that is kept or dropped as one."""
        return x

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        keep = 1.0 - self.rate
        factor: Array | float
        if train:
            xp = array_namespace(x)
            kept = xp.astype(_needed(rng, self).uniform_like(self._decided_once(x)) < keep, x.dtype)
            factor = kept / keep if self.scale == "train" else kept
        else:
            factor = 1.0 if self.scale == "train" else keep

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array, Tree]:
            return dy * factor, {}

        y = x * factor
        return y, state, checked_pullback(y, backward, type(self).__name__)


@dataclass(frozen=True)
class ChannelDropout(Dropout):
    """Dropout of whole channels of images, (n, h, w, c), whose neighbouring values are alike (Tompson et al. 2015).

    Parameters as `Dropout`.
    """

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        check_image("ChannelDropout", input_shape)
        return {}, (), input_shape

    def _decided_once(self, x: Array) -> Array:
        return x[:, :1, :1, :]


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """Adds normal noise of standard deviation ``std`` (>= 0) in training; nothing at inference."""

    std: float

    def __post_init__(self) -> None:
        hold_number(self, "std", 0)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, (), input_shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        def backward(dy: Array, input_grad: bool = True) -> tuple[Array, Tree]:
            return dy, {}

        y = x + self.std * _needed(rng, self).normal_like(x) if train else x
        return y, state, checked_pullback(y, backward, type(self).__name__)
