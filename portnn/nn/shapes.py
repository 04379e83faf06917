"""Rows of several axes to rows of one."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from portnn._typing import Array, Backward, Shape, Tree
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["Flatten"]


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes of an example in one: (n, a, b, ...) to (n, a b ...), the last axis running fastest."""

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, (), (math.prod(input_shape),)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        xp = array_namespace(x)
        shape = x.shape

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array, Tree]:
            return xp.reshape(dy, shape), {}

        return xp.reshape(x, (shape[0], math.prod(shape[1:]))), state, backward
