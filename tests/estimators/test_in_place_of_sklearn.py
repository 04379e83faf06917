"""The estimators in programs that were written for scikit-learn's: its curves, its filters of warnings, its habits."""

import re
import warnings

import numpy as np
import pytest
from irises import IRIS, SPECIES, quiet
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, scale

import portnn
from portnn import MLPClassifier, MLPRegressor

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
