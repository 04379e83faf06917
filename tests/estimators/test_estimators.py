"""The estimators against scikit-learn's own, with arrays of every library, and with what they have beyond it."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers import assert_here
from lanes import USABLE, open_lane
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale

import portnn
from portnn import MLPClassifier, MLPRegressor, functional, losses, nn, optim
from portnn.errors import BackendError, ConfigError, PortnnError
from portnn.training import Callback, EarlyStopping

# Short runs, which do not converge, and say so; `test_warnings_are_those_of_scikit_learn` looks at that.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = scale(IRIS)
DIABETES, PROGRESSION = load_diabetes(return_X_y=True)
PROGRESSION = scale(PROGRESSION)
WEIGHTS = np.random.default_rng(0).uniform(size=len(IRIS))
BINARY = np.where(SPECIES == 1, "yes", "no")
LABELS = np.column_stack([SPECIES == 0, IRIS[:, 0] > 0, IRIS[:, 1] > 0]).astype(int)
COUNTS = np.random.default_rng(1).poisson(np.exp(0.5 * IRIS[:, 0])).astype(float)
SMALL = {"hidden_layer_sizes": (12, 8), "max_iter": 15, "random_state": 3}


def test_the_reference_is_scikit_learn():
    assert neural_network.MLPClassifier.__module__.startswith("sklearn.")


def names(parameters):
    return [(p.name, p.kind, p.default) for p in parameters]


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_the_constructor_is_that_of_scikit_learn_with_keywords_behind(name):
    theirs, ours = (
        names(inspect.signature(getattr(module, name)).parameters.values()) for module in (neural_network, portnn)
    )
    assert ours[: len(theirs)] == theirs
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in ours[len(theirs) :])
    extras = {"device", "dropout", "batch_norm", "l1_ratio", "optimizer", "validation_data", "restore_best"}
    assert extras | {"callbacks", "augment", "progress"} <= {name for name, _, _ in ours}


COURSES = {
    "adam": {},
    "adam-logistic": {"activation": "logistic", "alpha": 1.0, "epsilon": 1e-3, "beta_2": 0.9},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1},
    "sgd-plain": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0, "batch_size": 40, "activation": "tanh"},
    "sgd-invscaling": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "power_t": 0.1},
    "sgd-adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 2},
    "in order": {"shuffle": False, "batch_size": 64},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3},
    "lbfgs": {"solver": "lbfgs", "alpha": 0.1},
}
TASKS = {
    "classes": ("MLPClassifier", {}, SPECIES),
    "two classes": ("MLPClassifier", {}, BINARY),
    "labels": ("MLPClassifier", {}, LABELS),
    "numbers": ("MLPRegressor", {}, IRIS[:, 2] ** 2),
    "counts": ("MLPRegressor", {"loss": "poisson"}, COUNTS),
}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("sample_weight", [None, WEIGHTS], ids=["", "weights"])
def test_training_takes_the_course_of_scikit_learn(course, task, sample_weight):
    name, options, y = task
    theirs, ours = (
        getattr(module, name)(**SMALL, **options, **course).fit(IRIS, y, sample_weight=sample_weight)
        for module in (neural_network, portnn)
    )
    for theirs_, ours_ in zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-6, atol=1e-8)
    public = {key: value for key, value in vars(theirs).items() if key.endswith("_") and not key.startswith("_")}
    for key, value in public.items():
        if key in ("coefs_", "intercepts_"):
            continue
        if isinstance(value, str | type(None)) or key == "classes_":
            assert np.all(getattr(ours, key) == value), key
        else:
            np.testing.assert_allclose(getattr(ours, key), value, rtol=1e-7, atol=1e-12, err_msg=key)
    np.testing.assert_array_equal(ours.predict(IRIS), theirs.predict(IRIS)) if name == "MLPClassifier" else None
    assert ours.score(IRIS, y, WEIGHTS) == pytest.approx(theirs.score(IRIS, y, WEIGHTS), rel=1e-6)
    if name == "MLPClassifier":
        np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), rtol=1e-5)
        np.testing.assert_allclose(ours.predict_log_proba(IRIS), theirs.predict_log_proba(IRIS), rtol=1e-5)


def test_several_outputs_take_the_same_course_and_show_the_sum_of_the_losses():
    y = np.column_stack([PROGRESSION, PROGRESSION**2])
    theirs, ours = (module.MLPRegressor(**SMALL, alpha=0.0).fit(DIABETES, y) for module in (neural_network, portnn))
    np.testing.assert_allclose(ours.predict(DIABETES), theirs.predict(DIABETES), rtol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, 2 * np.asarray(theirs.loss_curve_))


def said(action):
    """The types and texts of the warnings and of the error that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except Exception as error:
            caught.append(warnings.WarningMessage(error, ValueError, "", 0))
    return [(w.category, str(w.message)) for w in caught]


