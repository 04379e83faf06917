"""Why an L1 penalty makes weights exactly 0, and an L2 penalty only makes them small.

    python scripts/lectures/l1_l2_contours.py --device cpu

The error (w1 - 3)^2 + 4 (w2 - 6)^2 is smallest at (3, 6). Two penalties pull the weights towards 0. L1, which is
10 (|w1| + |w2|), has the same force of 10 however small a weight is; L2, which is 10/2 (w1^2 + w2^2), has the force
10 |w|, which fades as the weight does. At |w| = 1 they are equally strong. At w1 = 0 the error pulls back with a force
of 6. That is less than 10, so L1 holds w1 at 0, and w2 comes to rest where 8 (w2 - 6) + 10 = 0: at (0, 4.75). With L2
the forces balance at (0.5, 8/3), where no weight is 0. The contours of error and penalty that go through the minimum of
the sum (drawn thick) touch there; those of L1 have corners on the axes.

The force of L1 jumps at 0, so gradient descent at a constant rate steps to and fro across 0 for ever. A rate that
decays makes these steps ever smaller. A proximal step makes w1 exactly 0: it follows the gradient of the error alone,
and then moves each weight towards 0 by 10 times the rate, but never past 0 (soft thresholding).
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import optim
from portnn._typing import Array
from portnn.optim import schedules

CENTRE = np.asarray([3.0, 6.0])  # where the error is smallest
CURVATURE = np.asarray([2.0, 8.0])  # of the error along w1 and along w2
START = np.asarray([5.5, 0.5])
RATE, LR, STEPS = 10.0, 0.05, 200

MINIMA = {"L1": np.asarray([0.0, 4.75]), "L2": np.asarray([0.5, 8 / 3])}
WAYS: dict[str, dict[str, optim.Optimizer]] = {
    "L1": {
        "constant rate": optim.chain(optim.L1(RATE), optim.SGD(LR)),
        "decaying rate": optim.chain(optim.L1(RATE), optim.SGD(schedules.Exponential(LR, factor=0.96))),
        "proximal steps": optim.SGD(LR),
    },
    "L2": {"constant rate": optim.chain(optim.L2(RATE), optim.SGD(LR))},
}


def surfaces(name: str, w: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Error and penalty, for points along the last axis."""
    penalty = np.abs(w) if name == "L1" else 0.5 * w**2
    return {"error": 0.5 * np.sum(CURVATURE * (w - CENTRE) ** 2, axis=-1), "penalty": RATE * np.sum(penalty, axis=-1)}


def soft_threshold(w: Array, amount: float) -> Array:
    """Each number moved towards 0 by ``amount``, but never past 0."""
    xp = array_namespace(w)
    left = xp.abs(w) - amount
    return xp.sign(w) * xp.where(left > 0, left, 0.0)


def path(lecture: Lecture, way: str, optimizer: optim.Optimizer) -> NDArray[np.float64]:
    """The points that an optimizer visits, shape (STEPS + 1, 2)."""
    backend = lecture.backend
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


def main(lecture: Lecture) -> None:
    drawing, axes = figure(2, 3, width=11.0, height=7.0)
    w1, w2 = np.meshgrid(np.linspace(-2.5, 6.5, 361), np.linspace(-1.0, 8.0, 361))
    for (name, ways), (both, total, course) in zip(WAYS.items(), (axes[:3], axes[3:]), strict=True):
        minimum = MINIMA[name]
        print(f"{name}: the minimum is at w1 = {minimum[0]:.5f}, w2 = {minimum[1]:.5f}; after {STEPS} steps:")
        heights, lowest = surfaces(name, np.stack([w1, w2], axis=-1)), surfaces(name, minimum)
        for what, colour in {"error": "C0", "penalty": "C1"}.items():
            both.contour(w1, w2, heights[what], lowest[what] * np.arange(1, 9) ** 2 / 9, colors=colour, linewidths=0.6)
            both.contour(w1, w2, heights[what], [lowest[what]], colors=colour, linewidths=2.0)
            both.plot([], [], colour, label=what)
        levels = sum(lowest.values()) + np.arange(1, 13) ** 2
        total.contour(w1, w2, sum(heights.values()), levels=levels, colors="#bbbbbb", linewidths=0.7)
        total.plot([], [], color="#bbbbbb", label="error + penalty")
        for i, (way, optimizer) in enumerate(ways.items()):
            points = path(lecture, way, optimizer)
            zero = ", w1 is exactly 0" if points[-1, 0] == 0 else ""
            distance = np.linalg.norm(points[-1] - minimum)
            print(f"  {way:<15} w1 = {points[-1, 0]:.5f}  w2 = {points[-1, 1]:.5f}  {distance:.0e} away{zero}")
            style = {"color": f"C{i + 2}", "label": way, "linewidth": 1.0, "markersize": 5 - i}
            total.plot(points[:, 0], points[:, 1], ".-", **style)
            course.plot(points[:101, 0], ".-", **style)
        for axis in (both, total):
            axis.plot(*CENTRE, "k+", markersize=10, label="minimum of the error")
            axis.plot(*minimum, "k*", markersize=9, label="minimum of the sum")
            axis.set(aspect="equal", xlabel="w1", ylabel="w2")
            axis.axhline(0, color="#888888", linewidth=0.5)
            axis.axvline(0, color="#888888", linewidth=0.5)
        both.set_title(f"error and {name} penalty")
        total.set_title(f"error + {name} penalty, and the ways down")
        course.set(ylim=(-0.3, 1.3), xlabel="step", ylabel="w1", title=f"w1 with {name}, the first 100 steps")
    entries = {text: line for axis in axes[:2] for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    drawing.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
