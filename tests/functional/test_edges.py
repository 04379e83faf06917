"""Values and gradients at the edges of the numbers: zeros, subnormals, large numbers, infinity and NaN.

What is right is computed in extended precision from the definitions; for each backend its twins are compared with the
portable form, too. Beside values in the middle, whose gradient is not to be lost by cancellation.
"""

import mpmath
import numpy as np
import pytest
from extended import SCORES, L, assert_right, forms, inf, log_softmax, logistic, nan, places, rounded, size
from helpers import get, put

from portnn import functional

pytestmark = pytest.mark.skipif(np.finfo(L).nmant < 60, reason="long double is no longer than double here")


def phi(x):
    """The density of the normal distribution."""
    return np.exp(-x * x / 2) / np.sqrt(2 * np.arccos(L(-1)))


def by_mpmath(name):
    """A function of mpmath: NumPy has none of these for long doubles."""

    def one(x):
        y = getattr(mpmath, name)(mpmath.mpf(float(x)))
        return L(str(y)) if abs(y) > mpmath.mpf("1e-4000") else L(0)  # what is less does not fit

    def function(x):
        with mpmath.workdps(30):
            return np.asarray([one(v) for v in x])

    return function


def gated(gate, slope):
    """``x gate(x)`` and its derivative, for finite x."""
    return lambda x: x * gate(x), lambda x: gate(x) + x * slope(x)


def tanh_argument(x):
    return np.sqrt(8 / np.arccos(L(-1))) * (x + L("0.044715") * x**3)


#: Value and derivative in extended precision for finite x, and their limits at minus infinity and infinity.
SCALE, ALPHA = L("1.0507009873554804934"), L("1.6732632423543772848")
EXACT = {
    "identity": (lambda x: x, lambda x: x * 0 + 1, (-inf, inf), (1, 1)),
    "relu": (lambda x: np.where(x > 0, x, 0), lambda x: np.where(x > 0, 1, 0), (0, inf), (0, 1)),
    "leaky_relu": (
        lambda x: np.where(x > 0, x, L(0.1) * x), lambda x: np.where(x > 0, 1, L(0.1)), (-inf, inf), (0.1, 1)
    ),
    "elu": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))), (-1, inf), (0, 1),
    ),
    "selu": (
        lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SCALE * np.where(x > 0, 1, ALPHA * np.exp(np.minimum(x, 0))),
        (-SCALE * ALPHA, inf), (0, SCALE),
    ),
    "sigmoid": (logistic, lambda x: logistic(x) * logistic(-x), (0, 1), (0, 0)),
    "hard_sigmoid": (
        lambda x: np.clip((x + 3) / 6, 0, 1), lambda x: np.where((x > -3) & (x <= 3), L(1) / 6, 0), (0, 1), (0, 0)
    ),
    "tanh": (np.tanh, lambda x: 4 * logistic(2 * x) * logistic(-2 * x), (-1, 1), (0, 0)),
    "softplus": (lambda x: np.logaddexp(L(0), x), logistic, (0, inf), (0, 1)),
    "silu": (*gated(logistic, lambda x: logistic(x) * logistic(-x)), (0, inf), (0, 1)),
    "hard_swish": (
        lambda x: x * np.clip((x + 3) / 6, 0, 1),
        lambda x: np.where(x <= -3, 0, np.where(x <= 3, (2 * x + 3) / 6, 1)), (0, inf), (0, 1),
    ),
    "gelu": (*gated(by_mpmath("ncdf"), phi), (0, inf), (0, 1)),
    "gelu_tanh": (
        *gated(
            lambda x: logistic(tanh_argument(x)),
            lambda x: logistic(tanh_argument(x)) * logistic(-tanh_argument(x))
            * np.sqrt(8 / np.arccos(L(-1))) * (1 + 3 * L("0.044715") * x**2),
        ),
        (0, inf), (0, 1),
    ),
    "erf": (by_mpmath("erf"), lambda x: 2 * np.exp(-x * x) / np.sqrt(np.arccos(L(-1))), (-1, 1), (0, 0)),
    "erfc": (by_mpmath("erfc"), lambda x: -2 * np.exp(-x * x) / np.sqrt(np.arccos(L(-1))), (2, 0), (0, 0)),
}  # fmt: skip