SITUATIONS = {
    "maximum of epochs": lambda m: m.MLPClassifier(max_iter=2).fit(IRIS, SPECIES),
    "maximum of iterations": lambda m: m.MLPRegressor(solver="lbfgs", max_iter=3, random_state=0).fit(IRIS, COUNTS),
    "maximum of evaluations": lambda m: m.MLPRegressor(solver="lbfgs", max_fun=5, random_state=0).fit(IRIS, COUNTS),
    "batch too large": lambda m: m.MLPRegressor(max_iter=1, batch_size=500).fit(IRIS, COUNTS),
    "column of targets": lambda m: m.MLPClassifier(max_iter=1).fit(IRIS, SPECIES[:, None]),
    "no layer": lambda m: m.MLPClassifier(hidden_layer_sizes=(3, 0)).fit(IRIS, SPECIES),
    "negative alpha": lambda m: m.MLPClassifier(alpha=-1).fit(IRIS, SPECIES),
    "unknown solver": lambda m: m.MLPClassifier(solver="newton").fit(IRIS, SPECIES),
    "fewer features": lambda m: m.MLPRegressor(max_iter=1).fit(IRIS, COUNTS).predict(IRIS[:, :2]),
    "not fitted": lambda m: m.MLPRegressor().predict(IRIS),
    "no targets": lambda m: m.MLPRegressor().fit(IRIS, None),
    "gaps": lambda m: m.MLPRegressor().fit(np.where(IRIS > 2, np.nan, IRIS), COUNTS),
    "numbers for classes": lambda m: m.MLPClassifier().fit(IRIS, PROGRESSION[:150]),
    "other classes": lambda m: (
        m.MLPClassifier(max_iter=1, warm_start=True).fit(IRIS, SPECIES).fit(IRIS, BINARY == "yes")
    ),
    "partial fit without classes": lambda m: m.MLPClassifier().partial_fit(IRIS, SPECIES),
    "partial fit with others": lambda m: m.MLPClassifier().partial_fit(IRIS, SPECIES, classes=[0, 1]),
    "partial fit, full batch": lambda m: m.MLPClassifier(solver="lbfgs").partial_fit(IRIS, SPECIES, classes=[0, 1, 2]),
    "partial fit, early stopping": lambda m: m.MLPRegressor(early_stopping=True).partial_fit(IRIS, COUNTS),
    "too few to validate": lambda m: m.MLPRegressor(early_stopping=True).fit(IRIS[:5], COUNTS[:5]),
    "too many weights": lambda m: m.MLPRegressor().fit(IRIS, COUNTS, np.ones(3)),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_messages_are_those_of_scikit_learn(situation):
    theirs, ours = (
        [(kind, _with_sorted_choices(text)) for kind, text in said(lambda m=module: situation(m))]
        for module in (neural_network, portnn)
    )
    assert theirs
    assert ours == theirs


def _with_sorted_choices(message):
    """A message with the strings of a set in it, which come in any order, sorted."""
    return re.sub(r"\{([^{}]*)\}", lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", message)


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"}])
def test_what_verbose_prints_is_that_of_scikit_learn(options, capsys):
    texts = []
    for module in (neural_network, portnn):
        module.MLPClassifier(**SMALL | {"max_iter": 60}, tol=0.2, n_iter_no_change=2, verbose=True, **options).fit(
            IRIS, BINARY
        )
        texts.append(capsys.readouterr().out)
    assert "consecutive epochs" in texts[0]
    assert texts[1] == texts[0]


# ---- arrays in, the same arrays out

LANES = [name for name in USABLE if name != "numpy-readonly"]


@pytest.fixture(params=LANES)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def test_everything_follows_x(lane):
    if str(lane) == "strict:no_x64":
        pytest.skip("argmax of array-api-strict 2.6 gives int64 on its device without int64, and so fails")
    dtype = "float64" if lane.supports("float64") else "float32"
    x, options = lane.asarray(IRIS, dtype), SMALL | {"max_iter": 3}
    integers = "int64" if lane.supports("int64") else "int32"
    for targets in (lane.asarray(SPECIES), SPECIES, SPECIES.tolist()):
        classifier = MLPClassifier(**options, early_stopping=True).fit(x, targets, sample_weight=WEIGHTS)
        outputs = (classifier.predict_proba(x), classifier.predict_log_proba(x))
        assert_here(lane, dtype, (*classifier.coefs_, *classifier.intercepts_, *outputs))
        assert_here(lane, integers, (classifier.classes_, classifier.predict(x)))
    assert classifier.n_features_in_ == 4
    reference = MLPClassifier(**options, early_stopping=True).fit(IRIS, SPECIES, sample_weight=WEIGHTS)
    tolerance = 1e-9 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(lane.to_numpy(outputs[0]), reference.predict_proba(IRIS), rtol=tolerance)
    assert isinstance(classifier.score(x, lane.asarray(SPECIES)), float)
    regressor = MLPRegressor(**options).fit(x, lane.asarray(COUNTS, dtype))
    assert_here(lane, dtype, (regressor.predict(x), *regressor.coefs_))
    before = lane.to_numpy(regressor.predict(x)).copy()
    regressor.partial_fit(x, COUNTS)
    assert not np.allclose(lane.to_numpy(regressor.predict(x)), before)


def test_labels_of_text_stay_in_numpy(lane):
    x = lane.asarray(IRIS, "float32")
    classifier = MLPClassifier(**SMALL).fit(x, BINARY)
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert set(classifier.predict(x)) <= {"no", "yes"}
    assert isinstance(classifier.predict(x), np.ndarray)


def test_a_device_computes_and_numpy_answers(lane):
    classifier = MLPClassifier(**SMALL, device=str(lane)).fit(IRIS.astype(np.float32), SPECIES)
    assert classifier._trainer.network.backend == lane
    for array in (*classifier.coefs_, classifier.classes_, classifier.predict(IRIS)):
        assert type(array) is np.ndarray
    again = pickle.loads(pickle.dumps(classifier)) if "strict" not in str(lane) else classifier
    np.testing.assert_array_equal(again.predict_proba(IRIS), classifier.predict_proba(IRIS))
    again.partial_fit(IRIS, SPECIES)
    assert np.isfinite(again.loss_)


def test_arrays_of_other_libraries_are_checked(lane):
    x = lane.asarray(IRIS, "float32")
    regressor = MLPRegressor(**SMALL).fit(x, COUNTS)
    assert_here(lane, "float32", regressor.predict(x))
    with pytest.raises(ValueError, match="X has 2 features, but MLPRegressor is expecting 4 features"):
        regressor.predict(x[:, :2])
    with pytest.raises(ValueError, match="Expected 2D array, got"):
        regressor.predict(x[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        regressor.fit(x, COUNTS[:10])
    with pytest.raises(ValueError, match=r"NaN or infinite|contains infinity"):
        regressor.fit(lane.asarray(np.where(IRIS > 2, np.inf, IRIS), "float32"), COUNTS)
    whole = regressor.fit(lane.asarray(np.arange(20).reshape(10, 2)), np.arange(10))
    assert whole.coefs_[0].dtype == lane.dtype("float64" if lane.supports("float64") else "float32")


def test_bytes_are_numbers_and_not_pixels():
    x = (IRIS * 20 + 100).astype(np.uint8)
    theirs, ours = (module.MLPRegressor(**SMALL).fit(x, COUNTS) for module in (neural_network, portnn))
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-6)


def test_a_device_that_cannot_be_used_is_an_error():
    with pytest.raises(BackendError, match="unknown device 'abacus'"):
        MLPClassifier(device="abacus").fit(IRIS, SPECIES)


@pytest.mark.slow
def test_grid_search_on_tensors():
    torch = pytest.importorskip("torch")
    x, y = torch.asarray(IRIS, dtype=torch.float32), torch.asarray(SPECIES)
    with config_context(array_api_dispatch=True):
        search = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [0.01, 0.1]}, cv=2).fit(x, y)
        assert isinstance(search.predict(x), torch.Tensor)
        assert isinstance(search.best_estimator_.coefs_[0], torch.Tensor)


# ---- what scikit-learn does not have


def test_warm_start_goes_on_with_the_memory_of_the_optimizer():
    options = SMALL | {"shuffle": False}
    whole = MLPClassifier(**options | {"max_iter": 10}).fit(IRIS, SPECIES)
    parts = MLPClassifier(**options | {"max_iter": 5}, warm_start=True).fit(IRIS, SPECIES).fit(IRIS, SPECIES)
    np.testing.assert_array_equal(parts.coefs_[0], whole.coefs_[0])
    assert parts.loss_curve_ == whole.loss_curve_
    assert len(parts.history_) == 10
    assert parts.n_iter_ == 5
    afresh = (
        neural_network.MLPClassifier(**options | {"max_iter": 5}, warm_start=True).fit(IRIS, SPECIES).fit(IRIS, SPECIES)
    )
    assert not np.allclose(afresh.coefs_[0], whole.coefs_[0], rtol=1e-3)  # the difference is there to be seen


def test_warm_start_with_other_parameters():
    classifier = MLPClassifier(**SMALL, solver="lbfgs", warm_start=True, n_iter_no_change=np.inf).fit(IRIS, SPECIES)
    assert not hasattr(classifier, "loss_curve_")
    classifier.set_params(solver="adam").fit(IRIS, SPECIES)
    assert len(classifier.loss_curve_) == 15
    before = min(classifier.loss_curve_)
    assert classifier.best_loss_ == before
    classifier.set_params(early_stopping=True).fit(IRIS, SPECIES)
    assert len(classifier.validation_scores_) == classifier.n_iter_
    classifier.set_params(solver="sgd", early_stopping=False, learning_rate="invscaling", power_t=1.0).fit(
        IRIS, SPECIES
    )
    assert classifier.history_["lr"][-1] == pytest.approx(0.001 / (classifier.t_ - 150 + 1))
    classifier.set_params(learning_rate="constant", learning_rate_init=0.1).fit(IRIS, SPECIES)
    assert classifier.history_["lr"][-1] == 0.1


def test_a_full_batch_method_that_is_stopped_does_not_complain():
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 4:
                self.end(trainer)

    class Ask(Stop):
        def end(self, trainer):
            trainer.stop()

    class Interrupt(Stop):
        def end(self, trainer):
            raise KeyboardInterrupt

    for callback, expected in ((Ask(), []), (Interrupt(), [(UserWarning, "Training interrupted by user.")])):
        regressor = MLPRegressor(**SMALL, solver="lbfgs", callbacks=[callback])
        assert said(lambda r=regressor: r.fit(IRIS, COUNTS)) == expected
        assert regressor.n_iter_ == 4
        assert regressor.loss_ == regressor.history_["loss"][-1]


def test_weights_that_a_user_changes_are_used():
    regressor = MLPRegressor(**SMALL).fit(IRIS, COUNTS)
    regressor.coefs_[-1][:] = 0.0
    regressor.intercepts_[-1] = np.asarray([7.0])
    np.testing.assert_allclose(regressor.predict(IRIS), 7.0)
    regressor.partial_fit(IRIS, np.full(150, 7.0))
    assert regressor.loss_ < 0.01
    assert abs(regressor.intercepts_[-1][0] - 7.0) < 0.01


def test_dropout():
    dropped = MLPClassifier(**SMALL, dropout=[0.5, 0.0]).fit(IRIS, SPECIES)
    assert [type(layer).__name__ for layer in dropped._trainer.network.layer.layers] == (
        ["Affine", "ReLU", "Dropout", "Affine", "ReLU", "Affine"]
    )
    np.testing.assert_array_equal(dropped.predict_proba(IRIS), dropped.predict_proba(IRIS))
    again = clone(dropped).fit(IRIS, SPECIES)
    np.testing.assert_array_equal(again.coefs_[0], dropped.coefs_[0])
    assert not np.allclose(dropped.coefs_[0], MLPClassifier(**SMALL).fit(IRIS, SPECIES).coefs_[0])
    with pytest.raises(ConfigError, match="dropout has 3 entries, for 2 hidden layers"):
        MLPClassifier(**SMALL, dropout=[0.1, 0.2, 0.3]).fit(IRIS, SPECIES)


def test_batch_norm():
    plain, normed = (
        MLPClassifier((16,) * 6, activation="logistic", random_state=0, batch_norm=flag, batch_size=30).fit(
            IRIS, SPECIES
        )
        for flag in (False, True)
    )
    assert normed.score(IRIS, SPECIES) > 0.9 > plain.score(IRIS, SPECIES)
    restored = pickle.loads(pickle.dumps(normed))
    np.testing.assert_array_equal(restored.predict_proba(IRIS), normed.predict_proba(IRIS))


def test_l1_ratio_makes_weights_small_one_by_one():
    sizes = []
    for ratio in (0.0, 1.0):
        regressor = MLPRegressor(
            hidden_layer_sizes=10,
            alpha=20.0,
            l1_ratio=ratio,
            random_state=0,
            max_iter=600,
            solver="sgd",
            learning_rate="adaptive",
        )
        sizes.append(np.sort(np.abs(regressor.fit(IRIS, IRIS[:, 0]).coefs_[0]).ravel()))
    assert np.median(sizes[1]) < 0.002 < 0.05 < np.median(sizes[0])
    with pytest.raises(ConfigError, match="LBFGS needs a penalty with a derivative everywhere"):
        MLPRegressor(solver="lbfgs", l1_ratio=0.5).fit(IRIS, COUNTS)


def test_class_weight():
    by_class = {0: 1.0, 1: 5.0, 2: 0.5}
    own = MLPClassifier(**SMALL, class_weight=by_class).fit(IRIS, SPECIES, sample_weight=WEIGHTS)
    same = MLPClassifier(**SMALL).fit(IRIS, SPECIES, sample_weight=WEIGHTS * [by_class[k] for k in SPECIES])
    np.testing.assert_allclose(own.coefs_[0], same.coefs_[0], rtol=1e-12)
    few = np.r_[:50, 50:56, 100:150]
    recall = [
        np.mean(
            MLPClassifier(**SMALL | {"max_iter": 200}, class_weight=w).fit(IRIS[few], BINARY[few]).predict(IRIS[50:100])
            == "yes"
        )
        for w in (None, "balanced")
    ]
    assert recall[1] > recall[0]
    with pytest.raises(ValueError, match="needs all samples, and partial_fit sees some"):
        MLPClassifier(class_weight="balanced").partial_fit(IRIS, SPECIES, classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("activation", "layers"),
    [
        (nn.GELU(), ["GELU", "GELU"]),
        (["tanh", nn.SiLU()], ["Tanh", "SiLU"]),
        (functional.softplus, ["Activation", "Activation"]),
        (("relu", lambda x: (x * x, lambda dy: 2 * x * dy)), ["ReLU", "Activation"]),
    ],
)
def test_activations(activation, layers):
    classifier = MLPClassifier(**SMALL | {"max_iter": 100}, activation=activation, learning_rate_init=0.01).fit(
        IRIS, SPECIES
    )
    assert [type(layer).__name__ for layer in classifier._trainer.network.layer.layers][1::2] == layers
    assert classifier.score(IRIS, SPECIES) > 0.94


@pytest.mark.parametrize("activation", ["sigmoid", ["relu", "sigmoid"], nn.ReLU, ["relu"]])
def test_what_is_no_activation_is_refused(activation):
    with pytest.raises(ValueError, match="activation"):
        MLPClassifier(**SMALL, activation=activation).fit(IRIS, SPECIES)


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        (losses.SoftmaxCrossEntropy(label_smoothing=0.1), SPECIES, 3),
        (losses.SoftmaxCrossEntropy(), SPECIES == 0, 2),
        (losses.SigmoidCrossEntropy(), SPECIES, 3),
        (losses.SigmoidCrossEntropy(class_weight=(1.0, 3.0)), SPECIES == 0, 1),
        (losses.SigmoidCrossEntropy(), LABELS, 3),
    ],
)
def test_losses_of_classifiers(loss, y, outputs):
    classifier = MLPClassifier(
        **SMALL | {"max_iter": 100}, loss=loss, learning_rate_init=0.02, validation_data=(IRIS, y)
    ).fit(IRIS, y)
    assert classifier.n_outputs_ == outputs
    p = classifier.predict_proba(IRIS)
    assert p.shape == (150, max(2, outputs))
    if y.ndim == 1:
        np.testing.assert_allclose(p.sum(axis=1), 1)
    assert classifier.score(IRIS, y) == classifier.validation_scores_[-1] > 0.9


