import numpy as np
import pytest
from helpers import get

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import ConfigError
from portnn.training import Callback, EarlyStopping

X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
# Nothing can be learned: the sooner it stops, the better.
Y, Y_NEW = np.random.default_rng(1).integers(0, 2, size=(2, 30))


class Snapshots(Callback):
    """The parameters after each epoch."""

    def __init__(self):
        self.kept = []

    def on_epoch_end(self, trainer, record):
        self.kept.append(tree.map(lambda p: np.array(trainer.network.backend.to_numpy(p)), trainer.network.params))


def train(device="cpu", epochs=60, **kwargs):
    watch, stopping = Snapshots(), EarlyStopping(**kwargs)
    net = Network(nn.Sequential([nn.Affine(32), nn.BatchNorm(), nn.Tanh(), nn.Affine(2)]), 5, device=device, rng=0)
    optimizer = optim.Adam(lr=0.02)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optimizer, callbacks=[watch, stopping], rng=0)
    history = trainer.fit(X, Y, epochs=epochs, batch_size=10, validation_data=(X, Y_NEW))
    return trainer, history, watch.kept, stopping


def test_stops_after_patience_and_goes_back_to_the_best(backend):
    trainer, history, kept, stopping = train(backend, patience=4)
    best = int(np.argmin(history["val_loss"]))
    assert history.stopped
    assert (stopping.best_epoch, stopping.best) == (best + 1, history["val_loss"][best])
    assert len(history) == best + 1 + 4
    tree.map(np.testing.assert_array_equal, get(backend, trainer.network.params), kept[best])
    assert trainer.evaluate(X, Y_NEW)["loss"] == pytest.approx(history["val_loss"][best], rel=1e-5)
    # The best parameters are still the network's own: training can go on.
    trainer.callbacks = ()
    assert not trainer.fit(X, Y, epochs=1).stopped


def test_without_restoring():
    trainer, _, kept, _ = train(patience=4, restore_best=False)
    tree.map(np.testing.assert_array_equal, trainer.network.params, kept[-1])


def test_restores_also_where_the_epochs_run_out():
    trainer, history, kept, _ = train(epochs=8, patience=100)
    assert not history.stopped
    tree.map(np.testing.assert_array_equal, trainer.network.params, kept[int(np.argmin(history["val_loss"]))])


def test_small_gains_do_not_count():
    _, history, _, stopping = train(monitor="loss", patience=3, min_delta=10.0)
    assert stopping.best_epoch == 1
    assert len(history) == 4


def test_larger_can_be_better():
    _, history, _, stopping = train(monitor="val_loss", patience=3, larger_is_better=True, epochs=10)
    assert stopping.best == max(history["val_loss"])


def test_errors():
    with pytest.raises(ConfigError, match="EarlyStopping watches 'val_accuracy', and the history has epoch, loss"):
        train(monitor="val_accuracy")
    with pytest.raises(ConfigError, match="patience must be a positive int"):
        EarlyStopping(patience=0)
    with pytest.raises(ConfigError, match="min_delta must be"):
        EarlyStopping(min_delta=-1)
