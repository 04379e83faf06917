"""Semi-supervised training with pseudo-labels."""

import numpy as np
import pytest
from helpers import get, put

from portnn import Network, Trainer, losses, metrics, nn, optim
from portnn.data import load_digits
from portnn.errors import ConfigError, DataError, ShapeError
from portnn.training import Callback, fit_with_pseudo_labels, pseudo_labels

DIGITS = load_digits()
FEW = slice(0, 60)
LABELLED = DIGITS.x_train[FEW], DIGITS.y_train[FEW]
OTHERS = DIGITS.x_train[60:]


def make(device="cpu", **options):
    net = Network(nn.Sequential([nn.Flatten(), nn.Affine(64), nn.ReLU(), nn.Affine(10)]), (8, 8), device=device, rng=0)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.003)
    return Trainer(net, loss, optimizer, metrics={"accuracy": metrics.accuracy}, rng=0, **options)


def test_only_what_is_sure(backend):
    net = Network(nn.Affine(3, weight_init=nn.Zeros()), 2, device=backend)
    net.params = put(backend, {"w": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]], "b": np.zeros(3)}, "float32")
    x = put(backend, [[1.0, 0.0], [0.1, 0.1], [0.0, 2.0], [0.0, 0.0]], "float32")
    index, classes = get(backend, pseudo_labels(net, x, threshold=0.9))
    assert (index.tolist(), classes.tolist()) == ([0, 2], [0, 1])
    index, classes = get(backend, pseudo_labels(net, x, threshold=0.9999))
    assert index.shape == classes.shape == (0,)
    assert get(backend, pseudo_labels(net, x, threshold=0.0))[0].tolist() == [0, 1, 2, 3]


def test_unlabelled_examples_help():
    trainer = make()
    trainer.fit(*LABELLED, epochs=150)
    alone = trainer.evaluate(DIGITS.x_test, DIGITS.y_test)["accuracy"]
    history = fit_with_pseudo_labels(trainer, *LABELLED, OTHERS, rounds=20, epochs=2, threshold=0.9)
    assert len(history) == 190
    assert np.isnan(history["pseudo_labels"][149])
    assert history["pseudo_labels"][150] < history["pseudo_labels"][-1] <= len(OTHERS)
    assert trainer.evaluate(DIGITS.x_test, DIGITS.y_test)["accuracy"] > alone + 0.03


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_weight_of_the_others(weight, backend):
    trainer, by_hand = make(backend), make(backend)
    history = fit_with_pseudo_labels(
        trainer, *LABELLED, OTHERS[:40], rounds=1, threshold=0.0, weight=weight, batch_size=100
    )
    own = get(backend, pseudo_labels(by_hand.network, OTHERS[:40], threshold=0.0)[1])
    labels, weights = np.concatenate([LABELLED[1], own]), np.asarray([1.0] * 60 + [weight] * 40)
    by_hand.fit(DIGITS.x_train[:100], labels, batch_size=100, sample_weight=weights)
    assert history["pseudo_labels"] == [40]
    assert history["loss"] == pytest.approx(by_hand.history["loss"], rel=1e-5)


class StopAtOnce(Callback):
    def on_epoch_end(self, trainer, record):
        trainer.stop()


def test_a_stop_ends_all_rounds():
    trainer = make(callbacks=[StopAtOnce()])
    history = fit_with_pseudo_labels(trainer, *LABELLED, OTHERS, rounds=4, epochs=3)
    assert len(history) == 1


def test_refused():
    trainer = make()
    for options in ({"rounds": 0}, {"threshold": 1.0}, {"weight": -1.0}, {"epochs": 0}):
        with pytest.raises(ConfigError):
            fit_with_pseudo_labels(trainer, *LABELLED, OTHERS, **options)
    with pytest.raises(ConfigError, match="give both as bytes, or both as numbers"):
        fit_with_pseudo_labels(trainer, *LABELLED, OTHERS.astype(np.uint8))
    with pytest.raises(ShapeError, match="y must be class numbers"):
        fit_with_pseudo_labels(trainer, LABELLED[0], np.eye(10)[LABELLED[1]], OTHERS)
    with pytest.raises(DataError, match="class numbers must be integers"):
        fit_with_pseudo_labels(trainer, LABELLED[0], LABELLED[1].astype(float), OTHERS)
    with pytest.raises(ShapeError, match="scores of classes"):
        pseudo_labels(Network(nn.Affine(1), 2), np.zeros((3, 2)))
