"""What programs do with a fitted network of scikit-learn's, done with ours: put together, shrunk, stored, converted."""

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from irises import BOTH, IRIS, SMALL, SPECIES, WORDS, quiet
from sklearn import neural_network
from sklearn.preprocessing import LabelBinarizer

import portnn
from portnn import MLPClassifier, MLPRegressor
from portnn.errors import ConfigError


def fitted(module, kind="MLPClassifier", **options):
    y = {"MLPClassifier": SPECIES, "MLPRegressor": IRIS[:, 0] ** 2}[kind]
    return getattr(module, kind)(**SMALL | options).fit(IRIS, y)


@quiet
@pytest.mark.parametrize("labels", [SPECIES, SPECIES == 1, WORDS, np.stack([SPECIES == 0, SPECIES == 1], axis=1)])
def test_a_classifier_put_together_by_hand_predicts(labels):
    trained = neural_network.MLPClassifier(**SMALL).fit(IRIS, labels)
    for module in (neural_network, portnn):
        model = module.MLPClassifier(hidden_layer_sizes=(6, 5))
        model.coefs_ = [w.copy() for w in trained.coefs_]
        model.intercepts_ = [b.copy() for b in trained.intercepts_]
        model.n_layers_, model.n_outputs_ = 4, trained.n_outputs_
        model.out_activation_ = trained.out_activation_
        model.classes_ = trained.classes_
        model._label_binarizer = LabelBinarizer().fit(labels)
        np.testing.assert_array_equal(model.predict(IRIS), trained.predict(IRIS))
        np.testing.assert_allclose(model.predict_proba(IRIS), trained.predict_proba(IRIS))
        np.testing.assert_allclose(model.predict_log_proba(IRIS), trained.predict_log_proba(IRIS))
        assert model.score(IRIS, labels) == trained.score(IRIS, labels)
    if labels.ndim == 1:  # enough for us
        del model._label_binarizer
        np.testing.assert_array_equal(model.predict(IRIS), trained.predict(IRIS))


@quiet
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_a_regressor_put_together_by_hand_predicts_and_learns(loss):
    y = IRIS[:, 0] ** 2
    trained = neural_network.MLPRegressor(loss, **SMALL).fit(IRIS, y)
    for module in (neural_network, portnn):
        model = module.MLPRegressor(loss, **SMALL)
        model.coefs_, model.intercepts_ = copy.deepcopy(trained.coefs_), copy.deepcopy(trained.intercepts_)
        model.n_layers_, model.out_activation_ = 4, trained.out_activation_
        np.testing.assert_allclose(model.predict(IRIS), trained.predict(IRIS))
    model.partial_fit(IRIS, y)
    assert abs(model.coefs_[0] - trained.coefs_[0]).max() < 0.01
    assert model.n_iter_ == 1


@quiet
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}])
def test_everything_of_a_network_of_scikit_learn_can_be_taken_over(options):
    theirs, ours = fitted(neural_network, **options), MLPClassifier(**SMALL)
    vars(ours).update(vars(theirs) | {"early_stopping": False})
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS))
    ours.partial_fit(IRIS, SPECIES)
    assert np.isfinite(ours.loss_)
    assert ours.t_ > theirs.t_


@quiet
def test_the_best_epoch_can_be_forgotten():
    model = fitted(portnn, early_stopping=True)
    before = model.predict_proba(IRIS)
    model._best_coefs = model._best_intercepts = None
    assert model._best is None
    del model._optimizer
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict_proba(IRIS), before)
    assert np.isfinite(again.set_params(early_stopping=False).partial_fit(IRIS, SPECIES).loss_)
    with pytest.raises(AttributeError, match="set coefs_"):
        model._best_coefs = model.coefs_


@quiet
@BOTH
def test_weights_of_other_shapes_put_into_a_fitted_network_are_used(module):
    model = fitted(module)
    small = neural_network.MLPClassifier((3,), activation="relu", max_iter=5, random_state=0).fit(IRIS, SPECIES)
    model.coefs_, model.intercepts_, model.n_layers_ = small.coefs_, small.intercepts_, 3
    np.testing.assert_allclose(model.predict_proba(IRIS), small.predict_proba(IRIS))
    if module is portnn:
        with pytest.raises(ConfigError, match=r"coefs_ have the shapes \[\(4, 3\), \(3, 3\)\], and the network to be"):
            model.partial_fit(IRIS, SPECIES)
        model = fitted(module, batch_norm=True)
        model.coefs_ = small.coefs_
        with pytest.raises(ConfigError, match="with batch_norm=True, the normalisation that belongs to them"):
            model.predict(IRIS)


@quiet
@pytest.mark.parametrize("name", ["identity", "logistic", "softmax", "tanh", "relu"])
def test_another_output_activation_is_used(name):
    theirs, ours = fitted(neural_network), fitted(portnn)
    theirs.out_activation_ = ours.out_activation_ = name
    np.testing.assert_allclose(ours._forward_pass_fast(IRIS), theirs._forward_pass_fast(IRIS), rtol=1e-7)
    if name != "logistic":  # of which ours makes probabilities of classes
        np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), rtol=1e-7)
    ours.out_activation_ = "cosine"
    with pytest.raises(ConfigError, match="out_activation_ is one of identity, exp, softmax"):
        ours.predict_proba(IRIS)


