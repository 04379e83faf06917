"""A run in which everything takes part that a checkpoint holds, cut anywhere, and gone on with."""

import numpy as np
import pytest
from helpers import get

from portnn import Network, Trainer, losses, metrics, nn, optim, tree
from portnn.data.augmentation import Shift
from portnn.optim import schedules
from portnn.training import Callback, EarlyStopping, ReduceOnPlateau

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4, 4, 1)).astype(np.float32)
Y = RNG.integers(0, 3, size=50)
X_NEW, Y_NEW = RNG.normal(size=(20, 4, 4, 1)).astype(np.float32), RNG.integers(0, 3, size=20)
EVERYTHING = nn.Sequential(
    [nn.Flatten(), nn.Affine(12), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.GaussianNoise(0.1), nn.Affine(3)]
)
SHIFT = Shift(1)


class CutAt(Callback):
    """Saves after a step, and ends the run as a kill would: without another word to it."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def due(self, trainer):
        return trainer.step == self.step

    def on_pause(self, trainer):
        if trainer.step == self.step:
            trainer.save(self.path)
            raise Killed


class Killed(BaseException):
    pass


def make(device="cpu", *, optimizer=None, callbacks=None, seed=0, augment=SHIFT, layer=EVERYTHING, **kwargs):
    net = Network(layer, (4, 4, 1), device=device, rng=seed)
    if callbacks is None:
        callbacks = [EarlyStopping(patience=3), ReduceOnPlateau(patience=1, factor=0.5)]
    return Trainer(
        net,
        losses.SoftmaxCrossEntropy(),
        optimizer or optim.Adam(lr=schedules.OneCycle(0.05, steps=40)),
        metrics={"accuracy": metrics.accuracy},
        callbacks=callbacks,
        augment=augment,
        rng=seed,
        **kwargs,
    )


def fit(trainer, until=8, batch_size=16):
    trainer.fit(X, Y, epochs=until - trainer.epoch, batch_size=batch_size, validation_data=(X_NEW, Y_NEW))
    return trainer


def cut(path, step, device="cpu", **kwargs):
    trainer = make(device, **kwargs)
    trainer.callbacks += (CutAt(path, step),)
    with pytest.raises(Killed):
        fit(trainer)


def resumed(path, device="cpu", **kwargs):
    trainer = make(device, seed=99, **kwargs)
    trainer.load(path)
    return trainer


def timeless(history):
    return [
        {k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")} for record in history.records
    ]


def assert_same_run(first, second):
    backend = first.network.backend
    for part in ("params", "state"):
        ours, theirs = (get(backend, getattr(t.network, part)) for t in (first, second))
        tree.map(lambda a, b: np.testing.assert_array_equal(a.tobytes(), b.tobytes()), ours, theirs)
    assert timeless(first.history) == timeless(second.history)
    assert (first.epoch, first.step, first.lr_factor, first.history.stopped) == (
        second.epoch,
        second.step,
        second.lr_factor,
        second.history.stopped,
    )
    ours, theirs = ([s for c in t.callbacks if (s := c.state()) is not None] for t in (first, second))
    assert ours == theirs