@pytest.mark.parametrize(
    ("make", "y"),
    [
        (lambda: MLPClassifier(loss=losses.HalfSquaredError()), SPECIES),
        (lambda: MLPClassifier(loss=losses.NegativeLogLikelihood()), SPECIES),
        (lambda: MLPClassifier(loss=losses.SoftmaxCrossEntropy()), LABELS),
        (lambda: MLPRegressor(losses.SoftmaxCrossEntropy()), COUNTS),
    ],
)
def test_a_loss_of_another_kind_is_refused(make, y):
    with pytest.raises(ConfigError, match=r"take .*(SoftmaxCrossEntropy|SigmoidCrossEntropy|HalfSquaredError)"):
        make().fit(IRIS, y)


@pytest.mark.parametrize("loss", [losses.Huber(), losses.MeanAbsoluteError(), losses.Poisson()])
def test_losses_of_regressors(loss):
    regressor = MLPRegressor(loss, **SMALL | {"max_iter": 300}, learning_rate_init=0.01).fit(IRIS, np.exp(IRIS[:, 2]))
    assert regressor.score(IRIS, np.exp(IRIS[:, 2])) > 0.9


@pytest.mark.parametrize(
    "optimizer",
    [optim.AdamW(0.01), optim.chain(optim.ClipByNorm(1.0), optim.Momentum(0.05)), optim.BFGS(), optim.LBFGS(gtol=1e-3)],
)
def test_optimizers(optimizer):
    classifier = MLPClassifier(8, max_iter=100, random_state=0, optimizer=optimizer, alpha=0.01).fit(IRIS, SPECIES)
    assert classifier.score(IRIS, SPECIES) > 0.95
    assert hasattr(classifier, "partial_fit") != isinstance(optimizer, optim.FullBatch)
    assert clone(classifier).optimizer == optimizer


