"""
Backpropagation by hand
=======================

A network with a hidden layer can learn what a single neuron cannot: XOR, which is true if exactly one of two inputs is.
The whole of its training, forward, backward and update, is written here in NumPy alone, in some twenty lines. Then
portnn computes the same gradients, as a check of both.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# The network
# -----------
#
# Two inputs, two hidden tanh units, one output. A batch is a matrix with an example in each row, so all four examples
# go through the network at once:
#
# .. math:: H = \tanh(X W_1 + b_1), \qquad Y = H W_2 + b_2, \qquad L = \frac{1}{2n} \sum_{i=1}^n (y_i - t_i)^2.

import numpy as np
from numpy.typing import NDArray

from portnn.random import Stream

Params = dict[str, NDArray[np.float64]]

X = np.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
T = np.asarray([[0.0], [1.0], [1.0], [0.0]])  # true if exactly one input is


def first_weights(rng: Stream) -> Params:
    w1, w2 = rng.child("w1").normal((2, 2)), rng.child("w2").normal((2, 1))
    return {"W1": w1, "b1": np.zeros(2), "W2": w2, "b2": np.zeros(1)}


def forward(params: Params, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    h = np.tanh(x @ params["W1"] + params["b1"])
    return h, h @ params["W2"] + params["b2"]


# %%
# Back through it
# ---------------
#
# Each line of the forward pass gives one of the backward pass, in reverse order. A product with a matrix goes back as a
# product with its transpose; a bias that is added to every row gets the sum over the rows; tanh has the slope
# :math:`1 - h^2`:
#
# .. math::
#
#    dY &= (Y - T) / n, & dW_2 &= H^T dY, & db_2 &= \textstyle\sum_i dY_i, \\
#    dH &= dY \, W_2^T, & dZ &= dH \cdot (1 - H^2), \\
#    & & dW_1 &= X^T dZ, & db_1 &= \textstyle\sum_i dZ_i.
#
# What the forward pass has computed, :math:`H`, is needed again on the way back: that is why training takes more memory
# than prediction.


def backward(params: Params, h: NDArray[np.float64], y: NDArray[np.float64]) -> Params:
    dy = (y - T) / len(T)
    dz = (dy @ params["W2"].T) * (1 - h**2)
    return {"W1": X.T @ dz, "b1": dz.sum(axis=0), "W2": h.T @ dy, "b2": dy.sum(axis=0)}


# %%
# Is it right?
# ------------
#
# In portnn each layer and each loss brings its own way back, and a network calls them one after the other. The
# gradients have to be equal, but for rounding.

from portnn import Network, get_backend, losses, nn

BACKEND = get_backend(DEVICE)
DTYPE = "float64" if BACKEND.supports("float64") else "float32"

params = first_weights(Stream(SEED))
h, y = forward(params, X)
by_hand = backward(params, h, y)

net = Network(nn.Sequential([nn.Affine(2), nn.Tanh(), nn.Affine(1)]), 2, device=BACKEND, rng=SEED, dtype=DTYPE)
on_device = {name: BACKEND.asarray(array, DTYPE) for name, array in params.items()}
net.params = ({"w": on_device["W1"], "b": on_device["b1"]}, {}, {"w": on_device["W2"], "b": on_device["b2"]})
prediction, _, back_through_network = net.layer.forward(net.params, net.state, BACKEND.asarray(X, DTYPE))
_, back_through_loss = losses.HalfSquaredError()(prediction, BACKEND.asarray(T, DTYPE))
_, (first, _, second) = back_through_network(back_through_loss())

largest = 0.0
for name, array in {"W1": first["w"], "b1": first["b"], "W2": second["w"], "b2": second["b"]}.items():
    difference = float(np.max(np.abs(BACKEND.to_numpy(array) - by_hand[name])))
    print(f"d{name}: by hand {' '.join(f'{value:9.6f}' for value in by_hand[name].flat):<40} {difference:.0e} away")
    largest = max(largest, difference)
print(f"largest difference: {largest:.0e}")

# %%
# Training is a loop
# ------------------
#
# Now 3,000 steps of gradient descent, from four different first weights.

import matplotlib.pyplot as plt

STEPS, RATE = 3000, 0.2


def train(params: Params) -> tuple[Params, list[float]]:
    found = []
    for _ in range(STEPS):
        h, y = forward(params, X)
        found.append(float(np.sum((y - T) ** 2) / (2 * len(T))))
        gradient = backward(params, h, y)
        params = {name: array - RATE * gradient[name] for name, array in params.items()}
    return params, found


runs = [train(first_weights(Stream(SEED + start))) for start in range(4)]
_, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for start, (_, found) in enumerate(runs):
    print(f"seed {SEED + start}: the loss after {STEPS} steps is {found[-1]:.1e}")
    axis.plot(np.maximum(found, 1e-16), label=f"seed {SEED + start}")
axis.set(yscale="log", ylim=(1e-16, 1), xlabel="step", ylabel="loss")
axis.legend()
show()

# %%
# The first weights decide how long it takes, and some of them lead to a place from which gradient descent does not get
# away. A wider hidden layer makes such places rare.

# %%
# What the hidden units have found
# --------------------------------
#
# The best of the four networks, asked about the whole square: each hidden unit draws a line as a single neuron does,
# and the output puts the two together.

best, _ = min(runs, key=lambda run: run[1][-1])
x1, x2 = np.meshgrid(np.linspace(-0.5, 1.5, 200), np.linspace(-0.5, 1.5, 200))
h, y = forward(best, np.stack([x1, x2], axis=-1).reshape(-1, 2))
titles = {"hidden unit 1": h[:, 0], "hidden unit 2": h[:, 1], "output": y[:, 0]}
_, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained")
for axis, (title, values) in zip(axes, titles.items(), strict=True):
    axis.contourf(x1, x2, values.reshape(x1.shape), levels=20, cmap="RdBu_r")
    axis.plot(*X[T[:, 0] == 1].T, "ko", label="true")
    axis.plot(*X[T[:, 0] == 0].T, "ks", fillstyle="none", label="false")
    axis.set(aspect="equal", xlabel="x1", title=title)
axes[0].set_ylabel("x2")
axes[0].legend(loc="center")
show()

# %%
# What to try
# -----------
#
# - Forget the factor ``(1 - h**2)`` in ``backward``. Does the network still learn XOR? Does the comparison see it?
# - Give it 8 hidden units, in ``first_weights``. How many of 20 seeds fail now, and how many with 2 units?
# - Let all weights begin at 0. Why does nothing happen?
