"""Initializers: the first values of a parameter, drawn on the host and therefore equal on every backend.

The fans of a weight of shape (..., in, out), where the leading axes are those of a convolution kernel, are
``fan_in = in * product(leading)`` and ``fan_out = out * product(leading)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from portnn._typing import Array, Shape
from portnn.checks import hold_number
from portnn.errors import ConfigError, ShapeError
from portnn.random import Stream

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "Normal",
    "Orthogonal",
    "Uniform",
    "Zeros",
]


class Initializer(ABC):
    """A rule for first values; a frozen dataclass.

    To set first values by hand, put arrays into the network, of the shapes that are there; they are converted to its
    dtype and device (`portnn.nn.Network.settle`).

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import nn
    >>> net = nn.Network(nn.Sequential([nn.Affine(3, weight_init=nn.Normal(std=0.1)), nn.ReLU()]), 2, rng=0)
    >>> net.params[0]["w"] = [[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]  # (inputs, outputs)
    >>> net.predict([[1.0, 2.0]])
    array([[1., 2., 6.]], dtype=float32)
    """

    @abstractmethod
    def __call__(self, rng: Stream, shape: Shape) -> Array:
        """First values: a float64 host array of the given shape."""


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2:
        raise ShapeError(f"He and Glorot initializers need a weight of at least 2 axes, not of shape {shape}")
    if 0 in shape:
        raise ShapeError(f"a weight of shape {shape} has no entries: every axis must be at least 1 long")
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@dataclass(frozen=True)
class HeNormal(Initializer):
    """Normal with variance ``2 / fan_in``, for layers that a ReLU follows (He et al. 2015, eq. 10)."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        fan_in, _ = _fans(shape)
        return rng.normal(shape, std=math.sqrt(2.0 / fan_in))


@dataclass(frozen=True)
class HeUniform(Initializer):
    """Uniform in ``+-sqrt(6 / fan_in)``: the variance of `HeNormal`."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        fan_in, _ = _fans(shape)
        bound = math.sqrt(6.0 / fan_in)
        return rng.uniform(shape, -bound, bound)


@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Normal with variance ``2 / (fan_in + fan_out)``, for tanh and linear layers (Glorot and Bengio 2010, eq. 12)."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        return rng.normal(shape, std=math.sqrt(2.0 / sum(_fans(shape))))


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Uniform in ``+-sqrt(6 / (fan_in + fan_out))``: the variance of `GlorotNormal` (ibid., eq. 16)."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        bound = math.sqrt(6.0 / sum(_fans(shape)))
        return rng.uniform(shape, -bound, bound)


@dataclass(frozen=True)
class LeCunNormal(Initializer):
    """Normal with variance ``1 / fan_in`` (LeCun et al. 1998, eq. 16), for SELU and for inputs of variance 1."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        fan_in, _ = _fans(shape)
        return rng.normal(shape, std=math.sqrt(1.0 / fan_in))


@dataclass(frozen=True)
class LeCunUniform(Initializer):
    """Uniform in ``+-sqrt(3 / fan_in)``: the variance of `LeCunNormal`."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        fan_in, _ = _fans(shape)
        bound = math.sqrt(3.0 / fan_in)
        return rng.uniform(shape, -bound, bound)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Columns (or rows, where there are fewer) that are orthogonal and of length ``gain`` (Saxe et al. 2014).

    The axes of the weight but the last are taken together. Made on the host with LAPACK: equal on every backend, but
    not bit for bit from one LAPACK to another.

    Parameters
    ----------
    gain : float, default 1.0
        > 0.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        hold_number(self, "gain", 0, open_low=True)

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        _fans(shape)
        return self.gain * rng.orthogonal(shape)


@dataclass(frozen=True, kw_only=True)
class Normal(Initializer):
    """Normal with the given mean and standard deviation (``std >= 0``), which are given by name: ``Normal(std=0.1)``.

    Parameters
    ----------
    mean : float, default 0.0
    std : float, default 0.01
        >= 0.
    """

    mean: float = 0.0
    std: float = 0.01

    def __post_init__(self) -> None:
        hold_number(self, "mean", -math.inf, open_low=True)
        hold_number(self, "std", 0)

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        return rng.normal(shape, self.mean, self.std)


@dataclass(frozen=True, kw_only=True)
class Uniform(Initializer):
    """Uniform in ``[low, high)``, which are given by name: ``Uniform(low=-0.1, high=0.1)``.

    Parameters
    ----------
    low, high : float, default -0.05 and 0.05
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        hold_number(self, "low", -math.inf, open_low=True)
        hold_number(self, "high", -math.inf, open_low=True)
        if self.low > self.high:
            raise ConfigError(f"Uniform needs low <= high, not {self.low} and {self.high}")

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        return rng.uniform(shape, self.low, self.high)


@dataclass(frozen=True)
class Constant(Initializer):
    """Every value the same."""

    value: float

    def __post_init__(self) -> None:
        hold_number(self, "value", -math.inf, open_low=True)

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        return rng.full(shape, self.value)


@dataclass(frozen=True)
class Zeros(Initializer):
    """Every value 0: the usual first bias."""

    def __call__(self, rng: Stream, shape: Shape) -> Array:
        return rng.full(shape, 0.0)