def test_a_learning_rate_falls_for_any_optimizer():
    rates = {
        schedule: MLPClassifier(**SMALL, optimizer=optim.SGD(0.1), learning_rate=schedule)
        .fit(IRIS, SPECIES)
        .history_["lr"]
        for schedule in ("constant", "invscaling")
    }
    assert set(rates["constant"]) == {0.1}
    assert rates["invscaling"][2] == pytest.approx(0.1 / 301**0.5)


def test_validation_data():
    train, test = slice(0, 150, 2), slice(1, 150, 2)
    data = (IRIS[test], SPECIES[test])
    classifier = MLPClassifier(**SMALL, validation_data=data).fit(IRIS[train], SPECIES[train])
    reference = MLPClassifier(**SMALL).fit(IRIS[train], SPECIES[train])
    np.testing.assert_array_equal(classifier.coefs_[0], reference.coefs_[0])
    assert classifier.history_["val_score"] == classifier.validation_scores_
    assert classifier.validation_scores_[-1] == classifier.score(*data)
    p = classifier.predict_proba(IRIS[test])
    assert classifier.history_["val_loss"][-1] == pytest.approx(-np.log(p[np.arange(75), SPECIES[test]]).mean())
    weighted = MLPRegressor(**SMALL, validation_data=(*data, WEIGHTS[test])).fit(IRIS[train], SPECIES[train])
    assert weighted.validation_scores_[-1] == pytest.approx(weighted.score(*data, WEIGHTS[test]))
    with pytest.raises(ConfigError, match=r"validation_data must be \(X, y\)"):
        MLPClassifier(validation_data=(IRIS,)).fit(IRIS, SPECIES)
    with pytest.raises(ValueError, match=r"`y` has classes not in"):
        MLPClassifier(validation_data=data).fit(IRIS[:100], SPECIES[:100])


