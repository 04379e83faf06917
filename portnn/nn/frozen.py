"""Layers that are not trained: what transfer learning keeps."""

from __future__ import annotations

from dataclasses import dataclass

from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import check_type
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["Frozen"]


@dataclass(frozen=True)
class Frozen(Layer):
    """A layer as it is at inference, also in training: nothing of it changes.

    Its parameters are state here, ``{"params": ..., "state": ...}``, so there is nothing to train; dropout is off and
    running statistics stay. The way back ends at frozen layers that come first, which saves its time.

    Parameters
    ----------
    layer : Layer

    Examples
    --------
    The first layers of a trained network, under a new last one:

    >>> from portnn import nn
    >>> old = nn.Network(nn.Sequential([nn.Affine(16), nn.Tanh(), nn.Affine(10)]), 8, rng=0)
    >>> new = nn.Network(nn.Sequential([*map(nn.Frozen, old.layer.layers[:2]), nn.Affine(3)]), 8, rng=1)
    >>> new.state = (*map(nn.Frozen.hold, old.params[:2], old.state[:2]), new.state[2])
    >>> new.parameter_count  # 16 x 3 weights and 3 biases
    51
    """

    layer: Layer

    def __post_init__(self) -> None:
        check_type(self, "layer", Layer)

    @staticmethod
    def hold(params: Tree, state: Tree) -> Tree:
        """The state of a frozen layer with these parameters and this state."""
        return {"params": params, "state": state}

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        params, state, output_shape = self.layer.init(rng, input_shape)
        return {}, self.hold(params, state), output_shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, _, pullback = self.layer.forward(state["params"], state["state"], x)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            return (pullback(dy)[0] if input_grad else None), {}

        return y, state, backward

    def apply(self, params: Tree, state: Tree, x: Array) -> Array:
        return self.layer.apply(state["params"], state["state"], x)
