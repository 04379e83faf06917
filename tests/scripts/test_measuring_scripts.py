"""The scripts that measure: what they compare is the same work, and their tables and files hold what they say."""

import json

import numpy as np
import pytest
from places import ROOT
from programs import refused, script

from portnn import Network
from portnn.errors import ConfigError

PNG = b"\x89PNG"


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of the folder with the benchmarks can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_a_benchmark_starts_in_any_folder(tmp_path):
    """What it shares with the programs in scripts/ is found from the file, not from where one stands."""
    done = script("benchmarks/compare_peers.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: compare_peers.py ")


def losses_of(peer, model, steps=6):
    from peers import PEERS
    from shared import RECIPES

    recipe, rng = RECIPES[model], np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 12, 12), np.uint8), rng.integers(0, 10, 200)
    net = Network(recipe.network((12, 12), 10, (16,)), (12, 12), device=PEERS[peer].device, rng=0)
    training = PEERS[peer].make(net, recipe, images, labels)
    losses = training.train(rng.integers(0, len(images), (steps, 32)))
    return np.mean(losses), training.predict(images)


PEERS = {
    "portnn torch": "torch",
    "portnn jax": "jax",
    "scikit-learn": "sklearn",
    "torch eager": "torch",
    "torch eager, channels_last": "torch",
    "JAX jit": "jax",
    "JAX jit+scan": "jax",
    "Keras": "keras",
}
PAIRS = [
    (peer, model) for peer in PEERS for model in ("small", "mlp", "cnn") if (peer, model) != ("scikit-learn", "cnn")
]


@pytest.mark.slow
@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(("peer", "model"), PAIRS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch
def test_peers_do_the_same_work(peer, model, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(PEERS[peer])
    loss, classes = losses_of("portnn numpy", model)
    other, theirs = losses_of(peer, model)
    # A peer's Adam may compute its corrections in float32; a wrong weight, batch or rate is far above 1e-3.
    assert other == pytest.approx(loss, abs=1e-3)
    assert np.mean(theirs == classes) > 0.98


@pytest.mark.usefixtures("benchmarks")
def test_a_peer_says_what_it_cannot_do():
    pytest.importorskip("sklearn")
    with pytest.raises(ConfigError, match="affine layers only"):
        losses_of("scikit-learn", "cnn")


@pytest.mark.slow
def test_compare_peers_writes_what_it_found(tmp_path):
    table, picture = tmp_path / "p.json", tmp_path / "p.png"
    peers = ["portnn numpy", "portnn numpy, no Numba", "portnn numpy, portable", "products and updates alone"]
    done = script(
        *("benchmarks/compare_peers.py", "--model", "small", "--data", "digits", "--steps", "4", "--rounds", "2"),
        *("--peers", *peers, "--json", table, "--picture", picture),
    )
    assert done.returncode == 0, done.stderr
    for peer in peers:
        assert any(line.startswith(peer) for line in done.stdout.splitlines())
    report = json.loads(table.read_text(encoding="utf-8"))
    assert [len(report["runs"][peer]) for peer in peers] == [2, 2, 2, 2]
    first, *others = (report["runs"][peer][0]["loss"] for peer in peers)
    assert others[:2] == pytest.approx([first, first], abs=1e-5)
    assert others[2] is None
    assert report["environment"]["blas"]["kernel"]
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.slow
def test_cold_start_ends_at_the_accuracy():
    done = script("benchmarks/compare_peers.py", "--model", "mlp", "--data", "digits", "--cold-start", "--rounds", "1",
                  "--peers", "portnn numpy")  # fmt: skip
    # The small digits need more than the five epochs that it looks at: said, and not timed.
    assert refused(done).endswith("portnn numpy: no test accuracy of 97% in five epochs")


@pytest.mark.slow
def test_a_pinned_kernel_is_marked():
    done = script(
        *("benchmarks/compare_peers.py", "--model", "small", "--data", "digits", "--steps", "1", "--rounds", "1"),
        *("--peers", "portnn numpy"),
        OPENBLAS_CORETYPE="Haswell",
    )
    assert "pinned by OPENBLAS_CORETYPE" in done.stdout.splitlines()[0]


@pytest.mark.slow
def test_profile_step_accounts_for_the_whole_step(tmp_path):
    table = tmp_path / "p.json"
    done = script("benchmarks/profile_step.py", "--model", "small", "--data", "digits", "--steps", "5", "--json", table)
    assert done.returncode == 0, done.stderr
    report = json.loads(table.read_text(encoding="utf-8"))
    spent = sum(row["forward"] + row["backward"] for row in report["layers"]) + sum(report["phases"].values())
    assert 0 < spent <= report["step"] * 1.2  # medians of parts, against the median of the whole
    affine = next(row for row in report["layers"] if "Affine" in row["layer"])
    assert affine["operations"] == 2 * 2 * 100 * 64 * 100  # forward, and the weights' gradient; none for the input
    assert "of ceiling" in done.stdout


@pytest.mark.slow
def test_growth(tmp_path):
    table, picture = tmp_path / "g.json", tmp_path / "g.png"
    done = script(
        *("benchmarks/measure_growth.py", "--data", "digits", "--rounds", "1", "--batch-sizes", "32", "64"),
        *("--widths", "64", "--json", table, "--picture", picture),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(table.read_text(encoding="utf-8"))
    assert list(report["batches"]) == ["32", "64"]
    assert all(run["step"] > 0 and run["memory"] > 0 for runs in report["batches"].values() for run in runs)
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(("peer", "library"), [("NumPy", "numpy"), ("torch, no_grad", "torch"), ("JAX jit", "jax")])
def test_peers_predict_the_same(peer, library):
    pytest.importorskip(library)
    from peers.predicting import PREDICTORS

    x = np.random.default_rng(0).uniform(size=(7, 784)).astype(np.float32)
    expected = PREDICTORS["portnn"]([20, 10], 3)(x)
    np.testing.assert_allclose(PREDICTORS[peer]([20, 10], 3)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_measure_predict_writes_what_it_found(tmp_path):
    table = tmp_path / "p.json"
    done = script(
        *("benchmarks/measure_predict.py", "--models", "small", "--rows", "50", "--rounds", "1", "--times", "3"),
        *("--peers", "portnn", "NumPy", "--json", table),
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(table.read_text(encoding="utf-8"))["runs"]
    assert list(runs) == ["small, 1", "small, 50"]
    for peers in runs.values():
        ours, theirs = (found["runs"][0] for found in peers.values())
        assert len(ours["wall"]) == len(theirs["cpu"]) == 3
        assert min(ours["wall"]) > 0
        assert ours["first"] == pytest.approx(theirs["first"], rel=1e-4, abs=1e-5)
    assert "small, one row" in done.stdout


@pytest.mark.slow
def test_measure_small_fits_writes_what_it_found(tmp_path):
    pytest.importorskip("sklearn")
    table = tmp_path / "s.json"
    done = script(
        *("benchmarks/measure_small_fits.py", "--data", "iris", "--solvers", "lbfgs", "sgd"),
        *("--rounds", "1", "--times", "2", "--json", table),
    )
    assert done.returncode == 0, done.stderr
    seconds = json.loads(table.read_text(encoding="utf-8"))["seconds"]
    assert list(seconds) == ["iris, lbfgs", "iris, sgd"]
    for runs in seconds.values():
        assert [len(one) for library in ("portnn", "scikit-learn") for one in runs[library]] == [3, 3]
        assert min(s for library in runs.values() for one in library for s in one) > 0
    assert "iris, lbfgs" in done.stdout
