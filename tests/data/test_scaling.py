"""Feature scaling."""

import numpy as np
import pytest
from helpers import assert_close, assert_here, get, put
from numpy.testing import assert_allclose, assert_array_equal

from portnn.data import Scaling
from portnn.errors import ConfigError, DataError, ShapeError

RNG = np.random.default_rng(0)
TRAIN = RNG.normal([[10.0, -2.0, 0.0]], [[3.0, 0.1, 50.0]], size=(40, 3))
TEST = RNG.normal(size=(7, 3))


def test_standard(typed):
    backend, dtype = typed
    train, test = put(backend, (TRAIN, TEST), dtype)
    scaling = Scaling.standard(train)
    assert_here(backend, dtype, scaling(test))
    assert_close(get(backend, scaling(test)), (TEST - TRAIN.mean(axis=0)) / TRAIN.std(axis=0), dtype)
    scaled = get(backend, scaling(train))
    assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-5)
    assert_allclose(scaled.std(axis=0), 1.0, rtol=1e-5)
    assert_close(get(backend, scaling.inverse(scaling(test))), get(backend, test), dtype)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3, 5)])
def test_min_max(typed, low, high):
    backend, dtype = typed
    train, test = put(backend, (TRAIN, TEST), dtype)
    scaling = Scaling.min_max(train, low, high)
    scaled = get(backend, scaling(train))
    assert_allclose(scaled.min(axis=0), low, atol=1e-5)
    assert_allclose(scaled.max(axis=0), high, atol=1e-5)
    assert_here(backend, dtype, scaling(test))
    assert_close(get(backend, scaling.inverse(scaling(test))), get(backend, test), dtype)


def test_a_feature_that_is_always_the_same(typed):
    backend, dtype = typed
    rows = np.column_stack([np.full(1000, 0.1), np.full(1000, 1.7e9), np.zeros(1000)])  # the mean of 0.1s is not 0.1
    x = put(backend, rows, dtype)
    for scaling, expected in ((Scaling.standard(x), 0.0), (Scaling.min_max(x), -1.0), (Scaling.min_max(x, 0.0), 0.0)):
        assert_array_equal(scaling.width, 1.0)
        assert_array_equal(get(backend, scaling(x)), expected)
        assert_close(get(backend, scaling.inverse(scaling(x))), get(backend, x), dtype)


def test_a_width_that_cannot_be_divided_by():
    for fit in (Scaling.standard, Scaling.min_max):
        assert_array_equal(fit(np.asarray([[0.0], [1e-60]])).width, 1.0)
        assert np.isfinite(fit(np.asarray([[0.0], [1e-60]]))(np.zeros((2, 1), np.float32))).all()


def test_fitted_on_one_library_and_used_on_another(backend):
    scaling = Scaling.standard(TRAIN)
    scaled = scaling(put(backend, TEST, "float32"))
    assert_here(backend, "float32", scaled)
    assert_close(get(backend, scaled), scaling(TEST).astype(np.float32), "float32")


def test_images_and_integers():
    images = RNG.integers(0, 256, size=(20, 4, 5), dtype=np.uint8)
    scaling = Scaling.min_max(images)
    assert scaling.offset.shape == (4, 5)
    assert scaling(images).dtype == np.float64
    assert scaling(images).max() == pytest.approx(1.0)
    assert_allclose(scaling.inverse(scaling(images)), images, atol=1e-10)
    assert_allclose(Scaling.standard([[1], [3]])([[5]]), [[3.0]])


def test_many_rows_in_float32():
    """A sum in float32 row by row would lose the last digits here."""
    x = np.full((2_000_000, 1), 1000.1, dtype=np.float32) + np.asarray([[1.0]] * 1_000_000 + [[-1.0]] * 1_000_000, "f4")
    assert Scaling.standard(x).offset[0] == pytest.approx(1000.1, rel=1e-6)


def test_refused():
    for fit in (Scaling.standard, Scaling.min_max):
        with pytest.raises(DataError, match="fitted to no examples"):
            fit(np.zeros((0, 3)))
        with pytest.raises(DataError, match=r"x has 1 values that are NaN or infinite, the first at \[1, 0\]"):
            fit(np.asarray([[1.0], [np.nan]]))
    with pytest.raises(ShapeError, match=r"x has shape \(7, 2\); the scaling takes \(n, 3\)"):
        Scaling.standard(TRAIN)(TEST[:, :2])
    for low, high in ((1.0, 1.0), (2.0, -2.0), (0.0, float("nan"))):
        with pytest.raises(ConfigError, match="low must be below high"):
            Scaling.min_max(TRAIN, low, high)
    with pytest.raises(DataError, match="real numbers are needed"):
        Scaling.standard(np.asarray([[1j]]))