@quiet
def test_private_methods_that_programs_call():
    theirs, ours = fitted(neural_network), fitted(portnn)
    outputs = [m._forward_pass_fast(IRIS, check_input=False) for m in (theirs, ours)]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-7)
    layers = [m._forward_pass([IRIS, None, None, None]) for m in (theirs, ours)]
    assert len(layers[1]) == 4
    for one, other in zip(*layers, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-7)
    assert ours._no_improvement_count == theirs._no_improvement_count
    for one, other in zip(
        fitted(neural_network, early_stopping=True)._best_coefs,
        fitted(portnn, early_stopping=True)._best_coefs,
        strict=True,
    ):
        np.testing.assert_allclose(other, one, rtol=1e-7)
    assert [b.shape for b in ours._best_intercepts] == [(6,), (5,), (3,)]
    packed = np.concatenate([a.ravel() for a in (*ours.coefs_, *ours.intercepts_)])
    ours._unpack(packed * 0.0)
    np.testing.assert_allclose(ours.predict_proba(IRIS), 1 / 3)
    ours._unpack(packed)
    np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), rtol=1e-7)
    normed = fitted(portnn, batch_norm=True, dropout=0.2, device="strict")
    last = normed._forward_pass([IRIS, None, None, None])[-1]
    np.testing.assert_allclose(normed._trainer.network.backend.to_numpy(last), normed.predict_proba(IRIS))


@quiet
@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"early_stopping": True}])
def test_a_file_is_smaller_without_the_optimizer_and_with_half_the_precision(options):
    model = fitted(portnn, hidden_layer_sizes=(200,), **options)
    whole, before = len(pickle.dumps(model)), model.predict_proba(IRIS)
    model._optimizer = None
    model.coefs_ = [w.astype(np.float16) for w in model.coefs_]
    model.intercepts_ = [b.astype(np.float16) for b in model.intercepts_]
    stored = pickle.dumps(model)
    numbers = sum(a.size for a in (*model.coefs_, *model.intercepts_))
    # Two moments of Adam, the best epoch's and the network's own are gone; but the network knows how to normalise.
    kept = 8 * numbers if "batch_norm" in options else 0
    assert len(stored) < whole - 3 * 8 * numbers + kept + 2 * numbers
    for again in (model, pickle.loads(stored), copy.deepcopy(model)):
        np.testing.assert_allclose(again.predict_proba(IRIS), before, atol=0.01)
        again.set_params(early_stopping=False).partial_fit(IRIS, SPECIES)
        assert np.isfinite(again.loss_)


@pytest.mark.slow
def test_what_is_no_instance_can_be_made_one():
    """As the documentation says; in a process of its own, as nobody can unregister."""
    code = (
        "from sklearn import neural_network; from portnn import MLPClassifier\n"
        "print(isinstance(MLPClassifier(), neural_network.MLPClassifier))\n"
        "neural_network.MLPClassifier.register(MLPClassifier)\n"
        "print(isinstance(MLPClassifier(), neural_network.MLPClassifier))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@quiet
def test_skops_writes_and_reads_a_fitted_estimator():
    skops = pytest.importorskip("skops.io")
    for options in ({}, {"solver": "lbfgs"}, {"dropout": 0.1, "batch_norm": True, "early_stopping": True}):
        model = fitted(portnn, **options)
        stored = skops.dumps(model)
        loaded = skops.loads(stored, trusted=skops.get_untrusted_types(data=stored))
        np.testing.assert_array_equal(loaded.predict_proba(IRIS), model.predict_proba(IRIS))
        loaded.set_params(early_stopping=False, solver="adam").partial_fit(IRIS, SPECIES)
        assert np.isfinite(loaded.loss_)


@quiet
def test_onnx_by_the_lines_of_the_documentation():
    pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    lines = portnn.estimators.__doc__.partition("::\n")[2].partition("\nskops")[0]
    exec(textwrap.dedent(lines), {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor})
    from skl2onnx import to_onnx

    x = IRIS.astype(np.float32)
    for y in (SPECIES, WORDS, SPECIES == 1):
        model = MLPClassifier(**SMALL).fit(x, y)
        written = to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString()
        labels, p = runtime.InferenceSession(written, providers=["CPUExecutionProvider"]).run(None, {"X": x})
        np.testing.assert_array_equal(labels, model.predict(x))
        np.testing.assert_allclose(p, model.predict_proba(x), atol=1e-5)
    model = MLPRegressor(**SMALL).fit(x, IRIS[:, 0])
    session = runtime.InferenceSession(to_onnx(model, x[:1]).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": x})[0][:, 0], model.predict(x), atol=1e-5)