def test_early_stopping_on_data_of_ones_own_holds_nothing_out():
    options = SMALL | {"max_iter": 200}
    data = (IRIS[1::2], SPECIES[1::2])
    best, last = (
        MLPClassifier(**options, early_stopping=True, validation_data=data, restore_best=flag, n_iter_no_change=4).fit(
            IRIS[::2], SPECIES[::2]
        )
        for flag in (True, False)
    )
    assert best.n_iter_ < 200
    assert best.t_ == 75 * best.n_iter_
    assert best.score(*data) == best.best_validation_score_
    assert last.score(*data) == last.validation_scores_[-1]
    assert best.validation_scores_ == last.validation_scores_
    assert not np.allclose(best.coefs_[0], last.coefs_[0])


def test_early_stopping_ends_well_when_the_loss_is_no_number():
    regressor = MLPRegressor(learning_rate_init=1e200, solver="sgd", early_stopping=True, max_iter=5, random_state=0)
    regressor.fit(IRIS, COUNTS)
    assert np.isnan(regressor.validation_scores_[-1])
    assert len(regressor.loss_curve_) == regressor.n_iter_ == len(regressor.validation_scores_)
    assert np.isfinite(regressor.predict(IRIS)).all()
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        regressor.set_params(early_stopping=False).fit(IRIS, COUNTS)


