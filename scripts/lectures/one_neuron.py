"""
One neuron
==========

A neuron adds up its inputs, each times a weight, and says yes or no. So it draws a straight line through the plane: on
one side it says yes, on the other side no. To learn means to move this line. Two ways to move it are shown here: the
perceptron of 1958, and the one that all networks use today.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# Two clouds of points
# --------------------
#
# The neuron has two inputs. Its sum :math:`z = w_1 x_1 + w_2 x_2 + b` is 0 on a line, positive on one side of it and
# negative on the other. The weights :math:`w` stand at a right angle to the line. The targets are :math:`t = 1` for the
# points of one cloud, and :math:`t = 0` for those of the other.

import numpy as np

from portnn.random import Stream

COUNT = 40
RNG = Stream(SEED)
X = RNG.child("x").normal((2 * COUNT, 2)) * 0.7 + np.repeat([[1.4, 0.6], [-0.4, -1.0]], COUNT, axis=0)
T = np.repeat([1.0, 0.0], COUNT)
ORDER = RNG.child("order").permutation(2 * COUNT)  # so that the clouds take turns

# %%
# This draws the points, and lines that come one after the other, from light to dark.

import matplotlib.pyplot as plt
from numpy.typing import NDArray


def draw(lines: dict[str, tuple[NDArray[np.float64], float]], title: str) -> None:
    """The lines w x + b = 0, each with its name."""
    _, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    axis.plot(*X[T == 1].T, "o", color="C0", markersize=4, label="t = 1")
    axis.plot(*X[T == 0].T, "s", color="C1", markersize=4, label="t = 0")
    x1 = np.asarray([-4.0, 5.0])
    for i, (name, (w, b)) in enumerate(lines.items(), start=1):
        axis.plot(x1, -(w[0] * x1 + b) / w[1], color=str(0.9 * (1 - i / len(lines))), linewidth=1.2, label=name)
    axis.set(xlim=(-3, 4), ylim=(-3.5, 3), xlabel="x1", ylabel="x2", title=title)
    axis.legend(loc="upper left", fontsize=8)
    show()


# %%
# The perceptron: learn from mistakes
# -----------------------------------
#
# Rosenblatt's rule looks at one point after the other. If the neuron is right, nothing happens. If it is wrong, the
# point is added to the weights, or taken away from them:
#
# .. math:: w \leftarrow w + (t - y) \, x, \qquad b \leftarrow b + (t - y), \qquad
#           y = \begin{cases} 1 & \text{if } z > 0 \\ 0 & \text{otherwise} \end{cases}
#
# After such an update :math:`z` is larger by :math:`|x|^2 + 1` for a point that should have been a yes: the line has
# moved towards it, or past it.

w, b = np.zeros(2), 0.0
updates, lines = 0, {}
for sweep in range(1, 11):
    mistakes = 0
    for i in ORDER:
        answer = float(w @ X[i] + b > 0)
        if answer != T[i]:
            w, b = w + (T[i] - answer) * X[i], b + (T[i] - answer)
            mistakes, updates = mistakes + 1, updates + 1
            if updates in (1, 2, 3, 5, 8):
                lines[f"update {updates}"] = w, b
    wrong = int(np.sum((X @ w + b > 0) != T))
    print(f"sweep {sweep:2}: {mistakes:2} updates, then {wrong:2} of {len(X)} points are on the wrong side")
lines[f"update {updates}"] = w, b
draw(lines, "the perceptron")

# %%
# If some line separates the clouds, the rule finds one after finitely many updates, and then stops. These clouds touch,
# so it never comes to rest: each mistake moves the line as much as the first one did.

# %%
# The logistic neuron: how wrong?
# -------------------------------
#
# Let the neuron say how sure it is, with the sigmoid :math:`y = 1 / (1 + e^{-z})`, the probability of a yes. The loss
# is the cross-entropy, which is large where the neuron is sure and wrong. Its derivative is again the difference of
# target and answer:
#
# .. math:: L = -t \log y - (1 - t) \log (1 - y), \qquad \frac{\partial L}{\partial w} = (y - t) \, x.
#
# So a step against the gradient is the perceptron's rule, with a difference that is no longer only -1, 0 or 1. We take
# the mean over all points, and the learning rate :math:`\eta = 1`.

STEPS, RATE = 200, 1.0
SHOWN = (1, 2, 5, 20, STEPS)

w, b = np.zeros(2), 0.0
lines, losses_by_hand = {}, []
for step in range(1, STEPS + 1):
    y = 1 / (1 + np.exp(-(X @ w + b)))
    losses_by_hand.append(float(np.mean(-T * np.log(y) - (1 - T) * np.log(1 - y))))
    w, b = w - RATE * (y - T) @ X / len(X), b - RATE * float(np.mean(y - T))
    if step in SHOWN:
        lines[f"step {step}"] = w, b
wrong = int(np.sum((X @ w + b > 0) != T))
print(f"after {STEPS} steps the loss is {losses_by_hand[-1]:.4f}, and {wrong} points are on the wrong side")
draw(lines, "the logistic neuron")

# %%
# The first step already brings the line near to its place; then it turns, more and more slowly. The loss has one
# minimum, and there the points pull equally hard from both sides. On the way the weights grow, and with them how sure
# the neuron is.

# %%
# The same with portnn
# --------------------
#
# A neuron is `nn.Affine` with one unit. The sigmoid is in the loss, which knows the short formula of the gradient.

from portnn import Network, Trainer, get_backend, losses, nn, optim

dtype = "float64" if get_backend(DEVICE).supports("float64") else "float32"
net = Network(nn.Affine(1, weight_init=nn.Zeros()), 2, device=DEVICE, rng=SEED, dtype=dtype)
trainer = Trainer(net, losses.SigmoidCrossEntropy(), optim.SGD(lr=RATE), rng=SEED)
trainer.fit(X, T[:, np.newaxis], epochs=STEPS, batch_size=len(X))

found = net.backend.to_numpy(net.params["w"])[:, 0]
print(f"by hand   w = {w[0]:.6f} {w[1]:.6f}, b = {b:.6f}")
print(f"by portnn w = {found[0]:.6f} {found[1]:.6f}, b = {float(net.params['b'][0]):.6f}")

# %%
# What to try
# -----------
#
# - Move the clouds apart, to (2.4, 1.6) and (-1.4, -2.0). After how many sweeps does the perceptron stop? And where
#   does the loss of the logistic neuron go, if you give it 10,000 steps?
# - Put a single point far away on the wrong side. Which of the two lines cares more?
# - Take the four points of XOR, (0, 0), (1, 1) against (0, 1), (1, 0). No line separates them: that takes a second
#   layer, as in :doc:`backpropagation_by_hand`.
