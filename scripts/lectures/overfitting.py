"""
Overfitting, and what helps
===========================

A network that is too large for its training data learns their errors by heart. You see it where the training loss goes
on falling while the loss on other examples, the validation loss, begins to rise. Six trainings show this, and five
cures.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# Data with errors in them
# ------------------------
#
# The networks learn to read handwritten digits from 200 images only, and two in five of their labels are wrong. The 360
# images of the validation have their right labels, and are not trained on.

import numpy as np

from portnn.data import load_digits
from portnn.random import Stream

DATA = load_digits()
shift = Stream(SEED).child("wrong labels").uniform(DATA.y_train.shape, 1, DATA.classes).astype(np.int64)
wrong = np.arange(len(DATA.y_train)) % 5 < 2
LABELS = np.where(wrong, (DATA.y_train + shift) % DATA.classes, DATA.y_train)

# %%
# One training
# ------------
#
# Two hidden layers of 64 units have room for all labels, also for the wrong ones. All networks start from the same
# weights, and may take 160 steps. What differs between two trainings is a ``Cure``.

from typing import NamedTuple

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.training import EarlyStopping

UNITS, STEPS, BATCH_SIZE = 64, 160, 50


class Cure(NamedTuple):
    examples: int = 200
    noise: float = 0.0
    dropout: float = 0.0
    optimizer: optim.Optimizer = optim.Adam(0.008)
    stopping: EarlyStopping | None = None


def train(cure: Cure) -> Trainer:
    layers: list[nn.Layer] = [nn.Flatten(), nn.GaussianNoise(cure.noise)]
    for _ in range(2):
        layers += [nn.Affine(UNITS), nn.ReLU(), nn.Dropout(cure.dropout)]
    net = Network(nn.Sequential([*layers, nn.Affine(DATA.classes)]), (8, 8), device=DEVICE, rng=SEED)
    trainer = Trainer(
        net,
        losses.SoftmaxCrossEntropy(),
        cure.optimizer,
        metrics={"accuracy": metrics.accuracy},
        callbacks=[cure.stopping] if cure.stopping else [],
        rng=SEED,
    )
    trainer.fit(
        DATA.x_train[: cure.examples],
        LABELS[: cure.examples],
        epochs=STEPS * BATCH_SIZE // cure.examples,
        batch_size=BATCH_SIZE,
        validation_data=(DATA.x_test, DATA.y_test),
    )
    return trainer


# %%
# For each training we draw both losses, and print where they end.

import matplotlib.pyplot as plt


def compare(cures: dict[str, Cure]) -> None:
    _, axes = plt.subplots(1, len(cures), figsize=(3.2 * len(cures) + 0.6, 3.2), layout="constrained", squeeze=False)
    print("at the end:     steps  training loss  validation loss  validation accuracy")
    for axis, (name, cure) in zip(axes[0], cures.items(), strict=True):
        trainer = train(cure)
        history, end = trainer.history, trainer.evaluate(DATA.x_test, DATA.y_test)
        print(f"{name:<15} {trainer.step:5d} {history['loss'][-1]:14.3f} {end['loss']:16.3f} {end['accuracy']:20.1%}")
        steps = np.asarray(history["epoch"]) * trainer.step / trainer.epoch
        axis.plot(steps, history["loss"], label="training")
        axis.plot(steps, history["val_loss"], label="validation")
        if cure.stopping:
            print(f"{'':<15} with the weights of epoch {cure.stopping.best_epoch} of {trainer.epoch}")
            axis.plot(steps[cure.stopping.best_epoch - 1], cure.stopping.best, "k*", label="weights that are kept")
        axis.set(xlim=(0, STEPS), ylim=(0, 3.0), xlabel="step", ylabel="cross-entropy")
        axis.label_outer()
        axis.set_title(f"{name}: {end['accuracy']:.0%} right")
        axis.legend(loc="upper right", fontsize=8)
    show()


# %%
# Without a cure
# --------------
#
# The training loss goes towards 0: the network learns all labels. The validation loss falls for some 50 steps, while
# the network learns what the digits have in common, and then rises, while it learns by heart.

compare({"no cure": Cure()})

# %%
# Why is the validation loss *below* the training loss at first? The training labels are wrong in two cases of five, and
# those of the validation are right. Before the errors are learned by heart, they cost nothing but on the training data.

# %%
# Three cures that make it harder
# -------------------------------
#
# - L2 keeps the weights small: it adds :math:`\tfrac{\lambda}{2} |w|^2` to the loss, here with :math:`\lambda = 0.02`.
# - Dropout takes away two in five hidden units, other ones in each step.
# - Noise on the pixels means that the network never sees the same image twice.

compare(
    {
        "L2": Cure(optimizer=optim.chain(optim.L2(0.02), optim.Adam(0.008))),
        "dropout": Cure(dropout=0.4),
        "noise": Cure(noise=0.4),
    }
)

# %%
# Here the validation loss stays below the training loss to the end, for two reasons. The wrong labels are no longer
# learned, so they go on costing. And the training loss is that of the steps themselves, with noise and dropout at work,
# which are switched off for the validation: the validation sees all units, and clean images. (The L2 penalty is in
# neither of the two curves.)

# %%
# Stop in time, or find more data
# -------------------------------
#
# Early stopping ends the training when the validation loss has not fallen for 10 epochs, and goes back to the best
# weights. With more data, 1,437 images with as large a share of wrong labels, the network meets each image 5 times
# instead of 40: not often enough to learn the errors by heart. In a longer training it would.

compare({"early stopping": Cure(stopping=EarlyStopping(patience=10)), "more data": Cure(examples=1437)})

# %%
# More data are the best cure, and the most expensive one. The images that tell early stopping when to end are also
# those that judge it here, which favours it a little.
#
# What to try
# -----------
#
# - Use two cures at once, for example dropout and early stopping. Do their gains add up?
# - Take ``UNITS = 8``, so that the network has no room for the errors. Does it need a cure?
# - Make all labels right, with ``LABELS = DATA.y_train``. Where do the curves cross now?