def expected_of(exact, x):
    """Value and derivative, with their limits."""
    value, slope, limits, slope_limits = exact
    finite = np.where(np.isfinite(x), x, 0).astype(L)
    results = []
    with np.errstate(all="ignore"):
        for function, (left, right) in ((value, limits), (slope, slope_limits)):
            y = np.asarray(function(finite), dtype=L)
            y = np.where(x == -inf, L(left), np.where(x == inf, L(right), y))
            results.append(np.where(np.isnan(x), L(nan), y))
    return results


ELEMENTWISE = {*functional.activations.__all__, *functional.special.__all__} - {"step", "softmax", "log_softmax"}


@pytest.mark.parametrize("name", sorted(ELEMENTWISE | EXACT.keys()))
def test_every_elementwise_activation_is_in_the_table(name):
    assert name in EXACT, f"{name} has no line in EXACT: value and derivative in extended precision, and their limits"
    assert name in ELEMENTWISE, f"EXACT has {name}, which is no activation"


@pytest.mark.parametrize("name", EXACT)
def test_functions_of_one_number(name, typed):
    backend, dtype = typed
    x = places(backend, dtype)
    value, slope = expected_of(EXACT[name], x)
    if name == "identity":  # whose gradient does not depend on x
        slope = np.ones_like(slope)
    steepness = np.minimum(size(x) ** 2, 700.0)
    on_device, dy = put(backend, (x, np.full(x.shape, -3.0)), dtype)
    for form, function in zip((name, f"the portable form of {name}"), forms(name), strict=True):
        with backend.context():
            y, backward = function(on_device)
            y, dx = get(backend, (y, backward(dy)))
        assert_right(y, value, dtype, steepness, size(x), f"value of {form}", x)
        assert_right(dx, -3 * slope, dtype, steepness, size(x), f"gradient of {form} for dy = -3", x)


def test_a_gate_that_is_closed_leaves_less_than_nothing():
    """The sign, too, is that of the limit."""
    for name in ("silu", "hard_swish", "gelu", "gelu_tanh"):
        y, _ = getattr(functional, name)(np.asarray([-inf, -1e30, -8.0]))
        assert np.signbit(y).all()
        assert (y[:2] == 0).all()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_leaky_relu_without_a_leak(slope):
    y, backward = functional.leaky_relu(np.asarray([-inf, -2.0, 3.0, nan]), slope)
    np.testing.assert_array_equal(y, [-inf if slope else 0.0, -2.0 * slope, 3.0, nan])
    np.testing.assert_array_equal(backward(np.ones(4)), [slope, slope, 1.0, nan])


def test_step_of_nan_is_nan(typed):
    backend, dtype = typed
    y, _ = functional.step(put(backend, np.asarray([-inf, -0.0, 1e-40, inf, nan]), dtype))
    assert get(backend, y)[[0, 1, 3]].tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(get(backend, y)[4])


def test_softmax_and_its_logarithm(typed):
    backend, dtype = typed
    x = np.asarray(SCORES).astype(dtype)
    log_p = log_softmax(x)
    p, dy = np.exp(log_p), np.asarray([[1.0, -2.0, 3.5]] * len(x))
    expected = {"softmax": (p, p * (dy - (dy * p).sum(axis=-1, keepdims=True))), "log_softmax": (log_p, dy - 2.5 * p)}
    for name, (value, gradient) in expected.items():
        for function in forms(name):
            with backend.context():
                y, backward = function(put(backend, x, dtype))
                y, dx = get(backend, (y, backward(put(backend, dy, dtype))))
            assert_right(y, value, dtype, 100.0)
            np.testing.assert_allclose(
                dx, rounded(gradient, dtype), rtol=1e-5, atol=4e-6 if dtype == "float32" else 1e-14
            )
