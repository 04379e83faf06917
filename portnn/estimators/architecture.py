"""From the parameters of an estimator to a network, with scikit-learn's first weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnn import nn
from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import check_number
from portnn.errors import ConfigError
from portnn.random import Stream

__all__ = ["Activation", "affine_places", "build_layer", "draw_first_parameters"]

_NAMED = {"identity": nn.Identity(), "logistic": nn.Sigmoid(), "tanh": nn.Tanh(), "relu": nn.ReLU()}


@dataclass(frozen=True)
class Activation(nn.Layer):
    """A function of the user's as a layer: ``function(x) -> (y, backward)``, ``backward(dy) -> dx``, by elements."""

    function: Callable[[Array], tuple[Array, Backward]]

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, (), input_shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, pullback = self.function(x)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            return (pullback(dy) if input_grad else None), {}

        return y, state, backward


def build_layer(sizes: Sequence[int], outputs: int, activation: Any, dropout: Any, batch_norm: bool) -> nn.Sequential:
    """Hidden layers of these sizes, each affine, normalised, activated, dropped out; then the affine output.

    Parameters
    ----------
    sizes : sequence of int
    outputs : int
    activation, dropout : one for all hidden layers, or a sequence with one for each
    batch_norm : bool

    Raises
    ------
    ConfigError
        If there are not as many activations or rates as layers, or one of them is none.
    """
    layers: list[nn.Layer] = []
    activations, rates = _each("activation", activation, len(sizes)), _each("dropout", dropout, len(sizes))
    for units, own, rate in zip(sizes, activations, rates, strict=True):
        layers.append(_affine(units))
        if batch_norm:
            layers.append(nn.BatchNorm())
        layers.append(_as_layer(own))
        if check_number("dropout", rate, 0, 1) > 0:
            layers.append(nn.Dropout(rate))
    return nn.Sequential([*layers, _affine(outputs)])


def _each(name: str, value: Any, count: int) -> list[Any]:
    """``count`` values of a parameter that takes one for all hidden layers, or a sequence with one for each."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return [value] * count
    if len(value) != count:
        raise ConfigError(f"{name} has {len(value)} entries, for {count} hidden layers")
    return list(value)


def _affine(units: int) -> nn.Affine:
    return nn.Affine(units, weight_init=nn.Zeros())  # until `draw_first_parameters`


def _as_layer(activation: Any) -> nn.Layer:
    if isinstance(activation, str) and activation in _NAMED:
        return _NAMED[activation]
    if isinstance(activation, nn.Layer):
        return activation
    if callable(activation) and not isinstance(activation, type):
        return Activation(activation)
    hint = f"; write {activation.__name__}()" if isinstance(activation, type) else ""
    raise ConfigError(
        f"an activation is one of {', '.join(_NAMED)}, a layer such as nn.GELU(), or a function x -> (y, backward), "
        f"not {activation!r}{hint}"
    )


def affine_places(layer: nn.Layer) -> list[int]:
    """Where the affine layers stand in a `Sequential`."""
    return [i for i, child in enumerate(layer.children()) if isinstance(child, nn.Affine)]


def draw_first_parameters(
    params: Tree, places: Iterable[int], activation: Any, random_state: np.random.RandomState
) -> Tree:
    """Parameters with new weights and biases, uniform after Glorot and Bengio (2010), drawn as scikit-learn does.

    The same random state therefore gives the same first parameters there and here, on every backend.
    """
    entries: list[Tree] = list(params)
    places = list(places)
    activations = _each("activation", activation, len(places) - 1)
    # The output layer goes by the activation before it.
    for place, own in zip(places, [*activations, (activations or [activation])[-1]], strict=True):
        fan_in, fan_out = params[place]["w"].shape
        factor = 2.0 if isinstance(own, nn.Sigmoid) or (isinstance(own, str) and own == "logistic") else 6.0
        bound = math.sqrt(factor / (fan_in + fan_out))
        w: NDArray[np.float64] = random_state.uniform(-bound, bound, (fan_in, fan_out))
        entries[place] = {"w": w, "b": random_state.uniform(-bound, bound, fan_out)}
    return tuple(entries)
