"""What the estimators make of weights, labels, and a network that is there already, beside scikit-learn's."""

import numpy as np
import pytest
from irises import BOTH, IRIS, SMALL, SPECIES, WORDS, quiet
from lanes import STATUS
from sklearn import neural_network
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score

import portnn
from portnn import MLPClassifier, MLPRegressor, get_backend
from portnn.errors import ConfigError, DataError, ShapeError


@quiet
@pytest.mark.parametrize("options", [{"early_stopping": True}, {"validation_data": (IRIS, SPECIES)}])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scores_on_held_out_samples_are_accuracies_whatever_the_class_weights(options, solver):
    if solver == "lbfgs" and "early_stopping" in options:
        pytest.skip("nothing is held out")
    model = MLPClassifier(**SMALL, **options, solver=solver, class_weight={0: 1.0, 1: 1000.0, 2: 1.0}, alpha=1.0)
    model.fit(IRIS, SPECIES)
    held_out = 15 if "early_stopping" in options else 150
    right = np.asarray(model.validation_scores_) * held_out
    np.testing.assert_allclose(right, np.round(right), atol=1e-9)
    assert model.history_["val_score"] == model.validation_scores_
    if held_out == 150:
        assert model.validation_scores_[-1] == accuracy_score(SPECIES, model.predict(IRIS))
        p = model.predict_proba(IRIS)[np.arange(150), SPECIES]
        assert model.history_["val_loss"][-1] == pytest.approx(-np.log(p).mean())


@quiet
def test_held_out_scores_still_count_samples_by_their_own_weights():
    weights = np.random.default_rng(0).uniform(size=150)
    options = SMALL | {"early_stopping": True}
    theirs, ours = (
        module.MLPClassifier(**options).fit(IRIS, SPECIES, sample_weight=weights) for module in (neural_network, portnn)
    )
    by_class = MLPClassifier(**options, class_weight={0: 1.0, 1: 1.0, 2: 1.0}).fit(IRIS, SPECIES, sample_weight=weights)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-12)
    assert by_class.validation_scores_ == ours.validation_scores_


@quiet
@BOTH
def test_a_full_batch_method_has_no_scores(module):
    model = module.MLPClassifier(**SMALL, solver="lbfgs").fit(IRIS, SPECIES)
    assert not hasattr(model, "validation_scores_")
    assert not hasattr(model, "best_validation_score_")
    model.set_params(solver="adam").fit(IRIS, SPECIES)
    assert model.validation_scores_ is None


@pytest.mark.parametrize("labels", [SPECIES, WORDS, SPECIES * 10.0, SPECIES.astype(np.uint16)])
def test_class_weights_on_parts_that_lack_a_class(labels):
    names = np.unique(labels)
    own = MLPClassifier(**SMALL, class_weight={names[1]: 5.0})
    twin = MLPClassifier(**SMALL)
    for part in (slice(None), slice(0, 50), slice(50, 100), slice(100, 150)):
        own.partial_fit(IRIS[part], labels[part], classes=names)
        weight = np.where(labels[part] == names[1], 5.0, 1.0)
        twin.partial_fit(IRIS[part], labels[part], classes=names, sample_weight=weight)
        np.testing.assert_allclose(own.coefs_[0], twin.coefs_[0])


@quiet
def test_class_weights_of_several_labels_on_parts_that_lack_one():
    labels = np.stack([SPECIES == 0, SPECIES == 2], axis=1).astype(int)
    own, twin = MLPClassifier(**SMALL, class_weight=[{1: 5.0}, {0: 2.0, 1: 3.0}]), MLPClassifier(**SMALL)
    for part in (slice(None), slice(0, 50), slice(50, 100)):
        own.partial_fit(IRIS[part], labels[part], classes=[0, 1])
        weight = np.where(labels[part, 0], 5.0, 1.0) * np.where(labels[part, 1], 3.0, 2.0)
        twin.partial_fit(IRIS[part], labels[part], classes=[0, 1], sample_weight=weight)
        np.testing.assert_allclose(own.coefs_[0], twin.coefs_[0])
    with pytest.raises(ValueError, match="class_weight should be a list of dicts"):
        MLPClassifier(class_weight={0: 1.0}).fit(IRIS, labels)
    with pytest.raises(ValueError, match="number of elements in class_weight should match"):
        MLPClassifier(class_weight=[{0: 1.0}]).fit(IRIS, labels)
    with pytest.raises(ValueError, match="partial_fit sees some"):
        MLPClassifier(class_weight=["balanced", {0: 1.0}]).partial_fit(IRIS, labels, classes=[0, 1])
    mixed = MLPClassifier(**SMALL, class_weight=["balanced", {0: 2.0, 1: 3.0}]).fit(IRIS, labels)
    plain = MLPClassifier(**SMALL).fit(
        IRIS, labels, sample_weight=np.where(labels[:, 0], 1.5, 0.75) * np.where(labels[:, 1], 3.0, 2.0)
    )
    np.testing.assert_allclose(mixed.coefs_[0], plain.coefs_[0])


