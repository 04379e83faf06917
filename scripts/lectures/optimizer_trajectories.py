"""
How optimizers go down a long valley
====================================

Gradient descent goes where the ground falls most steeply. In a long, narrow valley that is towards the other side, and
hardly along the floor. Momentum and adaptive learning rates are two answers to this. Eight optimizers show here how
they take the valley

.. math:: f(x, y) = x^2 + 100 y^2

from the point (10, 1), each with a learning rate that suits it.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# The valley, and a walk in it
# ----------------------------
#
# The gradient is :math:`(2x, 200y)`: across the valley the curvature is a hundred times as large as along it. An
# optimizer of portnn is a pure function: ``step`` takes parameters, gradient and state, and returns the new parameters
# and the new state. So a walk is a loop of four lines.

import numpy as np
from numpy.typing import NDArray

from portnn import get_backend, optim
from portnn._typing import Array

START = (10.0, 1.0)
CURVATURE = (2.0, 200.0)  # of f along x and along y
STEPS = 60


def f(point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The valley, for points along the last axis."""
    value: NDArray[np.float64] = 0.5 * np.sum(np.asarray(CURVATURE) * point**2, axis=-1)
    return value


def walk(optimizer: optim.Optimizer) -> NDArray[np.float64]:
    """The points that an optimizer visits, shape (STEPS + 1, 2)."""
    backend = get_backend(DEVICE)
    curvature = backend.asarray(np.asarray(CURVATURE), "float32")
    params: dict[str, Array] = {"w": backend.asarray(np.asarray(START), "float32")}
    state = optimizer.init(params)
    points = [np.asarray(START)]
    for _ in range(STEPS):
        gradient = {"w": curvature * params["w"]}
        params, state = optimizer.step(params, gradient, state)
        points.append(np.array(backend.to_numpy(params["w"]), dtype=np.float64))
    return np.stack(points)


# %%
# To see two of them side by side, we draw their ways over the contours of the valley. The cross is the minimum.

import matplotlib.pyplot as plt


def race(title: str, optimizers: dict[str, optim.Optimizer]) -> None:
    x, y = np.meshgrid(np.linspace(-4.0, 11.0, 301), np.linspace(-1.5, 1.5, 201))
    _, axis = plt.subplots(figsize=(7.6, 3.2), layout="constrained")
    heights = f(np.stack([x, y], axis=-1))
    axis.contour(x, y, heights, levels=np.geomspace(0.5, 300, 12), colors="#bbbbbb", linewidths=0.7)
    print(f"f after {STEPS} steps from {START}, where it is {f(np.asarray(START)):.0f}:")
    for name, optimizer in optimizers.items():
        points = walk(optimizer)
        print(f"  {name:<17} {f(points[-1]):10.3e}   {optimizer}")
        axis.plot(points[:, 0], points[:, 1], ".-", label=name, linewidth=1.2, markersize=4)
    axis.plot(0, 0, "k+", markersize=10)
    axis.set(xlim=(-4, 11), ylim=(-1.5, 1.5), xlabel="x", ylabel="y", title=title)
    axis.legend(loc="lower left", fontsize=8)
    show()


# %%
# Gradient descent and momentum
# -----------------------------
#
# Gradient descent subtracts the gradient times the learning rate :math:`\eta`. Across the valley a step multiplies
# :math:`y` by :math:`1 - 200 \eta`: beyond :math:`\eta = 0.01` this is less than -1, and each step overshoots by more
# than the one before. Below it, :math:`x` shrinks by 2 per cent a step at most. Momentum sums the gradients up, and
# forgets them slowly:
#
# .. math:: v \leftarrow \alpha v - \eta g, \qquad w \leftarrow w + v.
#
# What points the same way each time adds up along the valley, and what goes to and fro cancels across it.

race(
    "gradient descent and momentum",
    {"gradient descent": optim.SGD(lr=0.009), "momentum": optim.Momentum(lr=0.004, alpha=0.8)},
)

# %%
# A look ahead
# ------------
#
# Nesterov's momentum takes the gradient where the momentum is about to lead, and so brakes earlier. NAdam does the same
# for Adam, which comes below.

race("momentum that looks ahead", {"Nesterov": optim.Nesterov(lr=0.004, alpha=0.8), "NAdam": optim.NAdam(lr=0.6)})

# %%
# A rate for each direction
# -------------------------
#
# Adagrad divides each component of the gradient by the root of the sum of its squares so far. That takes the hundred
# out of the valley: both directions begin with steps of equal length. But the sum only grows, so the steps become
# shorter and shorter. Adadelta divides by a mean instead, and measures its steps by its earlier ones.

race("a rate for each direction", {"Adagrad": optim.Adagrad(lr=1.5), "Adadelta": optim.Adadelta(lr=3.0, eps=1e-3)})

# %%
# Averages that forget
# --------------------
#
# RMSProp divides by the root of a running mean of the squares, which forgets the first, large gradients. Adam adds
# momentum to that: it divides a running mean of the gradients by the root of the one of their squares.

race("averages that forget", {"RMSProp": optim.RMSProp(lr=0.2, decay=0.9), "Adam": optim.Adam(lr=0.6)})

# %%
# What to try
# -----------
#
# - Give gradient descent a learning rate of 0.0101. After how many steps do you see that it is too large?
# - Which ``alpha`` is best for momentum? Theory says :math:`\left((\sqrt{100} - 1) / (\sqrt{100} + 1)\right)^2`, about
#   0.67, with a learning rate of 0.0165.
# - Turn the valley by 45 degrees, so that :math:`f = (x + y)^2 / 2 + 50 (x - y)^2`. Which optimizers do not care, and
#   which lose what they had gained?
