"""
Convolution: the same filter everywhere
=======================================

A fully connected layer has a weight for each pixel and each unit. It has to learn at every place of the image anew what
a stroke looks like. A convolution looks at a small window, and uses the same few weights at all places. Here one such
layer learns from handwritten digits, and we look at the filters it has found, and at what they see.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# A window that moves
# -------------------
#
# An image has the shape (height, width, channels); that of a grey one has 1 channel. A filter :math:`k` of 3 x 3
# weights gives a map, whose value at a place is the sum of the window there times the weights:
#
# .. math:: y_{ij} = b + \sum_{m=0}^{2} \sum_{n=0}^{2} k_{mn} \, x_{i + m - 1, \, j + n - 1}
#
# Outside of the image the pixels count as 0. Eight filters give eight maps: 8 times 9 weights and 8 biases, 80 numbers.
# A fully connected layer from 64 pixels to as many outputs would have 33,280.

import numpy as np

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import load_digits

DATA = load_digits()
X, X_TEST = DATA.x_train[..., np.newaxis], DATA.x_test[..., np.newaxis]
FILTERS = 8

CNN = nn.Sequential(
    [nn.Conv2D(FILTERS), nn.ReLU(), nn.MaxPool2D(), nn.Conv2D(16), nn.ReLU(), nn.Flatten(), nn.Affine(10)]
)
net = Network(CNN, X.shape[1:], device=DEVICE, rng=SEED)
print(net.summary())

# %%
# `nn.MaxPool2D` takes the largest value of each 2 x 2 window: *where* in the window a stroke was matters less to the
# layers behind it.

trainer = Trainer(
    net, losses.SoftmaxCrossEntropy(), optim.Adam(0.005), metrics={"accuracy": metrics.accuracy}, rng=SEED
)
trainer.fit(X, DATA.y_train, epochs=10, batch_size=32)
print(f"accuracy on {len(X_TEST)} test images: {trainer.evaluate(X_TEST, DATA.y_test)['accuracy']:.1%}")

# %%
# The filters
# -----------
#
# Red weights are positive, blue ones negative. A filter that is red on one side and blue on the other answers to edges;
# one that is red along a line, to strokes in this direction. Nobody has told the network to look for such things.

import matplotlib.pyplot as plt

filters = net.backend.to_numpy(net.params[0]["w"])[:, :, 0]  # shape (3, 3, FILTERS)
largest = float(np.max(np.abs(filters)))
_, axes = plt.subplots(1, FILTERS, figsize=(9.6, 1.7), layout="constrained")
for i, axis in enumerate(axes):
    axis.imshow(filters[..., i], cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.set(xticks=[], yticks=[], title=f"filter {i + 1}")
show()

# %%
# What they see
# -------------
#
# Each filter, slid over an image, gives a map, and the ReLU keeps what is positive. Dark is where a filter answers
# strongly.


def maps(images: np.ndarray) -> np.ndarray:
    """The maps of the first convolution, behind its ReLU: shape (n, height, width, FILTERS)."""
    convolution, relu, *_ = net.layer.children()
    x = net.backend.asarray(images, net.dtype)
    y = relu.apply({}, (), convolution.apply(net.params[0], net.state[0], x))
    return np.asarray(net.backend.to_numpy(y))


shown = np.stack([X_TEST[DATA.y_test == digit][0] for digit in (0, 4, 7)])
answers = maps(shown)
figure, axes = plt.subplots(len(shown), 1 + FILTERS, figsize=(9.6, 3.6), layout="constrained")
for image, found, row in zip(shown, answers, axes, strict=True):
    row[0].imshow(image[..., 0], cmap="gray_r")
    for i, axis in enumerate(row[1:]):
        axis.imshow(found[..., i], cmap="gray_r", vmin=0, vmax=float(np.max(answers)))
for i, axis in enumerate(axes[0]):
    axis.set_title(f"filter {i}" if i else "image")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
show()

# %%
# A shifted image has shifted maps
# --------------------------------
#
# As the filter is the same everywhere, it makes no difference to it where a stroke is: shift the image, and the maps
# shift with it. A fully connected layer knows nothing of this, and would have to see every digit at every place. For a
# test, the digits are put into the middle of a larger field, and one pixel further to the right.

middle = np.pad(shown, ((0, 0), (3, 3), (3, 3), (0, 0)))
shifted = np.roll(middle, 1, axis=2)
difference = float(np.max(np.abs(np.roll(maps(middle), 1, axis=2) - maps(shifted))))
print(f"largest difference between the shifted maps and the maps of the shifted images: {difference:.1e}")

# %%
# What to try
# -----------
#
# - Put `nn.AveragePool2D` in the place of `nn.MaxPool2D`, or leave the pooling out. What does it cost, and what does it
#   gain?
# - Compare with ``nn.Affine(64)`` in the place of the convolutions: parameters, seconds, accuracy.
# - Draw the filters before training, and after one epoch. When do the edges appear?
