"""The pictures of the training of an estimator."""

import pytest

pytest.importorskip("matplotlib")

import matplotlib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from portnn import LossCurveDisplay, MLPClassifier, MLPRegressor
from portnn.training import History

matplotlib.use("Agg")
X, Y = load_iris(return_X_y=True)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _close_figures():
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


def test_train_and_validation():
    model = make_pipeline(StandardScaler(), MLPClassifier(max_iter=5, early_stopping=True)).fit(X, Y)
    display = LossCurveDisplay.from_estimator(model)
    train, validation = display.lines_
    np.testing.assert_array_equal(train.get_ydata(), model[-1].loss_curve_)
    np.testing.assert_array_equal(validation.get_ydata(), model[-1].history_["val_loss"])
    assert train.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert [line.get_label() for line in display.lines_] == ["MLPClassifier, train", "MLPClassifier, validation"]
    assert train.get_color() == validation.get_color()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Epoch", "Loss")
    assert display.figure_ is display.ax_.figure


def test_several_on_given_axes():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    for solver in ("adam", "lbfgs"):
        regressor = MLPRegressor(solver=solver, max_iter=5).fit(X, Y)
        display = LossCurveDisplay.from_estimator(regressor, ax=ax, name=solver, linewidth=3)
        assert display.ax_ is ax
    assert display.plot(ax, name="again") is display
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["adam, train", "lbfgs, train", "again, train"]
    assert ax.lines[0].get_linewidth() == 3
    assert ax.lines[0].get_color() != ax.lines[1].get_color()


def test_of_a_history():
    display = LossCurveDisplay.from_history(History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]))
    assert [line.get_label() for line in display.lines_] == ["train"]


def test_before_training():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPClassifier())
