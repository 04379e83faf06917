"""Is the gradient right? Backpropagation against numerical differentiation, for a right and for a wrong network.

    python scripts/lectures/gradient_check.py --device cpu

Change one weight w by a small step h, and the loss f changes by about h times its derivative. So the central difference
(f(w + h) - f(w - h)) / 2h tells the derivative without any rule of differentiation, but costs two passes for each
weight: far too slow for training, and a good check of backpropagation. The way back through tanh in the wrong network
forgets a factor. Such a network may learn nearly as well as the right one, so that nobody notices; the check finds the
mistake, and says where: the gradients of the layers behind tanh are right, those of the layers before it are not.

The step must be neither too large nor too small. What the difference neglects makes an error that grows with h^2 (with
h, if it is one-sided: (f(w + h) - f(w)) / h); the rounding of f makes one that grows with 1 / h; and where w + h is
rounded to w, the difference is 0 and the error 1. The picture shows all this, and the step that portnn.numerical takes
unless told otherwise, near which the central difference is at its best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from array_api_compat import array_namespace, device
from lecture import Lecture, figure, present

from portnn import Network, functional, losses, nn, numerical, tree
from portnn._typing import Array, Backward
from portnn.gradcheck import gradcheck_network
from portnn.random import Stream

LOSS = losses.SoftmaxCrossEntropy()
STEPS = np.geomspace(1e-12, 1.0, 25)

Function: TypeAlias = Callable[[Array], Array]


def wrong_tanh(x: Array) -> tuple[Array, Backward]:
    """tanh whose pullback forgets the factor 1 - y^2."""
    y, _ = functional.tanh(x)
    return y, lambda dy: dy


@dataclass(frozen=True)
class WrongTanh(nn.Parameterless):
    """The layer of `wrong_tanh`."""

    function = staticmethod(wrong_tanh)


def of_first_weights(net: Network, x: Array, y: Array, dtype: str) -> tuple[Function, Function, Array]:
    """In a precision: the loss and its gradient as functions of the weights of the first layer; and these weights."""
    params, x = tree.map(lambda a: net.backend.xp.astype(a, net.backend.dtype(dtype)), (net.params, x))

    def run(w: Array) -> tuple[Array, Callable[[], Array]]:
        prediction, _, backward = net.layer.forward(({**params[0], "w": w}, *params[1:]), net.state, x)
        value, loss_backward = LOSS(prediction, y)
        return value, lambda: backward(loss_backward())[1][0]["w"]

    return lambda w: run(w)[0], lambda w: run(w)[1](), params[0]["w"]


def one_sided(function: Function, w: Array, h: float) -> Array:
    """The gradient from (f(w + h) - f(w)) / h for each entry."""
    xp, size = array_namespace(w), math.prod(w.shape)
    units = xp.reshape(xp.eye(size, dtype=w.dtype, device=device(w)), (size, *w.shape))
    ahead = xp.stack([function(w + h * units[i, ...]) for i in range(size)])
    return xp.reshape((ahead - function(w)) / h, w.shape)


def main(lecture: Lecture) -> None:
    backend, rng = lecture.backend, Stream(lecture.seed)
    x, y = backend.asarray(rng.child("x").normal((20, 4)), "float32"), backend.asarray(np.arange(20) % 3)
    nets = {
        name: Network(nn.Sequential([nn.Affine(6), tanh, nn.Affine(3)]), 4, device=backend, rng=rng)
        for name, tanh in {"right": nn.Tanh(), "wrong": WrongTanh()}.items()
    }
    for name, net in nets.items():
        print(f"the {name} network: its largest derivatives, and the largest differences from the numerical ones")
        print(f"{gradcheck_network(net, LOSS, x, y, rng=rng)}\n")

    drawing, (axis,) = figure(width=7.6, height=4.2)
    _, gradient, w = of_first_weights(nets["right"], x, y, "float64")
    exact = backend.to_numpy(gradient(w))

    def error(found: Array) -> float:
        return float(np.max(np.abs(backend.to_numpy(found) - exact)) / np.max(np.abs(exact)))

    print("gradient by the first weights: largest difference from backpropagation in float64 / largest entry")
    for dtype, colour in {"float32": "#D55E00", "float64": "#0072B2"}.items():
        loss, gradient, w = of_first_weights(nets["right"], x, y, dtype)
        for name, line, method in (("central", "o-", numerical.gradient), ("one-sided", "s--", one_sided)):
            errors = [error(method(loss, w, float(h))) for h in STEPS]
            best = int(np.argmin(errors))
            print(f"  {dtype}, {name} difference: {errors[best]:.0e} at best, with h = {STEPS[best]:.0e}")
            axis.plot(STEPS, errors, line, color=colour, label=f"{dtype}, {name}", linewidth=1.2, markersize=3)
        h = numerical.default_step(w)
        at_default = error(numerical.gradient(loss, w))
        print(f"  {dtype}, central difference: {at_default:.0e} with the default step h = {h:.0e}")
        print(f"  {dtype}, backpropagation: {error(gradient(w)):.0e}")
        axis.axvline(h, color=colour, linestyle=":", label=f"{dtype}, default step")
    axis.set(xscale="log", yscale="log", xlabel="step h", ylabel="largest error / largest derivative")
    drawing.legend(*axis.get_legend_handles_labels(), loc="outside right center")
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
