"""
How deep can a plain network be?
================================

Each layer of a network can build on what the layers before it have found, so more layers ought to be better. Yet plain
networks of many layers hardly learn at all, if they begin with weights that are too small: the gradient does not reach
the first layers. Two remedies are tried here on networks of 2 to 20 hidden layers: the initial weights of He, and
`nn.BatchNorm`.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# Networks of any depth
# ---------------------
#
# A hidden layer is `nn.Affine`, then `nn.BatchNorm` if it is wanted, then `nn.ReLU`. The weights are drawn from a
# normal distribution: either narrow, with a standard deviation of 0.01, or as He proposed, with the variance
# :math:`2 / \text{inputs}`. What each of these does to the signals is the topic of
# :doc:`activation_histograms`.

from portnn import nn

DEPTHS, WIDTH = (2, 5, 10, 15, 20), 32
SMALL, HE = nn.Normal(std=0.01), nn.HeNormal()
STARTS = {
    "normal, std 0.01": (SMALL, False),
    "He": (HE, False),
    "normal, std 0.01, BatchNorm": (SMALL, True),
    "He, BatchNorm": (HE, True),
}


def mlp(depth: int, weight_init: nn.Initializer, batch_norm: bool) -> nn.Layer:
    layers: list[nn.Layer] = [nn.Flatten()]
    for _ in range(depth):
        layers.append(nn.Affine(WIDTH, weight_init=weight_init))
        if batch_norm:
            layers.append(nn.BatchNorm())
        layers.append(nn.ReLU())
    return nn.Sequential([*layers, nn.Affine(10, weight_init=weight_init)])


# %%
# What reaches the first layer
# ----------------------------
#
# On its way back to the first layer, the gradient is multiplied by the weights of every layer in between:
#
# .. math:: \frac{\partial L}{\partial h_1} = D_1 W_2 D_2 W_3 \cdots D_{n-1} W_n \frac{\partial L}{\partial z_n},
#
# where :math:`D_i` holds the slopes of the activations, 0 or 1 for a ReLU. Where the weights are small, it shrinks with
# each factor. Before any training, we measure how long the gradient of the first weights is, over all training images.
# The norm is taken in float64: the squares of such small numbers are 0 in float32.

import math

import matplotlib.pyplot as plt
import numpy as np

from portnn import Network, Trainer, losses, optim
from portnn.data import load_digits

DATA = load_digits()
LOSS = losses.SoftmaxCrossEntropy()


def untrained(depth: int, start: str) -> Network:
    return Network(mlp(depth, *STARTS[start]), DATA.x_train.shape[1:], device=DEVICE, rng=SEED)


def first_gradient(net: Network) -> float:
    backend = net.backend
    scores, _, backward = net.layer.forward(net.params, net.state, backend.asarray(DATA.x_train), train=True)
    _, loss_backward = LOSS(scores, backend.asarray(DATA.y_train))
    _, grads = backward(loss_backward(), input_grad=False)
    return float(np.linalg.norm(np.asarray(backend.to_numpy(grads[1]["w"]), dtype=np.float64)))


print(f"{'hidden layers':<29}" + "".join(f"{depth:10}" for depth in DEPTHS))
_, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
for marker, start in zip("osD^", STARTS, strict=True):
    lengths = [first_gradient(untrained(depth, start)) for depth in DEPTHS]
    print(f"{start:<29}" + "".join(f"{length:10.1e}" for length in lengths))
    axis.plot(DEPTHS, lengths, f"{marker}-", label=start)
axis.set(yscale="log", xlabel="hidden layers", xticks=DEPTHS, ylabel="length of the gradient of the first weights")
axis.set_title("before training")
axis.legend()
show()

# %%
# With small weights, the gradient of 20 layers is shorter by many powers of ten than that of 2: no learning rate suits
# both ends of such a network. He's variance keeps the mean square of signals and gradients from one ReLU layer to the
# next, on average. BatchNorm brings every unit to variance 1 over the batch, whatever the weights are.

# %%
# What ten epochs of training reach
# ---------------------------------
#
# Every network trains once, on the same batches, with the same learning rate. One that gives all ten classes the same
# score has the loss :math:`\log 10`: it has learned nothing.

EPOCHS, BATCH_SIZE = 10, 128

print(f"{'hidden layers':<29}" + "".join(f"{depth:10}" for depth in DEPTHS))
_, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
for marker, start in zip("osD^", STARTS, strict=True):
    final = []
    for depth in DEPTHS:
        trainer = Trainer(untrained(depth, start), LOSS, optim.Momentum(lr=0.01), rng=SEED)
        history = trainer.fit(DATA.x_train, DATA.y_train, epochs=EPOCHS, batch_size=BATCH_SIZE)
        final.append(history["loss"][-1])
    print(f"{start:<29}" + "".join(f"{loss:10.3f}" for loss in final), flush=True)
    axis.plot(DEPTHS, final, f"{marker}-", label=start)
chance = math.log(DATA.classes)
axis.text(DEPTHS[-1], chance - 0.04, f"equal scores for all classes: log {DATA.classes}", ha="right", va="top")
axis.set(xlabel="hidden layers", xticks=DEPTHS, ylim=(0, chance + 0.1), ylabel="mean training loss in the last epoch")
axis.set_title(f"after {EPOCHS} epochs of training")
axis.legend(loc="center left")
show()

# %%
# Both remedies help, and in deep networks most together. In as few steps as here, the deepest networks still learn less
# than the shallow ones: to reach the first layer is not all that it takes.
#
# What to try
# -----------
#
# - Train longer: set ``EPOCHS`` to 40. Which of the curves come down?
# - Put `nn.Tanh` in the place of `nn.ReLU`, with `nn.GlorotNormal` for its weights.
# - Multiply He's standard deviation by 2, as ``nn.Normal(std=2 * (2 / WIDTH) ** 0.5)``. How long is the first gradient
#   of 20 layers then, and what does a step along it do?
