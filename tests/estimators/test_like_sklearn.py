"""The estimators learn, warn and print as scikit-learn's own do."""

import inspect
import re
import warnings

import numpy as np
import pytest
from estimator_samples import BINARY, COUNTS, DIABETES, LABELS, PROGRESSION, SMALL, WEIGHTS, said
from irises import IRIS, SPECIES, quiet
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning

import portnn
from portnn import MLPClassifier

# Short runs, which do not converge, and say so.
pytestmark = quiet


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


def test_convergence_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        classifier = MLPClassifier(tol=0.1, max_iter=100, random_state=0).fit(IRIS, SPECIES)
    assert re.fullmatch(r"\d+", str(classifier.n_iter_))
    assert classifier.n_iter_ < 100
