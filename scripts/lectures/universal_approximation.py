"""
Any function from a few units
=============================

One hidden layer with enough units comes as near as one likes to any continuous function on a closed interval: that is
the theorem of universal approximation. Three units are enough to see how. They approximate here a parabola, a sine, an
absolute value and a step.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# A sum of three curves
# ---------------------
#
# The network has one input, three tanh units and one output:
#
# .. math:: y = b + \sum_{j=1}^3 v_j \tanh(w_j x + c_j)
#
# Each unit adds a curve of the shape of tanh: :math:`w_j` says how steep it is, :math:`c_j` where it rises or falls,
# and :math:`v_j` how high it is. The first weights are drawn widely, so that the units begin at different places.

import numpy as np
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.optim import schedules
from portnn.random import Stream

STARTS, STEPS = 4, 400
X = np.linspace(-1.0, 1.0, 50)[:, np.newaxis]
HIDDEN = nn.Sequential([nn.Affine(3, nn.Normal(std=4.0), nn.Uniform(low=-2.0, high=2.0)), nn.Tanh()])
# beta2 is small, so that the large gradients of the first steps are soon forgotten.
OPTIMIZER = optim.Adam(schedules.Cosine(0.1, steps=STEPS), beta2=0.95)


def train(target: NDArray[np.float64], start: int) -> tuple[float, Network]:
    """The mean squared error of a network after its training, and the network."""
    rng = Stream(SEED).child(start)
    net = Network(nn.Sequential([HIDDEN, nn.Affine(1)]), 1, device=DEVICE, rng=rng)
    trainer = Trainer(net, losses.MeanSquaredError(), OPTIMIZER, rng=rng)
    trainer.fit(X, target, epochs=STEPS, batch_size=len(X))
    return trainer.evaluate(X, target)["loss"], net


# %%
# Several starts
# --------------
#
# Gradient descent may end in a local minimum, or be slow to leave a flat part of the error. So each function is learned
# from four first weights. The errors of all are printed; the network with the smallest one is drawn, as the sum that it
# is.

import matplotlib.pyplot as plt


def approximate(targets: dict[str, NDArray[np.float64]]) -> None:
    figure, axes = plt.subplots(1, len(targets), figsize=(9.6, 3.6), layout="constrained")
    x = np.linspace(-1.0, 1.0, 401)[:, np.newaxis]
    print(f"mean squared errors after {STEPS} steps from {STARTS} different starts, the smallest first:")
    for axis, (name, target) in zip(axes, targets.items(), strict=True):
        runs = sorted((train(target, start) for start in range(STARTS)), key=lambda run: run[0])
        print(f"  {name:<10}", *(f"{error:.1e}" for error, _ in runs))
        error, net = runs[0]
        activations = HIDDEN.apply(net.params[0], net.state[0], net.backend.asarray(x, net.dtype))
        summands = net.backend.to_numpy(activations * net.params[1]["w"][:, 0])
        b = float(net.params[1]["b"][0])
        axis.plot(X, target, ".", color="#999999", markersize=6, label="target")
        axis.plot(x, net.predict(x), color="black", linewidth=1.6, label="network: b + the three units")
        for j in range(3):
            axis.plot(x, summands[:, j], "--", color=f"C{j}", linewidth=1.2, label=f"unit {j + 1}")
        axis.set(xlabel="x", ylabel="y", title=f"{name}:  b = {b:.2f}, mean squared error {error:.0e}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    show()


# %%
# Two smooth functions
# --------------------
#
# The parabola is made of a falling and a rising curve; the sine needs one unit for each of its slopes.

approximate({"x^2": X**2, "sin(pi x)": np.sin(np.pi * X)})

# %%
# A kink and a jump
# -----------------
#
# The absolute value has a kink, which smooth curves can only round off. The step jumps, which they can only follow
# where units become steep, and the others mend what they leave.

approximate({"|x|": np.abs(X), "step": np.where(X > 0, 1.0, 0.0)})

# %%
# What to try
# -----------
#
# - How many units does the sine need for a mean squared error below :math:`10^{-7}`?
# - Draw the networks from -3 to 3. What do they say where they have seen no examples?
# - Put `nn.ReLU` in the place of tanh: which of the four functions can then be had exactly?
