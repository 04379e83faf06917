"""Estimators of arrays of every library: what comes in decides what goes out."""

import pickle

import numpy as np
import pytest
from estimator_samples import BINARY, COUNTS, SMALL, WEIGHTS
from helpers import assert_here
from irises import IRIS, SPECIES, quiet
from lanes import USABLE, open_lane
from sklearn import config_context, neural_network
from sklearn.model_selection import GridSearchCV

import portnn
from portnn import MLPClassifier, MLPRegressor
from portnn.errors import BackendError

# Short runs, which do not converge, and say so.
pytestmark = quiet

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
