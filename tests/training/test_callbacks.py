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


# ---- values that are not finite, and columns that are not there


NAN, INF = float("nan"), float("inf")


def epochs_until_the_end(values, **options):
    net = Network(nn.Affine(2), 5, rng=0)
    stopping = EarlyStopping(**options)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(), callbacks=[Script(values), stopping], rng=0)
    return len(trainer.fit(X, Y, epochs=len(values), batch_size=30)), stopping


@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("first", [1.0, NAN, INF])
def test_the_first_epoch_is_the_best_so_far_whatever_its_value(first, patience):
    """As in Keras: ``patience`` epochs after it, and not with it."""
    values = [first] + [first] * 9
    done, stopping = epochs_until_the_end(values, patience=patience)
    assert done == 1 + patience
    assert stopping.best_epoch == 1
    found = rates(values, optim.SGD(lr=1.0), patience=patience)
    assert found.index(min(found[: patience + 2])) == patience + 1
    assert found[: patience + 1] == [1.0] * (patience + 1)


def test_numbers_are_better_than_none():
    done, stopping = epochs_until_the_end([NAN, NAN, INF, 2.0, 1.0, NAN, 1.5, 1.5], patience=3)
    assert (done, stopping.best, stopping.best_epoch) == (8, 1.0, 5)
    done, stopping = epochs_until_the_end([NAN, 0.5, 0.25, 0.75], patience=9, larger_is_better=True)
    assert (stopping.best, stopping.best_epoch) == (0.75, 4)


def never_trains(monitor, callbacks=(), optimizer=None, **data):
    """What is said before the first step."""
    net = Network(nn.Affine(2), 5, rng=0)
    watches = [EarlyStopping(monitor), *([] if isinstance(optimizer, optim.FullBatch) else [ReduceOnPlateau(monitor)])]
    trainer = Trainer(
        net, losses.SoftmaxCrossEntropy(), optimizer or optim.SGD(), rng=0, callbacks=[*callbacks, *watches],
        metrics={"half": lambda p, t: 0.5},
    )  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        trainer.fit(X, Y, epochs=2, **data)
    assert trainer.step == 0
    return str(raised.value)


def test_a_column_that_will_not_be_there_is_told_before_the_first_step(tmp_path):
    from portnn.training import Checkpoint, CSVLog, ProgressBar

    ours = [ProgressBar(), CSVLog(tmp_path / "log"), Checkpoint(tmp_path / "c")]
    sentence = never_trains("val_loss", ours)
    assert sentence.startswith("EarlyStopping watches 'val_loss', and the history has epoch, loss, seconds, ")
    assert sentence.endswith("lr (val_... needs validation_data)")
    assert "val_half" in never_trains("val_accuracy", validation_data=(X, Y))
    assert "evaluations" in never_trains("lr", optimizer=optim.LBFGS())


@pytest.mark.parametrize("monitor", ["loss", "lr", "val_loss", "val_half", "skipped", "seconds"])
def test_columns_that_will_be_there_are_no_matter(monitor):
    net = Network(nn.Affine(2), 5, rng=0)
    trainer = Trainer(
        net, losses.SoftmaxCrossEntropy(), optim.Accumulate(2, optim.Adam()), rng=0, on_nonfinite="skip",
        callbacks=[EarlyStopping(monitor), ReduceOnPlateau(monitor)], metrics={"half": lambda p, t: 0.5},
    )  # fmt: skip
    history = trainer.fit(X, Y, epochs=2, validation_data=(X, Y))
    assert set(trainer.columns) == set(history.records[0])


def test_a_column_of_another_callback_is_waited_for():
    class Both(EarlyStopping):
        def on_epoch_end(self, trainer, record):
            record["own"] = 1.0
            super().on_epoch_end(trainer, record)

    assert epochs_until_the_end([1.0, 2.0], monitor="val_loss")[0] == 2
    net = Network(nn.Affine(2), 5, rng=0)
    Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(), callbacks=[Both("own")], rng=0).fit(X, Y, epochs=2)
