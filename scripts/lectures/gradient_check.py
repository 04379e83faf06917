"""
Is the gradient right?
======================

A network whose gradient is slightly wrong often learns nearly as well as the right one, so that nobody notices. There
is a check that needs no rule of differentiation at all: change a weight a little, and see how much the loss changes.
Here it finds a mistake that was put into a network, and says where it is. Then we ask how small "a little" should be.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# A right network, and a wrong one
# --------------------------------
#
# In portnn a function gives its value and its *pullback*, the function that takes the gradient back through it. That of
# :math:`y = \tanh x` multiplies by :math:`1 - y^2`. The wrong one forgets this factor.

from dataclasses import dataclass

import numpy as np

from portnn import Network, functional, get_backend, losses, nn
from portnn._typing import Array, Backward
from portnn.random import Stream


def wrong_tanh(x: Array) -> tuple[Array, Backward]:
    y, _ = functional.tanh(x)
    return y, lambda dy: dy


@dataclass(frozen=True)
class WrongTanh(nn.Parameterless):
    """The layer of `wrong_tanh`."""

    function = staticmethod(wrong_tanh)


BACKEND, RNG = get_backend(DEVICE), Stream(SEED)
LOSS = losses.SoftmaxCrossEntropy()
X, Y = BACKEND.asarray(RNG.child("x").normal((20, 4)), "float32"), BACKEND.asarray(np.arange(20) % 3)
NETS = {
    name: Network(nn.Sequential([nn.Affine(6), tanh, nn.Affine(3)]), 4, device=BACKEND, rng=RNG)
    for name, tanh in {"right": nn.Tanh(), "wrong": WrongTanh()}.items()
}

# %%
# The check
# ---------
#
# The derivative of the loss :math:`f` by one weight :math:`w` is nearly the central difference
#
# .. math:: \frac{f(w + h) - f(w - h)}{2 h}.
#
# It costs two passes for each weight: far too slow for training, but a good check of backpropagation.
# `gradcheck.gradcheck_network` does it for some weights of each parameter.

from portnn.gradcheck import gradcheck_network

for name, net in NETS.items():
    print(f"the {name} network: its largest derivatives, and the largest differences from the numerical ones")
    print(f"{gradcheck_network(net, LOSS, X, Y, rng=RNG)}\n")

# %%
# The gradients of layer 2, behind tanh, are right in both networks: the backward pass comes to them before it comes to
# the mistake. Those of layer 0, before tanh, are wrong. So the mistake is in between.

# %%
# How large should the step be?
# -----------------------------
#
# The central difference neglects an error that grows with :math:`h^2`; the one-sided difference
# :math:`(f(w + h) - f(w)) / h` neglects one that grows with :math:`h`. Rounding of :math:`f` makes another error, which
# grows with :math:`1 / h`. And where :math:`w + h` is rounded to :math:`w`, the difference is 0, and the error 1. We
# compute the gradient by all weights of the first layer with many steps, in both precisions, and compare with
# backpropagation in float64.

import math
from collections.abc import Callable
from typing import TypeAlias

from array_api_compat import array_namespace, device

from portnn import numerical, tree

STEPS = np.geomspace(1e-12, 1.0, 25)
Function: TypeAlias = Callable[[Array], Array]


def of_first_weights(dtype: str) -> tuple[Function, Function, Array]:
    """The loss and its gradient as functions of the weights of the first layer; and these weights."""
    net = NETS["right"]
    params, x = tree.map(lambda a: BACKEND.xp.astype(a, BACKEND.dtype(dtype)), (net.params, X))

    def run(w: Array) -> tuple[Array, Callable[[], Array]]:
        prediction, _, backward = net.layer.forward(({**params[0], "w": w}, *params[1:]), net.state, x)
        value, loss_backward = LOSS(prediction, Y)
        return value, lambda: backward(loss_backward())[1][0]["w"]

    return lambda w: run(w)[0], lambda w: run(w)[1](), params[0]["w"]


def one_sided(function: Function, w: Array, h: float) -> Array:
    """The gradient from (f(w + h) - f(w)) / h for each entry."""
    xp, size = array_namespace(w), math.prod(w.shape)
    units = xp.reshape(xp.eye(size, dtype=w.dtype, device=device(w)), (size, *w.shape))
    ahead = xp.stack([function(w + h * units[i, ...]) for i in range(size)])
    return xp.reshape((ahead - function(w)) / h, w.shape)


_, in_float64, weights = of_first_weights("float64")
EXACT = BACKEND.to_numpy(in_float64(weights))


def error(found: Array) -> float:
    """The largest difference, in parts of the largest derivative."""
    return float(np.max(np.abs(BACKEND.to_numpy(found) - EXACT)) / np.max(np.abs(EXACT)))


# %%
# `numerical.gradient` takes central differences; unless told otherwise, with the step of `numerical.default_step`,
# which the dotted lines show.

import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
print("gradient by the first weights: largest difference from backpropagation in float64 / largest entry")
for dtype, colour in {"float32": "#D55E00", "float64": "#0072B2"}.items():
    loss, gradient, w = of_first_weights(dtype)
    for name, line, method in (("central", "o-", numerical.gradient), ("one-sided", "s--", one_sided)):
        errors = [error(method(loss, w, float(h))) for h in STEPS]
        best = int(np.nanargmin(errors))
        print(f"  {dtype}, {name} difference: {errors[best]:.0e} at best, with h = {STEPS[best]:.0e}")
        axis.plot(STEPS, errors, line, color=colour, label=f"{dtype}, {name}", linewidth=1.2, markersize=3)
    step = numerical.default_step(w)
    at_default = error(numerical.gradient(loss, w))
    print(f"  {dtype}, central difference: {at_default:.0e} with the default step h = {step:.0e}")
    print(f"  {dtype}, backpropagation: {error(gradient(w)):.0e}")
    axis.axvline(step, color=colour, linestyle=":", label=f"{dtype}, default step")
axis.set(xscale="log", yscale="log", xlabel="step h", ylabel="largest error / largest derivative")
figure.legend(*axis.get_legend_handles_labels(), loc="outside right center")
show()

# %%
# Each curve is a valley: rounding on its left side, neglect on its right side. The best step depends on the precision,
# and for the central difference it is near :math:`\sqrt[3]{\varepsilon}`, where :math:`\varepsilon` is the distance
# from 1 to the next number. In float32 the gradient found this way has some four digits; backpropagation has seven.
#
# What to try
# -----------
#
# - Plant another mistake: let the pullback of ``wrong_tanh`` return ``dy * (1 - y)``. Is it found as well?
# - Plant one behind tanh: a loss whose pullback forgets to divide by the number of examples. Which rows are wrong now?
# - Draw the same picture for ``nn.Affine(60)`` hidden units. Does the best step change?
