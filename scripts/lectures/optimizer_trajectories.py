"""The ways of several optimizers down a long valley, f(x, y) = x^2 + 100 y^2, from (10, 1).

    python scripts/lectures/optimizer_trajectories.py --device cpu

Gradient descent must take steps so small that it does not overshoot in the steep direction, and so hardly moves
along the flat one. Momentum adds up what points the same way each time; adaptive rates scale each direction by what
its gradients were.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import optim
from portnn._typing import Array

START = (10.0, 1.0)
CURVATURE = (2.0, 200.0)  # of f along x and along y
STEPS = 60

RACES = {
    "the duel": {"gradient descent": optim.SGD(lr=0.009), "momentum": optim.Momentum(lr=0.004, alpha=0.8)},
    "with a look ahead": {"Nesterov": optim.Nesterov(lr=0.004, alpha=0.8), "NAdam": optim.NAdam(lr=0.6)},
    "a rate for each direction": {"Adagrad": optim.Adagrad(lr=1.5), "Adadelta": optim.Adadelta(lr=3.0, eps=1e-3)},
    "averages that forget": {"RMSProp": optim.RMSProp(lr=0.2, decay=0.9), "Adam": optim.Adam(lr=0.6)},
}


def f(point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The valley, for points along the last axis."""
    value: NDArray[np.float64] = 0.5 * np.sum(np.asarray(CURVATURE) * point**2, axis=-1)
    return value


def path(lecture: Lecture, optimizer: optim.Optimizer) -> NDArray[np.float64]:
    """The points that an optimizer visits, shape (STEPS + 1, 2)."""
    backend = lecture.backend
    curvature = backend.asarray(np.asarray(CURVATURE), "float32")
    params: dict[str, Array] = {"w": backend.asarray(np.asarray(START), "float32")}
    state = optimizer.init(params)
    points = [np.asarray(START)]
    for _ in range(STEPS):
        gradient = {"w": curvature * params["w"]}
        params, state = optimizer.step(params, gradient, state)
        points.append(np.array(backend.to_numpy(params["w"]), dtype=np.float64))
    return np.stack(points)


def main(lecture: Lecture) -> None:
    drawing, axes = figure(2, 2, width=9.6, height=5.0)
    x, y = np.meshgrid(np.linspace(-4.0, 11.0, 301), np.linspace(-1.5, 1.5, 201))
    heights = f(np.stack([x, y], axis=-1))
    print(f"f after {STEPS} steps from {START}, where it is {f(np.asarray(START)):.0f}:")
    for axis, (title, race) in zip(axes, RACES.items(), strict=True):
        axis.contour(x, y, heights, levels=np.geomspace(0.5, 300, 12), colors="#bbbbbb", linewidths=0.7)
        for name, optimizer in race.items():
            points = path(lecture, optimizer)
            print(f"  {name:<17} {f(points[-1]):10.3e}   {optimizer}")
            axis.plot(points[:, 0], points[:, 1], ".-", label=name, linewidth=1.2, markersize=4)
        axis.plot(0, 0, "k+", markersize=10)
        axis.set(xlim=(-4, 11), ylim=(-1.5, 1.5), xlabel="x", ylabel="y", title=title)
        axis.legend(loc="lower left", fontsize=8)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
