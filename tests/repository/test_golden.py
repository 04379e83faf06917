"""What an earlier version has written is still read: `golden/write.py` says how it was made."""

from __future__ import annotations

import importlib
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from golden import write

from portnn import Network, tree

FOLDER = Path(write.__file__).parent
EXPECTED = np.load(FOLDER / "expected.npz")


def assert_about(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_a_network():
    network = Network.load(FOLDER / "network.safetensors")
    assert network.layer == write.layers()
    assert_about(network.predict(write.data()[0]), EXPECTED["scores"])


def test_a_checkpoint_within_an_epoch():
    run = write.trainer([write.SavesWithinAnEpoch("nowhere")])
    run.load(FOLDER / "checkpoint.safetensors")
    assert (run.epoch, run.step, run.progress.batches) == (2, 10, 2)
    run.callbacks = run.callbacks[:2]
    write.fit(run, 3)
    for name in ("loss", "lr"):
        assert_about(run.history[name], EXPECTED[f"history_{name}"])
    # A bias before BatchNorm has gradient 0, but for rounding, which Adam makes whole steps of: it wanders. Training
    # does not feel that, but evaluation does, where the running mean comes after it. All else is the uncut run's.
    assert_about(run.history["val_loss"], EXPECTED["history_val_loss"], 5e-3)
    network, uncut = run.network, Network.load(FOLDER / "network.safetensors")
    assert_about(network.params[0]["b"], uncut.params[0]["b"], 0.05)
    assert_about(network.state[1]["mean"], uncut.state[1]["mean"], 0.05)
    network.params[0]["b"], network.state[1]["mean"] = uncut.params[0]["b"], uncut.state[1]["mean"]
    tree.map(assert_about, (network.params, network.state), (uncut.params, uncut.state))
    assert_about(network.predict(write.data()[0]), EXPECTED["scores"])


def test_estimators():
    x, y, targets = write.data()
    rows, labels = x.reshape(60, -1).astype(np.float64), np.array(["ant", "bee", "cat"])[y]
    with warnings.catch_warnings(), open(FOLDER / "estimators.pickle", "rb") as file:
        warnings.simplefilter("ignore")  # scikit-learn's, where it is another version than the one that wrote
        classifier, regressor = pickle.load(file)
    assert_about(classifier.predict_proba(rows), EXPECTED["probabilities"])
    assert_about(regressor.predict(rows), EXPECTED["predictions"])
    classifier.partial_fit(rows, labels)
    regressor.partial_fit(rows, targets)
    assert_about(classifier.predict_proba(rows), EXPECTED["probabilities_later"])
    assert_about(regressor.predict(rows), EXPECTED["predictions_later"])


def test_every_name_is_still_there():
    """Those of 0.1 that somebody may have imported; what moved warns, and works."""
    missing = []
    for line in (FOLDER / "names.txt").read_text(encoding="utf-8").split():
        module, _, name = line.rpartition(".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                if not hasattr(importlib.import_module(module), name):
                    missing.append(line)
            except ModuleNotFoundError:
                missing.append(line)
    assert missing == []