def test_callbacks_and_augmentation():
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, trainer, record):
            seen.append(record["val_loss"])

    stop = EarlyStopping(patience=2, min_delta=10.0)
    noise = lambda x, rng: x + 0.1 * rng.normal_like(x)  # noqa: E731
    classifier = MLPClassifier(
        **SMALL | {"max_iter": 50}, callbacks=[Watch(), stop], validation_data=(IRIS, SPECIES), augment=noise
    ).fit(IRIS, SPECIES)
    assert seen == classifier.history_["val_loss"]
    assert classifier.n_iter_ == 3
    assert not np.allclose(classifier.coefs_[0], MLPClassifier(**SMALL | {"max_iter": 3}).fit(IRIS, SPECIES).coefs_[0])


def test_progress_shows_a_bar(monkeypatch):
    import tqdm.auto

    titles = []
    original = tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **kw: titles.append(kw["desc"]) or original(**kw | {"disable": True}))
    MLPClassifier(**SMALL | {"max_iter": 2}, progress=True).fit(IRIS, SPECIES)
    assert titles == ["epoch 1/2", "epoch 2/2"]


def test_interruption_keeps_what_was_learned():
    class Interrupt(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        classifier = MLPClassifier(**SMALL, callbacks=[Interrupt()]).fit(IRIS, SPECIES)
    assert classifier.n_iter_ == 3
    np.testing.assert_array_equal(
        classifier.coefs_[0], MLPClassifier(**SMALL | {"max_iter": 3}).fit(IRIS, SPECIES).coefs_[0]
    )


# ---- among scikit-learn's tools


def test_sparse_labels_and_samples():
    from scipy.sparse import csr_array, csr_matrix, issparse

    dense = MLPClassifier(**SMALL).fit(IRIS, LABELS)
    sparse = MLPClassifier(**SMALL).fit(csr_array(IRIS), csr_matrix(LABELS))
    assert issparse(sparse.predict(IRIS))
    np.testing.assert_array_equal(sparse.predict(csr_array(IRIS)).toarray(), dense.predict(IRIS))


def test_one_class():
    assert set(MLPClassifier(**SMALL).fit(IRIS, np.full(150, 7)).predict(IRIS)) == {7}


def test_pipeline_of_a_table(tmp_path):
    pd = pytest.importorskip("pandas")
    joblib = pytest.importorskip("joblib")
    table = pd.DataFrame(
        {"length": IRIS[:, 0], "width": IRIS[:, 1], "place": np.where(IRIS[:, 3] > 0, "north", "south")}
    )
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["length", "width"]), ("words", OneHotEncoder(), ["place"])]
    )
    model = make_pipeline(columns, MLPClassifier(**SMALL))
    assert cross_val_score(model, table, BINARY, cv=3).shape == (3,)
    search = GridSearchCV(model, {"mlpclassifier__alpha": [0.1, 1.0]}, cv=2).fit(table, BINARY)
    joblib.dump(search, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(table), search.predict(table))
    importance = permutation_importance(search, table, BINARY, n_repeats=2, random_state=0)
    assert importance.importances_mean.shape == (3,)
    named = MLPRegressor(**SMALL).fit(table[["length", "width"]], COUNTS)
    assert named.feature_names_in_.tolist() == ["length", "width"]
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(table[["width", "length"]])