def test_balanced_classes_in_parts_are_refused_as_sgd_refuses_them():
    for model in (SGDClassifier(class_weight="balanced"), MLPClassifier(class_weight="balanced")):
        with pytest.raises(ValueError, match="compute_class_weight"):
            model.partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    for model in (SGDClassifier(class_weight={7: 1.0}), MLPClassifier(class_weight={7: 1.0})):
        with pytest.raises(ValueError, match="are not in class_weight"):
            model.partial_fit(IRIS, SPECIES, classes=[0, 1, 2])


# ---- labels of every type


TYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int64", "bool", "float32"]
LIBRARIES = [("numpy", dtype) for dtype in TYPES]
LIBRARIES += [pytest.param("torch", t, marks=() if t in ("uint16", "uint64") else pytest.mark.slow) for t in TYPES]
LIBRARIES += [pytest.param("jax", dtype, marks=pytest.mark.slow) for dtype in TYPES]


@quiet
@pytest.mark.parametrize(("library", "dtype"), LIBRARIES)
def test_labels_of_every_type_beside_samples_of_every_library(library, dtype):
    if not STATUS[library].usable:
        pytest.skip(STATUS[library].message)
    home = get_backend(library)
    x, y = home.asarray(IRIS, "float32"), (SPECIES * 100 if dtype not in ("bool", "int8") else SPECIES).astype(dtype)
    for given in (y, home.asarray(y) if home.supports(dtype) else y):
        model = MLPClassifier(**SMALL, early_stopping=True).fit(x, given)
        chosen = np.argmax(home.to_numpy(model.predict_proba(x)), axis=1)
        assert home.owns(model.predict(x))
        np.testing.assert_array_equal(home.to_numpy(model.predict(x)), np.unique(y)[chosen])
        assert model.score(x, given) == np.mean(np.unique(y)[chosen] == y)
        model = MLPClassifier(**SMALL, validation_data=(x, given)).partial_fit(x, given, classes=np.unique(y))
        model.partial_fit(x, given, sample_weight=np.ones(150, np.uint16))
        assert home.owns(model.predict(x))


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_16_bit_samples_of_every_library(kind):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = [IRIS.astype(getattr(ml_dtypes, kind, kind))]
    if STATUS["torch"].usable:
        import torch

        arrays.append(torch.asarray(IRIS).to(getattr(torch, kind)))
    if STATUS["jax"].usable:
        import jax.numpy as jnp

        arrays.append(jnp.asarray(IRIS, kind))
    for x in arrays:
        home = portnn.backend_of(x)
        weight = abs(x[:, 0]) + 1
        model = MLPRegressor(**SMALL, validation_data=(x, x[:, 1], weight)).fit(x, x[:, 2], sample_weight=weight)
        assert home.owns(model.predict(x))
        assert np.isfinite(model.score(x, x[:, 2], sample_weight=weight))
        assert MLPClassifier(**SMALL).fit(x, SPECIES).predict_proba(x).shape == (150, 3)


# ---- warm start


@quiet
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"hidden_layer_sizes": (6, 7)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": (6,)}, "hidden_layer_sizes"),
        ({"activation": "tanh"}, "activation"),
        ({"dropout": 0.5}, "dropout"),
        ({"batch_norm": True}, "batch_norm"),
        ({"device": "strict"}, "device"),
    ],
)
def test_a_warm_start_with_another_network_is_refused(change, name):
    model = MLPClassifier(**SMALL, warm_start=True).fit(IRIS, SPECIES)
    before = model.coefs_[0].copy()
    model.set_params(**change)
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ConfigError, match=f"network that there is, of {name}="):
            go_on(IRIS, SPECIES)
    np.testing.assert_array_equal(model.coefs_[0], before)
    if name != "device":
        model.set_params(warm_start=False).fit(IRIS, SPECIES)
    again = MLPClassifier(**SMALL, warm_start=True, activation=["relu", "tanh"], dropout=[0.0, 0.1]).fit(IRIS, SPECIES)
    again.set_params(hidden_layer_sizes=[6, 5], activation=("relu", "tanh"), dropout=np.asarray([0.0, 0.1]))
    again.fit(IRIS, SPECIES)


@quiet
def test_a_warm_start_with_samples_of_another_kind_says_so():
    model = MLPClassifier(**SMALL, warm_start=True).fit(IRIS, SPECIES)
    with pytest.warns(UserWarning, match="X has dtype float32, and fit with warm_start=True goes on in float64"):
        model.fit(IRIS.astype(np.float32), SPECIES)
    strict = get_backend("strict")
    with pytest.warns(UserWarning, match="X lives on device strict:device1, .* goes on on numpy:cpu"):
        model.fit(strict.asarray(IRIS), SPECIES)


@quiet
def test_samples_of_other_libraries_that_are_no_matrix_are_named():
    torch = pytest.importorskip("torch")
    x = torch.asarray(IRIS)
    model = MLPClassifier(**SMALL).fit(x, SPECIES)
    for act in (model.fit, model.partial_fit, lambda x, y: model.predict(x)):
        with pytest.raises(DataError, match=r"X is a sparse matrix, torch's Tensor, .*: write X\.to_dense\(\)"):
            act(x.to_sparse(), SPECIES)
    with pytest.raises(ShapeError, match=r"Expected 2D array, .* for a single sample, write X\[None\]"):
        model.predict(x[0])
