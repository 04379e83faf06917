"""Losses at the edges of the numbers, and of class numbers that are none; see `test_edges`."""

import numpy as np
import pytest
from extended import ATOL, SCORES, L, assert_right, forms, inf, log_softmax, logistic, nan, places, rounded, size
from helpers import get, put

from portnn import functional, losses
from portnn.errors import DataError

pytestmark = pytest.mark.skipif(np.finfo(L).nmant < 60, reason="long double is no longer than double here")


def softplus(x):
    return np.logaddexp(L(0), x)


def weighed(share, value):
    """0 times infinity is 0 here: what has no share costs nothing."""
    return np.where(share == 0, 0, share * value)


def huber(d):
    return np.where(abs(d) <= 1, d * d / 2, abs(d) - L(0.5))


#: For prediction and target: value and gradient in extended precision, infinity included.
LOSSES = {
    "sigmoid_cross_entropy": (
        lambda x, t: weighed(t, softplus(-x)) + weighed(1 - t, softplus(x)),
        lambda x, t: (1 - t) * logistic(x) - t * logistic(-x),
        (0.0, 1.0, 0.25),
    ),
    "half_squared_error": (lambda x, t: (x - t) ** 2 / 2, lambda x, t: x - t, (0.5, -3.0)),
    "squared_error": (lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t), (0.5, -3.0)),
    "absolute_error": (lambda x, t: abs(x - t), lambda x, t: np.sign(x - t), (0.5, -3.0)),
    "huber": (lambda x, t: huber(x - t), lambda x, t: np.clip(x - t, -1, 1), (0.5, -3.0)),
    "poisson": (
        lambda x, t: np.where(x == inf, x, np.exp(x) - weighed(t, x)), lambda x, t: np.exp(x) - t, (0.0, 3.0)
    ),
    "half_poisson_deviance": (
        lambda x, t: np.where(x == inf, x, np.exp(x) - weighed(t, x) + weighed(t, np.log(t)) - t),
        lambda x, t: np.exp(x) - t, (0.0, 3.0),
    ),
}  # fmt: skip
OF_CLASSES = {"softmax_cross_entropy", "negative_log_likelihood", "kl_divergence"}


def test_every_loss_is_in_a_table():
    assert LOSSES.keys() | OF_CLASSES == set(functional.losses.__all__) - {"class_numbers"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_numbers(name, typed):
    backend, dtype = typed
    value, gradient, targets = LOSSES[name]
    x = places(backend, dtype)
    for target in targets:
        t = np.full(x.shape, target)
        with np.errstate(all="ignore"):
            exact, slope = value(x.astype(L), t.astype(L)), gradient(x.astype(L), t.astype(L))
            steepness = np.nan_to_num(abs(x * slope / exact), posinf=0.0) + np.minimum(size(x), 700.0)
        for function in forms(name):
            with backend.context():
                values, backward = function(*put(backend, (x[:, None], t[:, None]), dtype))
                dx = backward(put(backend, np.full(x.shape, -3.0), dtype))
                values, dx = get(backend, (values, dx))
            assert_right(values, exact, dtype, steepness)
            assert_right(dx[:, 0], -3 * slope, dtype, steepness)
        with backend.context():
            values, backward = function(*put(backend, (np.ones((1, 1)), np.full((1, 1), nan)), dtype))
            assert np.isnan(get(backend, values)).all()
            assert np.isnan(get(backend, backward(values))).all()


@pytest.mark.parametrize("target", [0, 1, 2])
def test_losses_of_classes(target, typed):
    backend, dtype = typed
    x = np.asarray(SCORES).astype(dtype)
    log_p, row = log_softmax(x), np.eye(3)[target]
    value, gradient = -log_p[:, target], np.exp(log_p) - row
    numbers = backend.asarray(np.full(len(x), target))
    rows = put(backend, np.tile(row, (len(x), 1)), dtype)
    for function in (*forms("softmax_cross_entropy"), *forms("kl_divergence")):
        for targets in (numbers, rows):
            with backend.context():
                values, backward = function(put(backend, x, dtype), targets)
                values, dx = get(backend, (values, backward(put(backend, np.ones(len(x)), dtype))))
            assert_right(values, value, dtype, 100.0)
            np.testing.assert_allclose(dx, rounded(gradient, dtype), rtol=1e-5, atol=ATOL[dtype])


def test_likelihood_of_what_is_impossible(typed):
    backend, dtype = typed
    p = np.asarray([[0.0, 1.0], [1.0, 0.0], [1e-30, 0.5], [0.5, nan], [nan, 0.5], [inf, 0.5]])
    for function in forms("negative_log_likelihood"):
        with backend.context():
            on_device = put(backend, p, dtype)
            values, backward = function(on_device, backend.asarray(np.zeros(6, int)), 0.0)
            values, dx = get(backend, (values, backward(put(backend, np.ones(6), dtype))))
        np.testing.assert_allclose(values, [inf, 0.0, -np.log(1e-30), np.log(2), nan, -inf], rtol=1e-6, atol=1e-30)
        np.testing.assert_allclose(dx[:, 0], [-inf, -1.0, -1e30, -2.0, nan, 0.0], rtol=1e-6)
        assert (dx[:, 1] == 0).all()


# ---- class numbers that are none

NO_CLASSES = [-1, 3, 100, -128]


@pytest.mark.parametrize("name", sorted(OF_CLASSES))
@pytest.mark.parametrize("kind", ["int8", "int32", "int64"])
def test_a_number_that_is_no_class_gives_nan(name, kind, backend):
    if not backend.supports(kind):
        pytest.skip(f"{backend} has no {kind}")
    numbers = [0, *NO_CLASSES, 2] + ([2**32 + 1, -(2**63)] if kind == "int64" else [])
    none = np.asarray([not 0 <= number < 3 for number in numbers])
    x = np.random.default_rng(0).uniform(0.1, 0.9, (len(numbers), 3))
    for form in forms(name):
        values, backward = form(put(backend, x, "float32"), backend.asarray(np.asarray(numbers, kind)))
        values, dx = get(backend, (values, backward(put(backend, np.ones(len(numbers)), "float32"))))
        np.testing.assert_array_equal(np.isnan(values), none)
        np.testing.assert_array_equal(np.isnan(dx), none[:, None] & np.ones((1, 3), bool))


def test_numbers_of_unsigned_and_narrow_types(backend):
    """200 is no class of 3."""
    logits = np.random.default_rng(0).normal(size=(3, 3))
    values, _ = functional.softmax_cross_entropy(
        put(backend, logits, "float32"), backend.asarray(np.asarray([1, 200, 2], np.uint8))
    )
    assert np.isnan(get(backend, values)).tolist() == [False, True, False]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_a_number_that_is_no_class(smoothing, backend):
    """With smoothing, and with a weight for each class."""
    x, target = put(backend, np.eye(3), "float32"), backend.asarray(np.asarray([0, 5, 2]))
    loss = losses.SoftmaxCrossEntropy(label_smoothing=smoothing, class_weight=(1.0, 2.0, 3.0))
    for each in (loss, losses.SoftmaxCrossEntropy(label_smoothing=smoothing)):
        value, backward = each(x, target)
        assert np.isnan(get(backend, value))
        assert np.isnan(get(backend, backward())[1]).all()


def test_class_numbers_are_integers(backend):
    for name in sorted(OF_CLASSES):
        with pytest.raises(DataError, match="class numbers must be integers, not"):
            getattr(functional, name)(put(backend, np.ones((2, 3)), "float32"), put(backend, np.ones(2), "float32"))
