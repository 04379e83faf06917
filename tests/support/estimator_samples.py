"""Targets and weights of the irises, and other samples that estimators are tried on."""

import warnings

import numpy as np
from irises import IRIS, SPECIES
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

DIABETES, PROGRESSION = load_diabetes(return_X_y=True)
PROGRESSION = scale(PROGRESSION)
WEIGHTS = np.random.default_rng(0).uniform(size=len(IRIS))
BINARY = np.where(SPECIES == 1, "yes", "no")
LABELS = np.column_stack([SPECIES == 0, IRIS[:, 0] > 0, IRIS[:, 1] > 0]).astype(int)
COUNTS = np.random.default_rng(1).poisson(np.exp(0.5 * IRIS[:, 0])).astype(float)
SMALL = {"hidden_layer_sizes": (12, 8), "max_iter": 15, "random_state": 3}


def said(action):
    """The types and texts of the warnings and of the error that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except Exception as error:
            caught.append(warnings.WarningMessage(error, ValueError, "", 0))
    return [(w.category, str(w.message)) for w in caught]
