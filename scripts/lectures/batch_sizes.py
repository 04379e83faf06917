"""
Batch sizes
===========

How many examples should a network look at before it changes its weights? After each one (online learning), after all of
them (the full batch), or after some (a mini-batch)? The same network is trained in all three ways, and we look at two
clocks: the epochs, and the seconds.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# A trade
# -------
#
# The gradient of a batch :math:`B` is the mean over its examples,
#
# .. math:: g_B = \frac{1}{|B|} \sum_{i \in B} \nabla L_i.
#
# The full batch gives the exact gradient of the training loss, but only one update an epoch. A single example gives a
# rough estimate of it, whose error falls with :math:`1 / \sqrt{|B|}`, but as many updates an epoch as there are
# examples. With less noise in the gradient, longer steps are safe: each size has a learning rate that suits it.

from typing import NamedTuple

from portnn.data import load_digits

DATA = load_digits()
X, Y = DATA.x_train, DATA.y_train


class Run(NamedTuple):
    size: int
    lr: float
    epochs: int


RUNS = {"online": Run(1, 0.02, 8), "mini-batch": Run(32, 0.2, 30), "full batch": Run(len(X), 1.0, 200)}

# %%
# Three trainings
# ---------------
#
# The mean loss that a training reports for an epoch is made while the weights change. To compare, we measure the
# training examples once more after each epoch, all with the same weights: we hand them over as validation data.

import numpy as np

from portnn import Network, Trainer, losses, nn, optim

GOAL = 0.1  # of the loss
MLP = nn.Sequential([nn.Flatten(), nn.Affine(32), nn.Tanh(), nn.Affine(DATA.classes)])

histories = {}
print(f"{len(X):,} images of digits")
print(f"            batch    lr   epochs    steps  seconds    loss   loss below {GOAL}")
for name, run in RUNS.items():
    net = Network(MLP, X.shape[1:], device=DEVICE, rng=SEED)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(lr=run.lr), rng=SEED)
    history = trainer.fit(X, Y, epochs=run.epochs, batch_size=run.size, validation_data=(X, Y))
    loss, seconds = history["val_loss"], np.cumsum(history["seconds"])
    below = [i for i, value in enumerate(loss) if value < GOAL]
    when = f"after {below[0] + 1} epochs, {seconds[below[0]]:.2f} s" if below else "not reached"
    result = f"{trainer.step:9,}{seconds[-1]:9.2f}{loss[-1]:8.4f}   {when}"
    print(f"{name:<11}{run.size:6,}{run.lr:6.2f}{run.epochs:9}{result}", flush=True)
    histories[name] = history

# %%
# Epochs, and seconds
# -------------------
#
# Counted in epochs, small batches win: they make more of each look at the data. Counted in seconds, the smallest do
# not: many small operations keep a processor less busy than a few large ones. A mini-batch has much of both advantages.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
for name, history in histories.items():
    label = f"{name} (size {RUNS[name].size:,}), learning rate {RUNS[name].lr}"
    for axis, passed in zip(axes, (history["epoch"], np.cumsum(history["seconds"])), strict=True):
        axis.plot(passed, history["val_loss"], ".-", label=label, linewidth=1.2, markersize=3)
for axis, clock in zip(axes, ("epochs", "seconds of training"), strict=True):
    axis.axhline(GOAL, color="#999999", linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel=clock, ylabel="training loss after the epoch")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
show()

# %%
# The seconds are those of the computer that made this page, the first epoch of each curve with what has to be prepared
# once. On a GPU, which computes hundreds of rows at once, small batches cost even more; and with a hundred times the
# examples a full batch is no longer cheap.
#
# What to try
# -----------
#
# - Train with batches of 4, 128 and 512. Which size reaches the goal in the fewest seconds on your computer?
# - Give the online run the learning rate of the mini-batch, and the full batch that of the online run.
# - Run the lecture with ``--device gpu`` or ``--backend torch``: which of the two pictures changes?
