"""The parameters of the estimators stand in one list, from which all else follows."""

import inspect
import re
from typing import Annotated, Any

import pytest
from sklearn.base import BaseEstimator, clone

from portnn import MLPClassifier, MLPRegressor
from portnn.estimators.parameters import with_parameters

BOTH = pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])


def documented(estimator):
    section = re.search(r"Parameters\n-+\n(.*?)\n\n", inspect.getdoc(estimator), re.DOTALL)[1]
    heads = [line for line in section.splitlines() if not line.startswith(" ")]
    return [name for line in heads for name in re.findall(r"\w+", line.partition(" : ")[0])]


@BOTH
def test_every_parameter_is_documented_and_checked_once(estimator):
    names = list(inspect.signature(estimator).parameters)
    assert sorted(documented(estimator)) == sorted(names)
    assert set(estimator._parameter_constraints) == set(names)
    assert all(estimator._parameter_constraints.values())
    assert set(vars(estimator())) == set(names)


@BOTH
def test_every_default_is_allowed(estimator):
    estimator()._validate_params()


@BOTH
def test_a_signature_shows_types_and_not_what_is_checked(estimator):
    assert "alpha: float = 0.0001" in str(inspect.signature(estimator))
    assert "Annotated" not in str(inspect.signature(estimator))


@BOTH
def test_estimators_are_compared_and_shown_as_scikit_learn_does(estimator):
    one = estimator(hidden_layer_sizes=3)
    assert one != clone(one)
    assert len({one, clone(one)}) == 2
    assert repr(one) == f"{estimator.__name__}(hidden_layer_sizes=3)"


def test_a_subclass_has_the_parameters_and_its_own():
    class Plain(MLPClassifier):
        pass

    class Handwritten(MLPRegressor):
        def __init__(self, *, alpha=0.5, own=1):
            super().__init__("poisson", alpha=alpha)
            self.own = own

    @with_parameters
    class Another(MLPClassifier):
        own: Annotated[Any, None, int] = None

    assert clone(Plain(alpha=2)).alpha == 2
    assert clone(Handwritten(own=3)).get_params() == {"alpha": 0.5, "own": 3}
    assert Another(4, own=5, loss="log_loss").get_params() == MLPClassifier(4).get_params() | {"own": 5}
    assert Another._parameter_constraints["own"] == [None, int]
    assert Another._parameter_constraints.keys() == MLPClassifier._parameter_constraints.keys() | {"own"}
    assert "own" not in MLPClassifier._parameter_constraints
    assert isinstance(Another(), BaseEstimator)
