"""What a layer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from portnn._typing import Array, Backward, Shape, Tree
from portnn.random import Stream

__all__ = ["Layer", "Parameterless"]


class Layer(ABC):
    """A differentiable function with parameters: a frozen dataclass whose fields say how it is built.

    A layer holds no arrays. Parameters (trained) and state (not trained, such as running statistics) are trees that
    the caller keeps; a layer without parameters has ``{}``, one without state ``()``. Shapes leave out the
    batch axis, which comes first.
    """

    @abstractmethod
    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        """First parameters and state, as float64 host arrays, and the shape of the output.

        Raises ShapeError if the layer cannot take rows of ``input_shape``.
        """

    @abstractmethod
    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        """The output for a batch, the new state and the pullback.

        Returns
        -------
        y : array, shape ``(n, *output_shape)``
        state : tree
            Of the structure of the given state.
        backward : callable
            ``backward(dy, input_grad=True) -> (dx, grads)``, grads of the structure of params; ``dx`` may be None
            where ``input_grad`` is False, which saves its computation.
        """

    def apply(self, params: Tree, state: Tree, x: Array) -> Array:
        """The output for a batch at inference."""
        y, _, _ = self.forward(params, state, x)
        return y

    def children(self) -> tuple[Layer, ...]:
        """The layers that this one runs one after the other; empty if it is not a container."""
        return ()


class Parameterless(Layer):
    """A layer around one function of `portnn.functional`, with nothing to train.

    Attributes
    ----------
    function : callable
        ``function(x, **fields) -> (y, backward)``, as a static method; fields are those of the dataclass.
    """

    function: ClassVar[Any]

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one output; that of the input, unless a layer says otherwise. Raises as ``init``."""
        return input_shape

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, (), self.output_shape(input_shape)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, pullback = self.function(x, **vars(self))

        def backward(dy: Array, input_grad: bool = True) -> tuple[Any, Tree]:
            return (pullback(dy) if input_grad else None), {}

        return y, state, backward
