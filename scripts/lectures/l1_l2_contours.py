"""
Why L1 makes weights exactly 0
==============================

A penalty on large weights is added to the error of a network, to keep it from learning noise. The L2 penalty makes
weights small. The L1 penalty makes some of them exactly 0, so that they can be left out. Two weights are enough to see
the reason.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# Error against penalty
# ---------------------
#
# The error is smallest at (3, 6), and both penalties pull towards (0, 0):
#
# .. math::
#
#    E &= (w_1 - 3)^2 + 4 (w_2 - 6)^2, \\
#    P_1 &= 10 \, (|w_1| + |w_2|), \\
#    P_2 &= \tfrac{10}{2} (w_1^2 + w_2^2).
#
# L1 has the same force of 10 however small a weight is; L2 has the force :math:`10 |w|`, which fades as the weight
# does. At :math:`w_1 = 0` the error pulls back with a force of 6. That is less than 10, so L1 holds :math:`w_1` at 0,
# and :math:`w_2` comes to rest where :math:`8 (w_2 - 6) + 10 = 0`: at (0, 4.75). With L2 the forces balance at (0.5,
# 8/3), where no weight is 0.

import numpy as np
from numpy.typing import NDArray

CENTRE = np.asarray([3.0, 6.0])  # where the error is smallest
CURVATURE = np.asarray([2.0, 8.0])  # of the error along w1 and along w2
RATE = 10.0
MINIMA = {"L1": np.asarray([0.0, 4.75]), "L2": np.asarray([0.5, 8 / 3])}


def surfaces(name: str, w: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Error and penalty, for points along the last axis."""
    penalty = np.abs(w) if name == "L1" else 0.5 * w**2
    return {"error": 0.5 * np.sum(CURVATURE * (w - CENTRE) ** 2, axis=-1), "penalty": RATE * np.sum(penalty, axis=-1)}


# %%
# The contours that go through the minimum of the sum are drawn thick: they touch there. Those of L1 have corners, which
# lie on the axes, and a corner is where contours touch most easily.

import matplotlib.pyplot as plt

W1, W2 = np.meshgrid(np.linspace(-2.5, 6.5, 361), np.linspace(-1.0, 8.0, 361))

figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.4), layout="constrained")
for axis, (name, minimum) in zip(axes, MINIMA.items(), strict=True):
    heights, lowest = surfaces(name, np.stack([W1, W2], axis=-1)), surfaces(name, minimum)
    for what, colour in {"error": "C0", "penalty": "C1"}.items():
        axis.contour(W1, W2, heights[what], lowest[what] * np.arange(1, 9) ** 2 / 9, colors=colour, linewidths=0.6)
        axis.contour(W1, W2, heights[what], [lowest[what]], colors=colour, linewidths=2.0)
        axis.plot([], [], colour, label=what)
    axis.plot(*CENTRE, "k+", markersize=10, label="minimum of the error")
    axis.plot(*minimum, "k*", markersize=9, label="minimum of the sum")
    axis.set(aspect="equal", xlabel="w1", ylabel="w2", title=f"error and {name} penalty")
    axis.axhline(0, color="#888888", linewidth=0.5)
    axis.axvline(0, color="#888888", linewidth=0.5)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
show()

# %%
# How to get there
# ----------------
#
# The force of L1 jumps at 0, so gradient descent at a constant rate steps to and fro across 0 for ever. A rate that
# decays makes these steps ever smaller, but never 0. A *proximal* step makes :math:`w_1` exactly 0: it follows the
# gradient of the error alone, and then moves each weight towards 0 by :math:`10 \eta`, but never past 0 (soft
# thresholding):
#
# .. math:: w \leftarrow \operatorname{sign}(w) \max(|w| - 10 \eta, 0).

from array_api_compat import array_namespace

from portnn import get_backend, optim
from portnn._typing import Array
from portnn.optim import schedules

START = np.asarray([5.5, 0.5])
LR, STEPS = 0.05, 200
WAYS: dict[str, dict[str, optim.Optimizer]] = {
    "L1": {
        "constant rate": optim.chain(optim.L1(RATE), optim.SGD(LR)),
        "decaying rate": optim.chain(optim.L1(RATE), optim.SGD(schedules.Exponential(LR, factor=0.96))),
        "proximal steps": optim.SGD(LR),
    },
    "L2": {"constant rate": optim.chain(optim.L2(RATE), optim.SGD(LR))},
}


def soft_threshold(w: Array, amount: float) -> Array:
    xp = array_namespace(w)
    left = xp.abs(w) - amount
    return xp.sign(w) * xp.where(left > 0, left, 0.0)


def walk(way: str, optimizer: optim.Optimizer) -> NDArray[np.float64]:
    """The points that an optimizer visits, shape (STEPS + 1, 2)."""
    backend = get_backend(DEVICE)
    curvature, centre, start = (backend.asarray(a, "float32") for a in (CURVATURE, CENTRE, START))
    params: dict[str, Array] = {"w": start}  # the penalties act on parameters of this name
    state = optimizer.init(params)
    points = [START]
    for _ in range(STEPS):
        gradient = {"w": curvature * (params["w"] - centre)}
        params, state = optimizer.step(params, gradient, state)
        if way == "proximal steps":
            params = {"w": soft_threshold(params["w"], LR * RATE)}
        points.append(np.array(backend.to_numpy(params["w"]), dtype=np.float64))
    return np.stack(points)


# %%
# On the left the ways over the contours of the sum, on the right the course of :math:`w_1` in the first 100 steps.

figure, axes = plt.subplots(2, 2, figsize=(8.6, 6.6), layout="constrained", width_ratios=(1, 1.4))
for (name, ways), (total, course) in zip(WAYS.items(), axes, strict=True):
    minimum = MINIMA[name]
    print(f"{name}: the minimum is at w1 = {minimum[0]:.5f}, w2 = {minimum[1]:.5f}; after {STEPS} steps:")
    heights, lowest = surfaces(name, np.stack([W1, W2], axis=-1)), surfaces(name, minimum)
    levels = sum(lowest.values()) + np.arange(1, 13) ** 2
    total.contour(W1, W2, sum(heights.values()), levels=levels, colors="#bbbbbb", linewidths=0.7)
    for i, (way, optimizer) in enumerate(ways.items()):
        points = walk(way, optimizer)
        zero = ", w1 is exactly 0" if points[-1, 0] == 0 else ""
        distance = np.linalg.norm(points[-1] - minimum)
        print(f"  {way:<15} w1 = {points[-1, 0]:.5f}  w2 = {points[-1, 1]:.5f}  {distance:.0e} away{zero}")
        style = {"color": f"C{i + 2}", "label": way, "linewidth": 1.0, "markersize": 5 - i}
        total.plot(points[:, 0], points[:, 1], ".-", **style)
        course.plot(points[:101, 0], ".-", **style)
    total.plot(*minimum, "k*", markersize=9, label="minimum of the sum")
    total.set(aspect="equal", xlabel="w1", ylabel="w2", title=f"error + {name} penalty")
    course.set(ylim=(-0.3, 1.3), xlabel="step", ylabel="w1", title=f"w1 with {name}")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
show()

# %%
# What to try
# -----------
#
# - With which ``RATE`` does L1 let go of :math:`w_1`? Compute it from the forces, then try a rate below and above it.
# - Add both penalties, 5 of each. Is :math:`w_1` still exactly 0? This is called the elastic net.
# - Multiply the error by 4. Which of the two minima moves more?
