"""The learning rate: too small, right, too large, so large that training diverges, and decayed from large to small.

    python scripts/lectures/learning_rates.py --device cpu

A network learns a function of two inputs from noisy values, by gradient descent on small batches of fresh examples;
its error is measured against the function itself. With a small rate the error falls slowly. With a large one the noise
of the batches keeps it up, because each step follows its own batch too far. Beyond some rate every step overshoots by
more than the one before: the loss grows exponentially until float32 cannot hold it, which portnn reports as an error.
A schedule begins with a large rate, to be fast, and ends with a small one, to be precise.
"""

from __future__ import annotations

import numpy as np
from lecture import Lecture, figure, present
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import DivergenceError
from portnn.optim import schedules
from portnn.random import Stream

STEPS, BATCH_SIZE = 2400, 16
NOISE = 0.3  # standard deviation, of values whose own is 0.5
MEASURED = [*range(1, 25), *range(25, STEPS + 1, 25)]  # the steps after which the error is measured
LAST = 20  # measurements, over which the final error is averaged

RATES: dict[str, float | schedules.Schedule] = {
    "0.003, too small": 0.003,
    "0.1, about right": 0.1,
    "0.4, too large": 0.4,
    "1, far too large": 1.0,
    "0.3, divided by 10 every 800 steps": schedules.Step(0.3, every=800, factor=0.1),
    "0.3 down to 0 along a cosine": schedules.Cosine(0.3, steps=STEPS),
}


def examples(rng: Stream, n: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the square from -1 to 1, and sin(pi x1) cos(pi x2) with noise."""
    x = rng.child("x").uniform((n, 2), -1.0, 1.0)
    y = np.sin(np.pi * x[:, :1]) * np.cos(np.pi * x[:, 1:])
    return x, y + rng.child("noise").normal((n, 1), std=noise)


def train(lecture: Lecture, lr: float | schedules.Schedule) -> tuple[list[float], int | None]:
    """The errors after the steps of MEASURED, and the step that diverged, if one did."""
    rng = Stream(lecture.seed)
    net = Network(nn.Sequential([nn.Affine(32), nn.Tanh(), nn.Affine(1)]), 2, device=lecture.backend, rng=rng)
    trainer = Trainer(net, losses.HalfSquaredError(), optim.SGD(lr=lr), rng=rng)
    test = examples(rng.child("test"), 1000, noise=0.0)
    errors: list[float] = []
    try:
        for step in range(1, STEPS + 1):
            trainer.partial_fit(*examples(rng.child("train").at(step), BATCH_SIZE, NOISE))
            if step in MEASURED:
                errors.append(trainer.evaluate(*test)["loss"])
    except DivergenceError as error:
        print(error)
        return errors, trainer.step
    return errors, None


def main(lecture: Lecture) -> None:
    drawing, (begin, whole) = figure(1, 2, width=9.6, height=4.6)
    print(f"half the mean squared error after {STEPS} steps, mean of the last {LAST} measurements:")
    for name, lr in RATES.items():
        print(f"  {name:<36}", end="", flush=True)
        errors, diverged = train(lecture, lr)
        if not diverged:
            print(f"{np.mean(errors[-LAST:]):.4f}")
        label = f"{name}: diverges at step {diverged}" if diverged else name
        style = "--" if isinstance(lr, schedules.Schedule) else "-"
        for axis in (begin, whole):
            (line,) = axis.plot(MEASURED[: len(errors)], errors, style, linewidth=1.2, label=label)
        if diverged:
            begin.plot(diverged, 1, "x", color=line.get_color(), transform=begin.get_xaxis_transform(), clip_on=False)
    begin.set(xlim=(0, 25), ylim=(1e-3, 1e40), title="the first steps")
    whole.set(xlim=(0, STEPS), ylim=(3e-3, 1), title="all steps")
    for axis in (begin, whole):
        axis.set(yscale="log", xlabel="steps", ylabel="half the mean squared error")
    drawing.legend(*whole.get_legend_handles_labels(), title="learning rate", loc="outside lower center", ncols=3)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
