"""A network that is too large for its training data learns their errors by heart: six runs show this, and what helps.

    python scripts/lectures/overfitting.py --device cpu

The networks learn to read the handwritten digits of scikit-learn from 200 images only, and two in five of their labels
are wrong. Two hidden layers of 64 units have room for all of these labels, also the wrong ones: without a cure the
training loss goes towards 0, while the loss on 360 images that are not trained on, and whose labels are right, falls
and then grows.

The cures: L2 keeps the weights small; dropout takes away two in five hidden units at random in each step; noise on the
pixels means that the network never sees the same image twice; early stopping ends the training when the validation loss
has not fallen for 10 epochs, and goes back to the best weights. With more data (1,437 images, as large a share of wrong
labels) the network meets each image 5 times instead of 40, which is not often enough to learn the errors by heart; in a
longer training it would. All networks start from the same weights and may take 160 steps.

The training loss is that of the steps themselves: with noise and dropout at work, and without the L2 penalty. The
images that tell early stopping when to end are also those that judge it here, which favours it a little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from lecture import Lecture, figure, present

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import Dataset, load_digits
from portnn.random import Stream
from portnn.training import EarlyStopping

UNITS, STEPS, BATCH_SIZE = 64, 160, 50


class Cure(NamedTuple):
    """How a run differs from one without a cure."""

    examples: int = 200
    noise: float = 0.0
    dropout: float = 0.0
    optimizer: optim.Optimizer = optim.Adam(0.008)
    stopping: EarlyStopping | None = None


CURES = {
    "no cure": Cure(),
    "L2": Cure(optimizer=optim.chain(optim.L2(0.02), optim.Adam(0.008))),
    "dropout": Cure(dropout=0.4),
    "noise": Cure(noise=0.4),
    "early stopping": Cure(stopping=EarlyStopping(patience=10)),
    "more data": Cure(examples=1437),
}


def train(lecture: Lecture, data: Dataset, cure: Cure) -> Trainer:
    """The trainer of a run, after it."""
    seed = lecture.seed
    shift = Stream(seed).child("wrong labels").uniform(data.y_train.shape, 1, data.classes).astype(np.int64)
    wrong = np.arange(len(data.y_train)) % 5 < 2
    labels = np.where(wrong, (data.y_train + shift) % data.classes, data.y_train)
    layers: list[nn.Layer] = [nn.Flatten(), nn.GaussianNoise(cure.noise)]
    for _ in range(2):
        layers += [nn.Affine(UNITS), nn.ReLU(), nn.Dropout(cure.dropout)]
    net = Network(nn.Sequential([*layers, nn.Affine(data.classes)]), (8, 8), device=lecture.backend, rng=seed)
    trainer = Trainer(
        net,
        losses.SoftmaxCrossEntropy(),
        cure.optimizer,
        metrics={"accuracy": metrics.accuracy},
        callbacks=[cure.stopping] if cure.stopping else [],
        rng=seed,
    )
    trainer.fit(
        data.x_train[: cure.examples],
        labels[: cure.examples],
        epochs=STEPS * BATCH_SIZE // cure.examples,
        batch_size=BATCH_SIZE,
        validation_data=(data.x_test, data.y_test),
    )
    return trainer


def main(lecture: Lecture) -> None:
    drawing, axes = figure(2, 3, width=10.0, height=5.6)
    data = load_digits()
    print("at the end:     steps  training loss  validation loss  validation accuracy")
    for axis, (name, cure) in zip(axes, CURES.items(), strict=True):
        trainer = train(lecture, data, cure)
        history, end = trainer.history, trainer.evaluate(data.x_test, data.y_test)
        print(f"{name:<15} {trainer.step:5d} {history['loss'][-1]:14.3f} {end['loss']:16.3f} {end['accuracy']:20.1%}")
        steps = np.asarray(history["epoch"]) * trainer.step / trainer.epoch
        axis.plot(steps, history["loss"], label="training")
        axis.plot(steps, history["val_loss"], label="validation")
        if cure.stopping:
            print(f"{'':<15} with the weights of epoch {cure.stopping.best_epoch} of {trainer.epoch}")
            axis.plot(steps[cure.stopping.best_epoch - 1], cure.stopping.best, "k*", label="weights that are kept")
        axis.set(xlim=(0, STEPS), ylim=(0, 3.0), xlabel="step", ylabel="cross-entropy")
        axis.label_outer()
        axis.set_title(f"{name}: {end['accuracy']:.0%} right at the end")
        axis.legend(loc="upper right", fontsize=8)
    lecture.save(drawing)


if __name__ == "__main__":
    present(main, __doc__, __file__)
