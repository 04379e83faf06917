"""The fully connected layer."""

from dataclasses import dataclass

from portnn import functional
from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import check_type, hold_count
from portnn.errors import ShapeError
from portnn.nn.initializers import HeNormal, Initializer, Zeros
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["Affine"]


@dataclass(frozen=True)
class Affine(Layer):
    """The fully connected layer ``y = x @ w + b``: (n, k) to (n, units).

    Parameters
    ----------
    units : int
        Number of outputs.
    weight_init : Initializer, default HeNormal()
        First values of ``w``, shape (k, units).
    bias_init : Initializer, default Zeros()
        First values of ``b``, shape (units,).
    """

    units: int
    weight_init: Initializer = HeNormal()
    bias_init: Initializer = Zeros()

    def __post_init__(self) -> None:
        hold_count(self, "units")
        check_type(self, "weight_init", Initializer)
        check_type(self, "bias_init", Initializer)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        if len(input_shape) != 1:
            raise ShapeError(f"Affine takes rows of one axis, not of shape {input_shape}: put Flatten() before it")
        params = {
            "w": self.weight_init(rng.child("w"), (input_shape[0], self.units)),
            "b": self.bias_init(rng.child("b"), (self.units,)),
        }
        return params, (), (self.units,)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, pullback = functional.affine(x, params["w"], params["b"])

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            dx, dw, db = pullback(dy, input_grad)
            return dx, {"w": dw, "b": db}

        return y, state, backward
