"""
Learn from images without labels
================================

Labels are expensive, images are not. An auto-encoder learns from images alone: it has to reproduce its input from a
short code, and so must find out what tells the images apart. Does what it learned help where only 100 images have
labels?
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# A bottleneck of 16 numbers
# --------------------------
#
# The encoder makes a code :math:`c` of 16 numbers from the 64 pixels of a digit, and the decoder makes pixels of that:
#
# .. math:: x \;\to\; x + \varepsilon \;\to\; c = f(x + \varepsilon) \;\to\; \hat x = g(c) \approx x.
#
# The noise :math:`\varepsilon` on its input keeps it from relying on single pixels. Its outputs are pixels before a
# sigmoid, and the loss is the cross-entropy of each pixel.

import numpy as np

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import load_digits
from portnn.random import Stream

CODE = 16
ENCODER = (nn.Affine(64, nn.GlorotNormal()), nn.Tanh(), nn.Affine(CODE, nn.GlorotNormal()), nn.Tanh())
DECODER = (nn.Affine(64, nn.GlorotNormal()), nn.Tanh(), nn.Affine(64, nn.GlorotNormal()))

DATA = load_digits()
X, X_TEST = DATA.x_train.reshape(-1, 64), DATA.x_test.reshape(-1, 64)


def autoencoder(seed: int) -> Network:
    mlp = nn.Sequential([nn.GaussianNoise(0.3), *ENCODER, *DECODER])
    net = Network(mlp, 64, device=DEVICE, rng=seed)
    Trainer(net, losses.SigmoidCrossEntropy(), optim.Adam(lr=0.003), rng=seed).fit(X, X, epochs=40, batch_size=64)
    return net


# %%
# These test images it has not seen in its training. Each goes through 16 numbers, a quarter of its pixels.

import matplotlib.pyplot as plt

from portnn import functional

OLD = {SEED: autoencoder(SEED)}
shown = np.stack([X_TEST[DATA.y_test == digit][0] for digit in range(10)])
reconstructed, _ = functional.sigmoid(OLD[SEED].predict(shown))

pairs = np.pad(np.concatenate([shown, reconstructed]).reshape(2, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
_, axis = plt.subplots(figsize=(7.6, 1.9), layout="constrained")
axis.imshow(np.block([list(row) for row in pairs]), cmap="gray_r", vmin=0, vmax=1)
axis.set(xticks=[], yticks=[4.5, 14.5], yticklabels=["test image", "reconstruction"], frame_on=False)
axis.tick_params(length=0)
show()

# %%
# A classifier on top of the encoder
# ----------------------------------
#
# The encoder, the layers up to the code, gets a new last layer, which scores the ten classes. Three classifiers of the
# same shape learn for equally long from the same 100 labelled images. One starts from random weights; one starts from
# the encoder's weights and trains them on (*fine-tuned*); one trains the last layer only (*frozen*).

LABELLED = 100
ENCODER_PLACES = slice(1, 1 + len(ENCODER))  # in the auto-encoder, whose first layer is the noise


def classifier(start: str, old: Network, seed: int) -> Network:
    """A network for ten classes, not trained, whose encoder may come from the auto-encoder."""
    encoder = map(nn.Frozen, ENCODER) if start == "frozen encoder" else ENCODER
    rng = Stream(seed).child("classifier")
    net = Network(nn.Sequential([*encoder, nn.Affine(10, nn.GlorotNormal())]), 64, device=DEVICE, rng=rng)
    params, state = old.params[ENCODER_PLACES], old.state[ENCODER_PLACES]
    if start == "fine-tuned encoder":
        net.params = (*params, net.params[-1])
    elif start == "frozen encoder":
        net.state = (*map(nn.Frozen.hold, params, state), net.state[-1])
    return net


def accuracy(start: str, old: Network, seed: int) -> float:
    """The test accuracy of a classifier, after its training."""
    chosen = Stream(seed).child("labelled").permutation(len(X))[:LABELLED]
    net = classifier(start, old, seed)
    trainer = Trainer(
        net, losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.005), metrics={"accuracy": metrics.accuracy}, rng=seed
    )
    trainer.fit(X[chosen], DATA.y_train[chosen], epochs=200, batch_size=50)
    return trainer.evaluate(X_TEST, DATA.y_test)["accuracy"]


# %%
# Five seeds
# ----------
#
# A seed determines which images have labels, and all random weights. With 360 test images, differences of a point or
# two between single runs mean little: it is their mean that counts.

SEEDS = 5
FOUND: dict[str, list[float]] = {"random weights": [], "fine-tuned encoder": [], "frozen encoder": []}

print(f"accuracy on {len(X_TEST)} test images, after training with {LABELLED} labels")
print("seed  " + "".join(f"{start:>20}" for start in FOUND))
for seed in range(SEED, SEED + SEEDS):
    if seed not in OLD:
        OLD[seed] = autoencoder(seed)
    for start, found in FOUND.items():
        found.append(accuracy(start, OLD[seed], seed))
    print(f"{seed:<6}" + "".join(f"{found[-1]:20.1%}" for found in FOUND.values()), flush=True)
MEANS = {start: float(np.mean(found)) for start, found in FOUND.items()}
print("mean  " + "".join(f"{mean:20.1%}" for mean in MEANS.values()))

# %%
# A line joins what was reached with the same seed; the bars are the means.

_, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for values in zip(*FOUND.values(), strict=True):
    axis.plot(range(len(values)), values, "o-", color="#56B4E9", linewidth=0.8, markersize=5)
axis.plot(range(len(MEANS)), list(MEANS.values()), "k_", markersize=40, markeredgewidth=2)
names = [f"{start}\nmean {mean:.1%}" for start, mean in MEANS.items()]
axis.set(xlim=(-0.4, 2.4), xticks=range(len(names)), xticklabels=names)
axis.set_ylabel(f"test accuracy with {LABELLED} labels")
axis.yaxis.set_major_formatter("{x:.0%}")
show()

# %%
# Fine-tuning gains a little with nearly every seed. The frozen encoder is about as good as random weights that may all
# learn, and has 170 numbers to train instead of more than 5,000.
#
# What to try
# -----------
#
# - Set ``LABELLED`` to 30, and to 500. Where does the encoder help most?
# - Set ``CODE`` to 2, and draw the codes of the test images in the plane, with a colour for each digit.
# - Leave the noise out. Do the reconstructions get better, and the classifiers, too?
