import numpy as np
import pytest
from helpers import get

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import ConfigError
from portnn.training import Callback, EarlyStopping, ReduceOnPlateau

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


class Script(Callback):
    """Puts written numbers in the place of a measure."""

    def __init__(self, values):
        self.values = iter(values)

    def on_epoch_end(self, trainer, record):
        record["val_loss"] = next(self.values)


def rates(values, optimizer, **options):
    """The learning rate of each epoch while a measure takes the values."""
    net = Network(nn.Affine(2), 5, rng=0)
    callbacks = [Script(values), ReduceOnPlateau(**options)]
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optimizer, callbacks=callbacks, rng=0)
    return trainer.fit(X, Y, epochs=len(values), batch_size=30)["lr"]


VALUES = [1.0, 0.9, 0.95, 0.9, 0.899, 0.91, 0.92, 0.93, 0.94, 0.95, 0.5, 0.6, 0.7, 0.6, 0.55, 0.51]


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_reduce_on_plateau_equals_torch(patience, larger):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, "max" if larger else "min", factor=0.3, patience=patience - 1, threshold=0.0, eps=0.0
    )
    expected = []
    for value in VALUES:
        expected.append(theirs.param_groups[0]["lr"])
        schedule.step(value)
    found = rates(VALUES, optim.SGD(lr=0.5), factor=0.3, patience=patience, larger_is_better=larger)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[-1] < 0.5


def test_reduce_on_plateau_has_an_end_and_goes_with_schedules():
    optimizer = optim.chain(optim.ClipByNorm(1.0), optim.Adam(lr=optim.schedules.Exponential(1.0, factor=0.5)))
    found = rates([1.0] * 6, optimizer, patience=1, factor=0.1, lowest=0.05)
    np.testing.assert_allclose(found, np.asarray([1.0, 1.0, 0.1, 0.05, 0.05, 0.05]) * 0.5 ** np.arange(6))


def test_a_lower_rate_makes_smaller_steps(backend):
    changes = []
    for factor in (1.0, 0.25):
        net = Network(nn.Affine(2), 5, device=backend, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(lr=0.4), rng=0)
        trainer.lr_factor = factor
        before = np.array(get(backend, net.params["w"]))
        trainer.partial_fit(X, Y)
        changes.append(get(backend, net.params["w"]) - before)
    np.testing.assert_allclose(changes[1], 0.25 * changes[0], rtol=1e-4, atol=1e-7)


def test_reduce_on_plateau_refuses():
    for options in ({"factor": 1.0}, {"factor": 0.0}, {"lowest": 1.0}, {"patience": 0}):
        with pytest.raises(ConfigError):
            ReduceOnPlateau(**options)
    with pytest.raises(ConfigError, match="ReduceOnPlateau watches 'val_accuracy'"):
        rates([1.0], optim.SGD(), monitor="val_accuracy")
