"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portnn import tree
from portnn._typing import Array, Backward, Shape, Tree
from portnn.errors import ConfigError, ShapeError
from portnn.nn.layer import Layer
from portnn.random import Stream
from portnn.shapes import checked_pullback

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential(Layer):
    """Layers one after the other; parameters and state are tuples with an entry for each layer.

    Parameters
    ----------
    layers : sequence of Layer

    Examples
    --------
    >>> from portnn import nn
    >>> mlp = nn.Sequential([nn.Flatten(), nn.Affine(512), nn.ReLU(), nn.Affine(10)])
    """

    layers: Sequence[Layer]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ConfigError(f"entry {i} of Sequential is no layer, but of type {type(layer).__name__}")

    def children(self) -> tuple[Layer, ...]:
        return tuple(self.layers)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        params, states, shape = [], [], input_shape
        for i, layer in enumerate(self.layers):
            try:
                p, s, shape = layer.init(rng.child(i), shape)
            except ShapeError as error:
                raise ShapeError(f"layer {i}: {error}") from None
            params.append(p)
            states.append(s)
        return tuple(params), tuple(states), shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, new_states, pullbacks = x, [], []
        for i, (layer, p, s) in enumerate(zip(self.layers, params, state, strict=True)):
            y, s_new, pullback = layer.forward(p, s, y, train=train, rng=None if rng is None else rng.child(i))
            new_states.append(s_new)
            pullbacks.append(pullback)
        # Nothing is to be trained before this layer, so the way back may end here.
        first = next((i for i, p in enumerate(params) if tree.leaves(p)), len(params))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            grads = list(params)  # what is skipped below has no leaves: it is its own gradient
            stop = 0 if input_grad else first
            for i in range(len(pullbacks) - 1, stop - 1, -1):
                dy, grads[i] = pullbacks[i](dy, input_grad=input_grad or i > stop)
            return (dy if input_grad else None), tuple(grads)

        # Of some layers, the last one looks at dy.
        return y, tuple(new_states), backward if pullbacks else checked_pullback(y, backward, "Sequential")

    def apply(self, params: Tree, state: Tree, x: Array) -> Array:
        # Layer by layer, so that what a layer keeps for its backward is dropped before the next one runs.
        for layer, p, s in zip(self.layers, params, state, strict=True):
            x = layer.apply(p, s, x)
        return x
