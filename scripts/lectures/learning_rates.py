"""
The learning rate
=================

If you can choose only one number before a training, choose the learning rate well. Too small a rate learns slowly; too
large a one is kept from its goal by noise; beyond that, training diverges. A schedule begins with a large rate, to be
fast, and ends with a small one, to be precise.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# The task
# --------
#
# A network learns a function of two inputs,
#
# .. math:: y = \sin(\pi x_1) \cos(\pi x_2) + \text{noise},
#
# from batches of 16 fresh examples: no example is seen twice, so nothing can be learned by heart. The error is measured
# against the function without its noise.

import numpy as np
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import DivergenceError
from portnn.optim import schedules
from portnn.random import Stream

STEPS, BATCH_SIZE = 2400, 16
NOISE = 0.3  # standard deviation, of values whose own is 0.5


def examples(rng: Stream, n: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = rng.child("x").uniform((n, 2), -1.0, 1.0)
    y = np.sin(np.pi * x[:, :1]) * np.cos(np.pi * x[:, 1:])
    return x, y + rng.child("noise").normal((n, 1), std=noise)


# %%
# One training
# ------------
#
# ``partial_fit`` makes one step with one batch. Where a loss is no longer finite, portnn does not go on in silence: it
# raises `errors.DivergenceError`.

MEASURED = [*range(1, 25), *range(25, STEPS + 1, 25)]  # the steps after which the error is measured
LAST = 20  # measurements, over which the final error is averaged


def train(lr: float | schedules.Schedule) -> tuple[list[float], int | None]:
    """The errors after the steps of MEASURED, and the step that diverged, if one did."""
    rng = Stream(SEED)
    net = Network(nn.Sequential([nn.Affine(32), nn.Tanh(), nn.Affine(1)]), 2, device=DEVICE, rng=rng)
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


def compare(rates: dict[str, float | schedules.Schedule]) -> dict[str, tuple[list[float], int | None]]:
    """Train with each rate, and print how far it gets."""
    found = {}
    print(f"half the mean squared error after {STEPS} steps, mean of the last {LAST} measurements:")
    for name, lr in rates.items():
        print(f"  {name:<36}", end="", flush=True)
        found[name] = errors, diverged = train(lr)
        if not diverged:
            print(f"{np.mean(errors[-LAST:]):.4f}")
    return found


# %%
# Four constant rates
# -------------------
#
# Along a direction in which the loss has the curvature :math:`c`, a step multiplies the distance to the minimum by
# :math:`1 - \eta c`. A rate :math:`\eta` of more than :math:`2 / c` makes it larger with every step.

import matplotlib.pyplot as plt

constant = compare({"0.003, too small": 0.003, "0.1, about right": 0.1, "0.4, too large": 0.4, "1, far too large": 1.0})

_, (begin, whole) = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
for name, (errors, diverged) in constant.items():
    for axis in (begin, whole):
        (line,) = axis.plot(MEASURED[: len(errors)], errors, linewidth=1.2, label=name)
    if diverged:
        begin.plot(diverged, 1, "x", color=line.get_color(), transform=begin.get_xaxis_transform(), clip_on=False)
        begin.text(diverged - 0.7, 1e39, f"diverges at step {diverged}", ha="right", va="top")
begin.set(xlim=(0, 25), ylim=(1e-3, 1e40), title="the first steps")
whole.set(xlim=(0, STEPS), ylim=(3e-3, 1), title="all steps")
for axis in (begin, whole):
    axis.set(yscale="log", xlabel="steps", ylabel="half the mean squared error")
whole.legend(title="learning rate")
show()

# %%
# With 0.003 the error falls slowly, and would need ten times the steps. With 0.4 it falls at once, and then stays up:
# each step follows the noise of its own batch too far. With 1 every step overshoots by more than the one before, until
# float32 cannot hold the loss any more.

# %%
# Rates that decay
# ----------------
#
# Both schedules begin with 0.3, three times the best constant rate. `optim.schedules.Step` divides by 10 every 800
# steps; `optim.schedules.Cosine` goes down to 0 along half a wave.

decaying = compare(
    {
        "0.3, divided by 10 every 800 steps": schedules.Step(0.3, every=800, factor=0.1),
        "0.3 down to 0 along a cosine": schedules.Cosine(0.3, steps=STEPS),
    }
)

_, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
axis.plot(MEASURED, constant["0.1, about right"][0], color="#999999", linewidth=1.2, label="0.1 all the time")
for name, (errors, _) in decaying.items():
    axis.plot(MEASURED[: len(errors)], errors, linewidth=1.2, label=name)
axis.set(xlim=(0, STEPS), ylim=(3e-3, 1), yscale="log", xlabel="steps", ylabel="half the mean squared error")
axis.legend(title="learning rate")
show()

# %%
# The drop at step 800 is noise that goes away, not something that is learned: with shorter steps the weights come to
# rest nearer to the bottom.
#
# What to try
# -----------
#
# - Where between 0.4 and 1 does training begin to diverge? Halve the interval a few times.
# - Use batches of 64 examples. Which rates are better now, and why?
# - Put ``optim.Adam(lr=lr)`` in the place of `optim.SGD`. Which rates suit it?
