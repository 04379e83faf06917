"""What scikit-learn asks of an estimator: its checks, with those of the array API, and the tests of its own MLP."""

import re
import subprocess
import sys

import pytest
from lanes import STATUS
from places import ROOT
from sklearn.utils.estimator_checks import parametrize_with_checks

from portnn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.slow,
    # The checks train for a few epochs, which do not converge, and say so.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_checks_of_scikit_learn(estimator, check):
    if "cupy" in str(getattr(check, "keywords", "")) and not STATUS["cupy"].usable:
        pytest.skip(STATUS["cupy"].message)
    check(estimator)


#: Calls the private method with which scikit-learn hands its loss and gradient to SciPy. That ours is the derivative of
#: the loss is a matter of `portnn.gradcheck`, which runs on every layer and every loss.
PRIVATE = "test_gradient"


def test_tests_of_scikit_learn():
    command = ["-m", "pytest", "-q", "-p", "sklearn_swap", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, *command, "--pyargs", "sklearn.neural_network.tests.test_mlp"],
        cwd=ROOT / "tests" / "support",
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall(r"^FAILED .*::(\S+)", done.stdout, re.MULTILINE) == [PRIVATE], done.stdout
    assert re.search(r"^1 failed, 58 passed in", done.stdout, re.MULTILINE), done.stdout
