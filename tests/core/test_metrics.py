"""Metrics: what they are of all examples, however many go through the network at once."""

import copy
import math
import pickle

import numpy as np
import pytest
from helpers import get

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.errors import ConfigError, DataError, PortnnError, ShapeError
from portnn.training import EarlyStopping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype(np.float32)
# Sorted, so that no batch is like the whole.
T = np.sort(RNG.normal(size=(90, 1)), axis=0).astype(np.float32)
WEIGHTS = RNG.uniform(0.0, 2.0, size=90).astype(np.float32)


def root_mean_square(prediction, target):
    """No mean over the examples."""
    return ((prediction - target) ** 2).mean() ** 0.5


def weighted_extent(prediction, target, sample_weight=None):
    span = prediction.max() - prediction.min()
    return span if sample_weight is None else span * sample_weight.sum()


class RootMeanSquare(metrics.Sums):
    def sums(self, prediction, target, sample_weight=None):
        squares = (prediction - target)[:, 0] ** 2
        if sample_weight is None:
            return squares.sum(), float(squares.shape[0])
        return (sample_weight * squares).sum(), sample_weight.sum()

    def result(self, squares, weight):
        return (squares / weight) ** 0.5


@metrics.Mean
def off_by(prediction, target):
    return abs(prediction - target)[:, 0]


def make(device="cpu", callbacks=(), **chosen):
    net = Network(nn.Sequential([nn.Affine(3), nn.Tanh(), nn.Affine(1)]), 4, rng=0, device=device)
    return Trainer(net, losses.MeanSquaredError(), optim.SGD(0.1), metrics=chosen, rng=0, callbacks=callbacks)


@pytest.mark.parametrize("size", [7, 40, 1000])
def test_a_metric_is_that_of_all_examples(size):
    trainer = make(rms=root_mean_square, extent=weighted_extent, sums=RootMeanSquare(), off_by=off_by)
    prediction = trainer.network.predict(X)
    expected = float(root_mean_square(prediction, T))
    found = trainer.evaluate(X, T, batch_size=size)
    assert list(found) == ["loss", "rms", "extent", "sums", "off_by"]
    assert found["rms"] == pytest.approx(expected, rel=1e-5)
    assert found["sums"] == pytest.approx(expected, rel=1e-5)
    assert found["extent"] == pytest.approx(float(np.ptp(prediction)), rel=1e-5)
    assert found["off_by"] == pytest.approx(float(abs(prediction - T).mean()), rel=1e-5)


def test_in_the_library_and_on_the_device_of_the_network(backend):
    seen = []

    def spy(prediction, target):
        seen.append((prediction, target))
        return prediction[0, 0]

    trainer = make(backend, spy=spy)
    found = trainer.evaluate(X, T, batch_size=16)["spy"]
    ((prediction, target),) = seen
    assert backend.owns(prediction)
    assert backend.owns(target)
    assert prediction.shape == target.shape == (90, 1)
    np.testing.assert_array_equal(get(backend, target), T)
    assert found == pytest.approx(float(get(backend, prediction)[0, 0]))


def test_from_disk_and_in_validation(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    trainer = make(rms=root_mean_square, callbacks=[EarlyStopping("val_rms", patience=100)])
    history = trainer.fit(X, T, epochs=3, validation_data=(mapped, T))
    now = float(root_mean_square(trainer.network.predict(X), T))
    assert trainer.evaluate(mapped, T, batch_size=11)["rms"] == pytest.approx(now, rel=1e-5)
    assert min(history["val_rms"]) == pytest.approx(now, rel=1e-5)


@pytest.mark.parametrize("size", [7, 1000])
def test_weights(size):
    """Those who ask for them get them; the others count every example alike."""
    trainer = make(rms=root_mean_square, extent=weighted_extent, sums=RootMeanSquare(), off_by=off_by)
    prediction = trainer.network.predict(X)
    found = trainer.evaluate(X, T, sample_weight=WEIGHTS, batch_size=size)
    total, errors = float(WEIGHTS.sum()), abs(prediction - T)[:, 0]
    assert found["rms"] == pytest.approx(float(root_mean_square(prediction, T)), rel=1e-5)
    assert found["extent"] == pytest.approx(float(np.ptp(prediction)) * total, rel=1e-5)
    assert found["sums"] == pytest.approx(math.sqrt(float((WEIGHTS * errors**2).sum()) / total), rel=1e-5)
    assert found["off_by"] == pytest.approx(float((WEIGHTS * errors).sum()) / total, rel=1e-5)


def test_what_weighs_nothing_is_not_there():
    x = np.where(np.arange(90)[:, None] < 5, np.float32(3e38), X)
    weights = np.where(np.arange(90) < 5, 0.0, 1.0)
    net = Network(nn.Affine(1), 4, rng=0)
    trainer = Trainer(net, losses.MeanSquaredError(), optim.SGD(), metrics={"off_by": off_by, "rms": RootMeanSquare()})
    found = trainer.evaluate(x, T, sample_weight=weights)
    alone = trainer.evaluate(X[5:], T[5:])
    assert found["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert found["off_by"] == pytest.approx(alone["off_by"], rel=1e-5)


def test_accuracies_count_by_their_weights(backend):
    if str(backend) == "strict:no_x64":
        pytest.skip("argmax of array-api-strict 2.6 gives int64 on its device without int64, and so fails")
    scores, labels = backend.asarray(RNG.normal(size=(90, 3)), "float32"), backend.asarray(np.arange(90) % 3)
    weights = backend.asarray(WEIGHTS, "float32")
    right = get(backend, scores).argmax(axis=1) == np.arange(90) % 3
    expected = float((WEIGHTS * right).sum() / WEIGHTS.sum())
    assert float(metrics.accuracy(scores, labels, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(metrics.binary_accuracy(scores, scores, sample_weight=weights)) <= 1.0


@pytest.mark.parametrize("returned", [None, "0.5", [0.5, 0.5], {}, object(), 1j, np.asarray("a")])
def test_what_is_no_number_is_named(returned):
    class Odd(metrics.Sums):
        def sums(self, prediction, target, sample_weight=None):
            return returned

        def result(self, *sums):
            return 0.0

    for metric in (lambda p, t: returned, Odd()):
        with pytest.raises(PortnnError, match="metric 'forgot'"):
            make(forgot=metric).evaluate(X, T)
    with pytest.raises(PortnnError, match="metric 'forgot' must return one number"):
        make(forgot=lambda p, t: returned).fit(X, T, validation_data=(X, T))


def test_sums_of_the_wrong_kind():
    with pytest.raises(DataError, match="metric 'forgot' must return one number, not None"):
        make(forgot=lambda p, t: None).evaluate(X, T)
    with pytest.raises(ShapeError, match=r"must give one value for each example, shape \(n,\), not an array of shape"):
        make(m=metrics.Mean(lambda p, t: p)).evaluate(X, T)
    with pytest.raises(ConfigError, match="metric 'accuracy' must be callable, not 'accuracy'"):
        make(accuracy="accuracy")


def test_copies_and_pickles():
    for metric in (metrics.accuracy, metrics.binary_accuracy, off_by):
        assert pickle.loads(pickle.dumps(metric)) is metric
        assert copy.deepcopy(metric) is metric
    mean = metrics.Mean(root_mean_square)
    assert pickle.loads(pickle.dumps(mean)).function is root_mean_square


def test_of_no_numbers_is_no_number():
    nothing = np.full((4, 2), np.nan)
    assert math.isnan(metrics.accuracy(nothing, np.zeros(4, int)))
    assert math.isnan(metrics.binary_accuracy(nothing, np.zeros((4, 2))))
