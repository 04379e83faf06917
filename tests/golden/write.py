"""What wrote the files beside it, with portnn 0.1 (commit 0c88b04). Later versions read them, and write none anew.

python tests/golden/write.py FOLDER
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np

from portnn import MLPClassifier, MLPRegressor, Network, Trainer, losses, nn, optim
from portnn.training import Callback, EarlyStopping, ReduceOnPlateau


def data():
    """Examples, class numbers and targets of a regression; the same ones always."""
    i = np.arange(60 * 6 * 6 * 2, dtype=np.float64)
    x = np.sin(0.7 * i).reshape(60, 6, 6, 2).astype(np.float32)
    return x, np.arange(60) % 3, x[:, :2, 0, 0].astype(np.float64)


def layers():
    images = [nn.Conv2D(4, (3, 2), stride=2, padding="same"), nn.BatchNorm(), nn.LeakyReLU(slope=0.2), nn.MaxPool2D()]
    rows = [nn.Flatten(), nn.Dropout(0.25), nn.Residual(nn.Affine(4)), nn.Frozen(nn.Affine(5)), nn.Affine(3)]
    return nn.Sequential([*images, *rows])


def trainer(callbacks=()):
    network = Network(layers(), (6, 6, 2), rng=3)
    watching = [EarlyStopping("val_loss", patience=3), ReduceOnPlateau("loss", patience=1)]
    adam = optim.chain(optim.ClipByNorm(1.0), optim.Adam(optim.schedules.OneCycle(0.02, 30)))
    return Trainer(network, losses.SoftmaxCrossEntropy(), adam, callbacks=[*watching, *callbacks], rng=4)


def fit(run, epochs):
    x, y, _ = data()
    run.fit(x, y, epochs=epochs, batch_size=16, validation_data=(x[:20], y[:20]))


class SavesWithinAnEpoch(Callback):
    """After the tenth step: the second of the third epoch."""

    def __init__(self, path):
        self.path = path

    def due(self, trainer):
        return trainer.step == 10

    def on_pause(self, trainer):
        if trainer.step == 10:
            trainer.save(self.path)


def main(folder: Path) -> None:
    x, y, targets = data()
    run = trainer([SavesWithinAnEpoch(folder / "checkpoint.safetensors")])
    fit(run, 5)
    run.network.save(folder / "network.safetensors")
    rows = x.reshape(60, -1).astype(np.float64)
    kwargs = {"hidden_layer_sizes": (5,), "max_iter": 3, "batch_size": 20, "random_state": 1, "dropout": 0.1}
    classifier = MLPClassifier(**kwargs, batch_norm=True).fit(rows, np.array(["ant", "bee", "cat"])[y])
    regressor = MLPRegressor(**kwargs).fit(rows, targets)
    with open(folder / "estimators.pickle", "wb") as file:
        pickle.dump((classifier, regressor), file, protocol=4)
    expected = {
        "scores": run.network.predict(x),
        "probabilities": classifier.predict_proba(rows),
        "predictions": regressor.predict(rows),
        **{f"history_{name}": run.history[name] for name in ("loss", "val_loss", "lr")},
    }
    classifier.partial_fit(rows, np.array(["ant", "bee", "cat"])[y])
    regressor.partial_fit(rows, targets)
    expected |= {"probabilities_later": classifier.predict_proba(rows), "predictions_later": regressor.predict(rows)}
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # three epochs do not converge
    main(Path(sys.argv[1]))
