"""
One update, computed by hand
============================

Training a network is one small computation, repeated: forward to the loss, backward to the gradient, and a step against
it. Here it is done once for a network that is small enough for a sheet of paper: two inputs, two hidden sigmoid units,
two linear outputs, one example, half squared error. Every number stands beside the one that portnn computes.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# The network
# -----------
#
# It has eight weights and four biases. Nothing is drawn at random here, so that you can follow with a pencil. The
# example is the row :math:`x`, and the network should answer with :math:`t`.

import numpy as np

X, T = np.asarray([[1.0, 2.0]]), np.asarray([[1.0, 0.0]])
W1, B1 = np.asarray([[0.5, 1.0], [0.5, -1.0]]), np.asarray([-0.5, 0.0])
W2, B2 = np.asarray([[1.0, 0.5], [-1.0, 1.0]]), np.asarray([0.0, 0.0])
RATE = 0.1

# %%
# Forward: from the input to the loss
# -----------------------------------
#
# .. math:: z = x W_1 + b_1, \quad h = \frac{1}{1 + e^{-z}}, \quad y = h W_2 + b_2, \quad L = \tfrac12 |y - t|^2

z = X @ W1 + B1
h = 1 / (1 + np.exp(-z))
y = h @ W2 + B2
loss = float(np.sum((y - T) ** 2) / 2)

# %%
# Backward: from the loss to the gradient
# ---------------------------------------
#
# Backpropagation is the chain rule, followed from the loss back to the weights. We write :math:`dv` for the derivative
# of the loss by :math:`v`, which has the shape of :math:`v`. The half in the loss makes the first one simple, and the
# slope of the sigmoid is :math:`h (1 - h)`:
#
# .. math::
#
#    dy &= y - t, & dW_2 &= h^T dy, & db_2 &= dy, \\
#    dh &= dy \, W_2^T, & dz &= dh \cdot h (1 - h), & dW_1 &= x^T dz, \quad db_1 = dz.

dy = y - T
dw2, db2 = h.T @ dy, dy[0]
dh = dy @ W2.T
dz = dh * h * (1 - h)
dw1, db1 = X.T @ dz, dz[0]

# %%
# The update
# ----------
#
# Gradient descent subtracts the gradient times the learning rate :math:`\eta`, here 0.1, from each weight and bias.

new_w1, new_b1 = W1 - RATE * dw1, B1 - RATE * db1
new_w2, new_b2 = W2 - RATE * dw2, B2 - RATE * db2
loss_after = float(np.sum((1 / (1 + np.exp(-(X @ new_w1 + new_b1))) @ new_w2 + new_b2 - T) ** 2) / 2)

BY_HAND = {
    "z = x W1 + b1": z,
    "h = 1 / (1 + exp(-z))": h,
    "y = h W2 + b2": y,
    "loss = |y - t|^2 / 2": loss,
    "dy = y - t": dy,
    "dW2 = h^T dy": dw2,
    "db2 = dy": db2,
    "dh = dy W2^T": dh,
    "dz = dh h (1 - h)": dz,
    "dW1 = x^T dz": dw1,
    "db1 = dz": db1,
    "W1 - lr dW1": new_w1,
    "b1 - lr db1": new_b1,
    "W2 - lr dW2": new_w2,
    "b2 - lr db2": new_b2,
    "loss after the update": loss_after,
}

# %%
# The same by portnn
# ------------------
#
# Each layer and each loss of portnn gives its output and the way back through it, a function from the gradient by the
# output to those by the input and by the parameters. So the same numbers can be read off between the layers. The update
# itself is a step of `Trainer` with `optim.SGD`.

from portnn import Network, Trainer, losses, nn, optim, tree

LOSS = losses.HalfSquaredError()


def network() -> Network:
    net = Network(nn.Sequential([nn.Affine(2), nn.Sigmoid(), nn.Affine(2)]), 2, device=DEVICE, rng=0)
    net.params = tree.map(
        lambda array: net.backend.asarray(array, "float32"), ({"w": W1, "b": B1}, {}, {"w": W2, "b": B2})
    )
    return net


def update(lr: float) -> tuple[Network, float]:
    """The network after one step of gradient descent, and its loss there."""
    trainer = Trainer(network(), LOSS, optim.SGD(lr=lr), rng=0)
    trainer.partial_fit(X, T)
    return trainer.network, trainer.evaluate(X, T)["loss"]


net = network()
hidden, sigmoid, output = net.layer.children()
x, t = (net.backend.asarray(array, "float32") for array in (X, T))
sums, _, back_through_hidden = hidden.forward(net.params[0], (), x)
units, _, back_through_sigmoid = sigmoid.forward({}, (), sums)
answer, _, back_through_output = output.forward(net.params[2], (), units)
value, back_through_loss = LOSS(answer, t)

by_answer = back_through_loss()
by_units, second = back_through_output(by_answer)
by_sums, _ = back_through_sigmoid(by_units)
_, first = back_through_hidden(by_sums)

updated, by_trainer = update(RATE)
(new_first, _, new_second) = updated.params
arrays = [sums, units, answer, value, by_answer, second["w"], second["b"], by_units, by_sums]
arrays += [first["w"], first["b"], new_first["w"], new_first["b"], new_second["w"], new_second["b"]]
BY_PORTNN = [*(net.backend.to_numpy(array) for array in arrays), by_trainer]


def row(numbers: object) -> str:
    return " ".join(f"{number:8.4f}" for number in np.ravel(np.asarray(numbers)))


print(f"{f'lr = {RATE}':<24}{'by hand':<38}by portnn")
difference = 0.0
for (formula, hand), found in zip(BY_HAND.items(), BY_PORTNN, strict=True):
    print(f"{formula:<22}{row(hand):<36}  {row(found)}")
    difference = max(difference, float(np.max(np.abs(np.asarray(hand) - found))))
print(f"largest difference: {difference:.1e}; by hand in float64, by portnn in float32")

# %%
# How much a step gains
# ---------------------
#
# Near the weights the loss is nearly linear. A step of :math:`-\eta g` along the gradient :math:`g` therefore changes
# it by about :math:`-\eta |g|^2`. The smaller the learning rate, the better this holds.

squared_length = sum(float(np.sum(gradient**2)) for gradient in (dw1, db1, dw2, db2))
print("   lr   loss after      change   -lr |g|^2   change / (-lr |g|^2)")
for lr in (0.001, 0.01, 0.1, 0.5, 1.0, 2.0):
    change, expected = update(lr)[1] - loss, -lr * squared_length
    print(f"{lr:5.3f} {loss + change:12.6f} {change:11.6f} {expected:11.6f} {change / expected:10.3f}")

# %%
# In the picture the promise is the tangent. The curve leaves it, has its lowest point at a rate of about 0.5, and
# further on a step that is too large even raises the loss.

import matplotlib.pyplot as plt

rates = np.linspace(0.02, 1.2, 30)
_, axis = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
axis.plot([0, *rates], [loss, *(update(float(lr))[1] for lr in rates)], label="loss after the update")
axis.plot([0, 0.3], [loss, loss - 0.3 * squared_length], "--", label=r"tangent: loss before $-$ lr $|g|^2$")
axis.axhline(loss, color="#999999", linestyle=":", label="loss before the update")
axis.set(xlim=(0, 1.2), ylim=(0, 0.6), xlabel="learning rate lr of the one step", ylabel="loss, $|y - t|^2 / 2$")
axis.legend(loc="upper center")
show()

# %%
# What to try
# -----------
#
# - Make the step twice: do the forward and backward pass again from the new weights. Does the second step gain as much?
# - Take a target that the network hits already: which of the numbers become 0?
# - Put ``np.tanh`` in the place of the sigmoid. Only one line of the backward pass changes: which?