@pytest.mark.slow
def test_workers_of_joblib():
    searches = [
        GridSearchCV(MLPClassifier(**SMALL), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=n).fit(IRIS, SPECIES) for n in (1, 2)
    ]
    np.testing.assert_array_equal(*(search.cv_results_["mean_test_score"] for search in searches))


def test_sample_weights_are_routed():
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            MLPClassifier(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
        )
        search = GridSearchCV(model, {"mlpclassifier__alpha": [0.1]}, cv=2).fit(IRIS, SPECIES, sample_weight=WEIGHTS)
        plain = GridSearchCV(model, {"mlpclassifier__alpha": [0.1]}, cv=2).fit(IRIS, SPECIES)
    weights = [s.best_estimator_[-1].coefs_[0] for s in (search, plain)]
    assert not np.allclose(*weights)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_learning_alike_and_apart(copied):
    options = SMALL | {"max_iter": 5, "shuffle": False}
    original = MLPClassifier(**options, dropout=0.2, batch_norm=True, warm_start=True).fit(IRIS, SPECIES)
    copy_ = copied(original)
    before = original.predict_proba(IRIS).copy()
    copy_.fit(IRIS, SPECIES)
    np.testing.assert_array_equal(original.predict_proba(IRIS), before)
    np.testing.assert_array_equal(original.fit(IRIS, SPECIES).predict_proba(IRIS), copy_.predict_proba(IRIS))


