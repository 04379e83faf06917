"""Groups of an affine layer and an activation behind it, for CuPy: one launch beside each of the products' sides.

The bias and the activation are one pass over what cuBLAS has written; the gradient of the activation, and the sums of
its columns for the bias, are another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portnn import nn
from portnn.functional.linear import matmul
from portnn.groups import Group

from .compile import FLOATS, dense, each_column, empty, is_array, kernel, lanes
from .linear import gradients
from .sums import by_slabs, slabs_of, total_of

__all__ = ["ACTIVATIONS", "GROUPS", "Activated", "is_affine"]

#: Activations that are structures of activations.cuh, and the field that they take as their parameter.
ACTIVATIONS: dict[type, str | None] = {
    nn.ReLU: None,
    nn.LeakyReLU: "slope",
    nn.ELU: "alpha",
    nn.SELU: None,
    nn.Sigmoid: None,
    nn.HardSigmoid: None,
    nn.Tanh: None,
    nn.Softplus: None,
    nn.SiLU: None,
    nn.HardSwish: None,
    nn.GELU: None,
    nn.GELUTanh: None,
}

#: Those whose gradient is made of the output: it takes the place of what it was made of.
_OF_OUTPUT = (nn.ReLU, nn.LeakyReLU)


class Activated:
    """``y = f(x @ w + b)``, and what its gradients are made of.

    Attributes
    ----------
    y : array, shape (n, m)
    kept : array, shape (n, m)
        Of which the kernels make the slopes: ``y`` itself, or ``x @ w``.
    options : dict
        Of the kernels that use activations.cuh.
    parameter : float
        Theirs.
    """

    def __init__(self, activation: Any, x: Any, w: Any, b: Any) -> None:
        kind = type(activation)
        field = ACTIVATIONS[kind]
        self.parameter = 0.0 if field is None else float(getattr(activation, field))
        self.options = {"REAL": x.dtype, "ACTIVATION": kind.__name__}
        self.x, self.w, self.b = x, w, dense(b)
        self.kept = matmul(x, w)
        n, m = self.kept.shape
        self.y = self.kept if kind in _OF_OUTPUT else empty((n, m), x.dtype)
        activated = kernel("affine_groups", "activated", **self.options)
        activated(*each_column(n, m, lanes(x.dtype)), (self.kept, self.b, self.parameter, n, m, self.y))

    def backward(self, dy: Any) -> tuple[Any, Any]:
        """The gradients of ``x @ w``, and of ``b``."""
        n, m = dy.shape
        slabs = slabs_of(n, m)
        dp, sums = empty((n, m), dy.dtype), empty((slabs, m), dy.dtype)
        arguments = (dense(dy), self.kept, self.b, self.parameter, n, m, dp, sums)
        kernel("affine_groups", "activated_slopes", **self.options)(*by_slabs(n, m, slabs, dy.dtype), arguments)
        return dp, total_of(sums)

    def gradients(self, dp: Any, db: Any, input_grad: bool) -> tuple[Any, dict[str, Any]]:
        """``dx``, or None, and those of the affine layer."""
        dx, dw, _ = gradients(self.x, self.w, dp, input_grad, lambda: db)
        return dx, {"w": dw, "b": db}


def is_affine(params: Any, x: Any) -> bool:
    """Whether the kernels can compute ``x @ w + b``: if not, the layer does, or says why it cannot."""
    w, b = params["w"], params["b"]
    if not all(is_array(a) and a.dtype == x.dtype for a in (x, w, b)) or x.dtype not in FLOATS:
        return False
    shapes_fit = x.ndim == w.ndim == 2 and x.shape[1:] == w.shape[:1] and b.shape == w.shape[1:]
    return shapes_fit and bool(x.size and w.size)


def _affine_and_activation(
    layers: Sequence[Any], params: Sequence[Any], states: Sequence[Any], x: Any, *, train: bool, rngs: Sequence[Any]
) -> Any:
    if not is_affine(params[0], x):
        return NotImplemented
    made = Activated(layers[1], x, params[0]["w"], params[0]["b"])

    def backward(dy: Any, input_grad: bool = True) -> tuple[Any, list[Any]]:
        dx, grads = made.gradients(*made.backward(dy), input_grad)
        return dx, [grads, params[1]]

    return made.y, states, backward


GROUPS = (Group((nn.Affine, tuple(ACTIVATIONS)), _affine_and_activation),)
