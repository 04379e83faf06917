"""
What was learned for one task helps with another
================================================

A network has learned to tell the digits 0 to 4 apart, from many images. Now the digits 5 to 9 come, of which only a few
have labels. Can we use what the network has learned? The layers of a network go from general to special, so we take
over all but the last one. Whether that helps depends on the task, as two tasks show here.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# Two tasks
# ---------
#
# The first task has the images as they are, 8 x 8 pixels. In the second one each image lies at a random place of a
# field of 12 x 12 pixels, and a network has to find out how a digit looks at each of them. The old digits are shown
# there at ten places each.

import numpy as np
from numpy.typing import NDArray

from portnn.data import load_digits
from portnn.random import Stream

DATA = load_digits()


def place(images: NDArray[np.float32], room: int, rng: Stream) -> NDArray[np.float32]:
    """Each image at a random place of a field that is larger by ``room`` pixels in height and width."""
    n, height, width = images.shape
    field = np.zeros((n, height + room, width + room), dtype=np.float32)
    for i, (top, left) in enumerate(rng.uniform((n, 2), 0, room + 1).astype(int)):
        field[i, top : top + height, left : left + width] = images[i]
    return field


# %%
# Three starts
# ------------
#
# The old network has two hidden layers. Three new ones have the same, under a new last layer for five other digits:
#
# - *first layer frozen*: both hidden layers come from the old network, and the first of them stays as it is;
# - *fine-tuned*: both come from the old network, and all are trained on;
# - *from scratch*: all weights are random.

from portnn import Network, Trainer, losses, metrics, nn, optim

BODY = (nn.Flatten(), nn.Affine(64), nn.ReLU(), nn.Affine(32), nn.ReLU())
FROZEN = 3  # layers of the body, with weights in one of them
STARTS = ("first layer frozen", "fine-tuned", "from scratch")


def new_network(start: str, old: Network, rng: Stream) -> Network:
    """A network for five other digits, not trained yet."""
    frozen = FROZEN if start == "first layer frozen" else 0
    layers = [*map(nn.Frozen, BODY[:frozen]), *BODY[frozen:], nn.Affine(5)]
    net = Network(nn.Sequential(layers), old.input_shape, device=old.backend, rng=rng)
    if start != "from scratch":
        net.params = (*net.params[:frozen], *old.params[frozen:-1], net.params[-1])
        net.state = (*map(nn.Frozen.hold, old.params[:frozen], old.state[:frozen]), *net.state[frozen:])
    return net


# %%
# One run trains the old network, and then each new one with 20, 50, 100 and 200 labelled images, for about 100 steps.

import math

LABELS, STEPS, BATCH_SIZE = (20, 50, 100, 200), 100, 20


def trainer_of(net: Network, seed: int) -> Trainer:
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.003)
    return Trainer(net, loss, optimizer, metrics={"accuracy": metrics.accuracy}, rng=seed)


def accuracies(room: int, seed: int) -> NDArray[np.float64]:
    """Test accuracy of each start with each number of labels; prints that of the old network on its own digits."""
    rng = Stream(seed)
    late, late_test = DATA.y_train > 4, DATA.y_test > 4
    copies = 10 if room else 1  # at different places
    x_old = np.concatenate([place(DATA.x_train[~late], room, rng.child("old", i)) for i in range(copies)])
    y_old = np.tile(DATA.y_train[~late], copies)
    x_new, y_new = place(DATA.x_train[late], room, rng.child("new")), DATA.y_train[late] - 5
    x_test = place(DATA.x_test, room, rng.child("test"))

    old = Network(nn.Sequential([*BODY, nn.Affine(5)]), x_old.shape[1:], device=DEVICE, rng=rng)
    trainer = trainer_of(old, seed)
    trainer.fit(x_old, y_old, epochs=20 // copies, batch_size=25)
    result = trainer.evaluate(x_test[~late_test], DATA.y_test[~late_test])
    print(f"    seed {seed}: old network, {result['accuracy']:.1%} of the digits 0 to 4 right", flush=True)

    order = rng.child("labels").permutation(len(x_new))
    found = np.zeros((len(STARTS), len(LABELS)))
    for i, start in enumerate(STARTS):
        for j, n in enumerate(LABELS):
            trainer = trainer_of(new_network(start, old, rng.child("new")), seed)
            trainer.fit(
                x_new[order[:n]], y_new[order[:n]], epochs=STEPS // math.ceil(n / BATCH_SIZE), batch_size=BATCH_SIZE
            )
            found[i, j] = trainer.evaluate(x_test[late_test], DATA.y_test[late_test] - 5)["accuracy"]
    return found


# %%
# Five runs of each task are drawn: the line is their mean, and the shade goes from the worst to the best.

import matplotlib.pyplot as plt

SEEDS = 5


def compare(task: str, room: int) -> None:
    side = 8 + room
    print(f"{task}, {side} x {side} pixels")
    runs = np.stack([accuracies(room, seed) for seed in range(SEED, SEED + SEEDS)])
    print(f"  {'accuracy with labels':<24}" + "".join(f"{n:8}" for n in LABELS) + "   trained parameters")
    untrained = Network(nn.Sequential([*BODY, nn.Affine(5)]), (side, side), rng=0)
    _, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for i, (start, marker) in enumerate(zip(STARTS, "osD", strict=True)):
        mean, count = np.mean(runs[:, i], axis=0), new_network(start, untrained, Stream(0)).parameter_count
        print(f"  {start:<24}" + "".join(f"{a:8.1%}" for a in mean) + f"{count:21,}")
        axis.plot(LABELS, mean, f"{marker}-", label=f"{start}, mean of {SEEDS} runs")
        axis.fill_between(LABELS, np.min(runs[:, i], axis=0), np.max(runs[:, i], axis=0), color=f"C{i}", alpha=0.15)
    axis.set(xscale="log", xlabel="labelled images of the digits 5 to 9", title=f"{task}, {side} x {side} pixels")
    axis.set_xticks(LABELS, map(str, LABELS))
    axis.minorticks_off()
    axis.set_ylabel("test accuracy")
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.legend(loc="lower right")
    show()


# %%
# The images as they are
# ----------------------
#
# Few labels are enough, and the old weights do not help: a first layer that was made for other digits is rather in the
# way.

compare("images as they are", room=0)

# %%
# Images at random places
# -----------------------
#
# This is hard to learn from few labels, but the features that came of many images of the old digits, at all places,
# help with the new ones. A frozen layer leaves fewer numbers to learn, and does best where labels are fewest; where
# there are more of them, it is better to train it, too.

compare("images at random places", room=4)

# %%
# Where the shades overlap, a single run would not tell which start is better.
#
# What to try
# -----------
#
# - Freeze both hidden layers, with ``FROZEN = 5``. How many parameters are left, and for how many labels is that good?
# - Take more steps, ``STEPS = 1000``. Does the network from scratch catch up?
# - The layers of :doc:`convolution` know from the start that a stroke may lie anywhere. Make ``BODY`` of them.
