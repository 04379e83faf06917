"""The estimators among scikit-learn's tools and other programs, and where scikit-learn is missing."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from estimator_samples import BINARY, COUNTS, LABELS, SMALL, WEIGHTS
from irises import IRIS, SPECIES, quiet
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import portnn
from portnn import MLPClassifier, MLPRegressor
from portnn.errors import PortnnError

# Short runs, which do not converge, and say so.
pytestmark = quiet


def test_sparse_labels_and_samples():
    from scipy.sparse import csr_array, csr_matrix, issparse

    dense = MLPClassifier(**SMALL).fit(IRIS, LABELS)
    sparse = MLPClassifier(**SMALL).fit(csr_array(IRIS), csr_matrix(LABELS))
    assert issparse(sparse.predict(IRIS))
    np.testing.assert_array_equal(sparse.predict(csr_array(IRIS)).toarray(), dense.predict(IRIS))


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
