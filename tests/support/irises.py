"""What the tests of the estimators in scikit-learn's place share."""

import numpy as np
import pytest
from sklearn import datasets, neural_network
from sklearn.preprocessing import scale

import portnn

BOTH = pytest.mark.parametrize("module", [neural_network, portnn], ids=["scikit-learn", "portnn"])
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS, SPECIES = datasets.load_iris(return_X_y=True)
IRIS = scale(IRIS)
WORDS = np.asarray(["setosa", "versicolor", "virginica"])[SPECIES]
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 3}