def test_partial_fit_learns_online():
    classifier = MLPClassifier(hidden_layer_sizes=12, random_state=0, learning_rate_init=0.01)
    order = np.random.default_rng(0).permutation(150)
    for _ in range(10):
        for i in range(0, 150, 10):
            classifier.partial_fit(IRIS[order[i : i + 10]], SPECIES[order[i : i + 10]], classes=[0, 1, 2])
    assert classifier.t_ == 1500
    assert len(classifier.loss_curve_) == 150
    assert classifier.score(IRIS, SPECIES) > 0.9


def test_multilabel_validation_counts_samples_with_all_labels_right():
    x, y = make_multilabel_classification(n_samples=100, random_state=0)
    classifier = MLPClassifier(**SMALL, validation_data=(x, y)).fit(x, y)
    assert classifier.validation_scores_[-1] == classifier.score(x, y)


def run_python(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_without_scikit_learn_a_sentence_says_what_to_install():
    block = "import sys; sys.modules['sklearn'] = None; "
    done = run_python(
        block + "import portnn\nfrom portnn import *\ntry: portnn.MLPClassifier\nexcept ImportError as e: print(e)"
    )
    assert done.stdout == (
        'the estimators need scikit-learn, which is not installed: pip install "scikit-learn>=1.9"\n'
    ), done.stderr
    assert issubclass(portnn.errors.MissingLibraryError, (PortnnError, ImportError))


def test_estimators_load_neither_matplotlib_nor_an_array_library():
    done = run_python("import sys, portnn; portnn.MLPClassifier; print(*sys.modules)")
    assert not {"matplotlib", "torch", "jax", "cupy", "numba"} & set(done.stdout.split()), done.stderr


def test_convergence_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        classifier = MLPClassifier(tol=0.1, max_iter=100, random_state=0).fit(IRIS, SPECIES)
    assert re.fullmatch(r"\d+", str(classifier.n_iter_))
    assert classifier.n_iter_ < 100
