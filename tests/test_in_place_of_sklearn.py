"""The estimators in programs that were written for scikit-learn's: its curves, its filters of warnings, its habits."""

import copy
import pickle
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from lanes import STATUS
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer, MinMaxScaler, scale

import portnn
from portnn import MLPClassifier, MLPRegressor, get_backend
from portnn.errors import ConfigError

BOTH = pytest.mark.parametrize("module", [neural_network, portnn], ids=["scikit-learn", "portnn"])
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS, SPECIES = datasets.load_iris(return_X_y=True)
IRIS = scale(IRIS)
WORDS = np.asarray(["setosa", "versicolor", "virginica"])[SPECIES]
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 3}

WINE = datasets.load_wine(return_X_y=True)
TASKS = {
    "wine": ("MLPClassifier", *WINE),
    "cancer": ("MLPClassifier", *datasets.load_breast_cancer(return_X_y=True)),
    "labels of wine": ("MLPClassifier", WINE[0], np.stack([WINE[1] == 0, WINE[0][:, 0] > 13], axis=1).astype(int)),
    "diabetes": ("MLPRegressor", *datasets.load_diabetes(return_X_y=True)),
}


@quiet
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "as it is"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("epochs", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_losses_are_those_of_scikit_learn(task, scaled, solver, epochs):
    name, x, y = task
    x = scale(x) if scaled else x
    # Without scaling, L-BFGS makes 1e-3 of a difference of 1e-15 within some ten iterations: its beginning is compared.
    iterations = epochs if solver != "lbfgs" else 5
    options = {"solver": solver, "max_iter": iterations, "random_state": 0, "tol": 1e-3}
    theirs, ours = (getattr(module, name)(**options).fit(x, y) for module in (neural_network, portnn))
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9)
    if solver != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@quiet
def test_a_loss_is_kept_from_infinity():
    """The data are what makes the test: without the limit, the first loss of wine is 62."""
    theirs, ours = (module.MLPClassifier(max_iter=1, random_state=0).fit(*WINE) for module in (neural_network, portnn))
    assert theirs.loss_ == pytest.approx(ours.loss_, rel=1e-12)
    assert ours.loss_ < -np.log(np.finfo(float).eps)


# ---- warnings


def test_a_filter_by_either_module_meets_every_warning():
    situations = [
        (lambda: MLPClassifier(max_iter=2).fit(IRIS, SPECIES), ConvergenceWarning),
        (lambda: MLPRegressor(solver="lbfgs", max_iter=2).fit(IRIS, SPECIES), ConvergenceWarning),
        (lambda: MLPRegressor(max_iter=100, tol=10, batch_size=500).fit(IRIS, SPECIES), UserWarning),
        (lambda: MLPClassifier(max_iter=100, tol=10).fit(IRIS, SPECIES[:, None]), DataConversionWarning),
    ]
    for act, category in situations:
        with pytest.warns(category):
            act()
        for module in ("sklearn", "portnn", r"sklearn\.neural_network", r"portnn\.estimators"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", category=category, module=module)
                act()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", category=category, module=module)
                with pytest.raises(category):
                    act()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=category, module="tensorflow")
            with pytest.raises(category):
                act()


def test_a_warning_shows_where_it_comes_from():
    with pytest.warns(ConvergenceWarning) as caught:
        MLPClassifier(max_iter=2).fit(IRIS, SPECIES)
    assert re.search(r"portnn.estimators.monitoring\.py$", caught[0].filename)


CURVES = [
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0, "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": False},
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": True},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0, "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": False},
    {"solver": "adam", "learning_rate_init": 0.01},
]


def training_curves(module):
    """What scikit-learn's example of that name does: several strategies on several sets, filtered, and their losses."""
    digits = datasets.load_digits()
    told = []
    for x, y, epochs in [
        (datasets.load_iris().data, datasets.load_iris().target, 40),
        (digits.data, digits.target, 5),
        (*datasets.make_circles(noise=0.2, factor=0.5, random_state=1), 40),
        (*datasets.make_moons(noise=0.3, random_state=0), 40),
    ]:
        x = MinMaxScaler().fit_transform(x)
        for strategy in CURVES:
            model = module.MLPClassifier(random_state=0, max_iter=epochs, **strategy)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
                model.fit(x, y)
            told.append((model.score(x, y), model.loss_, *model.loss_curve_))
    return told


@pytest.mark.slow
def test_the_example_of_training_curves_prints_the_same():
    for ours, theirs in zip(training_curves(portnn), training_curves(neural_network), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def filters_of_digits(module):
    """What scikit-learn's example on the weights of MNIST does, on its digits."""
    x, y = datasets.load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16.0, y, random_state=0, test_size=0.7)
    model = module.MLPClassifier(
        hidden_layer_sizes=(40,),
        max_iter=8,
        alpha=1e-4,
        solver="sgd",
        verbose=10,
        random_state=1,
        learning_rate_init=0.2,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        model.fit(x_train, y_train)
    print(f"{model.score(x_train, y_train)} {model.score(x_test, y_test)}")
    return model.coefs_[0].T.reshape(40, 8, 8)


def test_the_example_of_filters_prints_and_draws_the_same(capsys):
    pictures, texts = [], []
    for module in (neural_network, portnn):
        pictures.append(filters_of_digits(module))
        texts.append(capsys.readouterr().out)
    assert texts[1] == texts[0]
    assert "Iteration 8, loss" in texts[0]
    np.testing.assert_allclose(pictures[1], pictures[0], rtol=1e-9)


# ---- scores and weights


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


# ---- what programs do with a fitted network


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
