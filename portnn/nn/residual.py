"""Layers with a way around them."""

from __future__ import annotations

from dataclasses import dataclass

from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import check_type
from portnn.errors import ShapeError
from portnn.nn.activations import Identity
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["Residual"]


@dataclass(frozen=True)
class Residual(Layer):
    """A layer and a shortcut around it: ``y = layer(x) + shortcut(x)`` (He et al. 2016).

    Parameters
    ----------
    layer : Layer
        Usually a `Sequential`.
    shortcut : Layer, default Identity()
        Where ``layer`` changes the shape, something like ``Conv2D(channels, kernel=1, stride=2)``.
    """

    layer: Layer
    shortcut: Layer = Identity()

    def __post_init__(self) -> None:
        check_type(self, "layer", Layer)
        check_type(self, "shortcut", Layer)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        params, state, shape = self.layer.init(rng.child("layer"), input_shape)
        around_params, around_state, around_shape = self.shortcut.init(rng.child("shortcut"), input_shape)
        if shape != around_shape:
            raise ShapeError(
                f"the layer makes {shape} of {input_shape}, and the shortcut {around_shape}: they cannot be added"
            )
        return {"layer": params, "shortcut": around_params}, {"layer": state, "shortcut": around_state}, shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        ways, values, states, pullbacks = {"layer": self.layer, "shortcut": self.shortcut}, [], {}, {}
        for name, layer in ways.items():
            own = None if rng is None else rng.child(name)
            y, states[name], pullbacks[name] = layer.forward(params[name], state[name], x, train=train, rng=own)
            values.append(y)

        if values[0].shape != values[1].shape:
            made, around = (tuple(y.shape) for y in values)
            raise ShapeError(f"the layer of Residual makes {made}, its shortcut {around}: they cannot be added")

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            dx, grads = zip(*(pullbacks[name](dy, input_grad) for name in ways), strict=True)
            return (dx[0] + dx[1] if input_grad else None), dict(zip(ways, grads, strict=True))

        return values[0] + values[1], states, backward
