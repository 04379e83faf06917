"""Values and gradients at the edges of the numbers: zeros, subnormals, large numbers, infinity and NaN.

What is right is computed in extended precision from the definitions; for each backend its twins are compared with the
portable form, too. Beside values in the middle, whose gradient is not to be lost by cancellation.
"""

import math

import mpmath
import numpy as np
import pytest
from families import FUNCTIONS
from helpers import get, put
from lanes import USABLE, open_lane

from portnn import functional, losses
from portnn.errors import DataError

L = np.longdouble
inf, nan = math.inf, math.nan

#: Where functions of one number are asked.
PLACES = [0.0, -0.0, 1e-40, -1e-40, 1e-20, -1e-20, 0.3, -0.7, 1.0, -1.0, 2.9, -2.9, 3.0, -3.0, 5.0, -5.0, 8.0, -8.0]
PLACES += [12.0, -12.0, 30.0, -30.0, 60.0, -60.0, 88.0, -88.0, 1e4, -1e4, 1e30, -1e30, inf, -inf, nan]

pytestmark = pytest.mark.skipif(np.finfo(L).nmant < 60, reason="long double is no longer than double here")


def logistic(x):
    return np.exp(-np.logaddexp(L(0), -x))


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


def rounded(exact, dtype):
    with np.errstate(over="ignore"):
        return np.asarray(exact).astype(dtype)


def assert_right(actual, exact, dtype, steepness=0.0, scale=1.0):
    """To some units in the last place, and more where the logarithm of the function is steep.

    Subnormal numbers, and what is ``scale`` times as large, may be 0: XLA flushes them on the way.
    """
    expected, eps = rounded(exact, dtype), float(np.finfo(dtype).eps)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    with np.errstate(invalid="ignore"):
        apart = abs(actual.astype(L) - np.asarray(exact)) / (abs(np.asarray(exact)) + np.finfo(dtype).tiny)
    fine = (actual == expected) | np.isnan(expected) | (apart <= eps * (16 + 4 * np.asarray(steepness, float)))
    least = 4 * np.finfo(dtype).tiny * np.maximum(scale, 1.0)
    fine |= (abs(expected) < least) & (abs(actual) < least)
    assert fine.all(), (actual[~fine], expected[~fine])


def places(backend, dtype):
    """Those of the type; on XLA without the subnormal ones, which are zeros to it."""
    x = np.asarray(PLACES).astype(dtype)
    return x * (abs(x) >= np.finfo(dtype).tiny) if str(backend).startswith("jax") else x


def size(x):
    return np.where(np.isfinite(x), abs(x.astype(float)), 0.0)


def forms(name):
    """What a call gives, and what the portable form gives by itself."""
    function = getattr(functional, name)
    return function, function.portable


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


def test_every_elementwise_activation_is_in_the_table():
    others = {"step", "softmax", "log_softmax"}
    assert EXACT.keys() == {*functional.activations.__all__, *functional.special.__all__} - others


@pytest.mark.parametrize("name", EXACT)
def test_functions_of_one_number(name, typed):
    backend, dtype = typed
    x = places(backend, dtype)
    value, slope = expected_of(EXACT[name], x)
    if name == "identity":  # whose gradient does not depend on x
        slope = np.ones_like(slope)
    steepness = np.minimum(size(x) ** 2, 700.0)
    on_device, dy = put(backend, (x, np.full(x.shape, -3.0)), dtype)
    for function in forms(name):
        with backend.context():
            y, backward = function(on_device)
            y, dx = get(backend, (y, backward(dy)))
        assert_right(y, value, dtype, steepness, size(x))
        assert_right(dx, -3 * slope, dtype, steepness, size(x))


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


#: Of gradients that are differences of numbers up to 10.
ATOL = {"float32": 4e-6, "float64": 1e-14}

SCORES = [
    [0.0, -0.0, 1e-40],
    [1e4, 0.0, -1e4],
    [88.0, -88.0, 0.0],
    [1e30, 1.0, -1e30],
    [-inf, 0.0, 1.0],
    [inf, 0.0, 1.0],
    [0.0, -inf, inf],
    [-inf, 2.0, -inf],
    [inf, inf, 0.0],  # nobody can say which
    [-inf, -inf, -inf],
    [nan, 0.0, 1.0],
    [0.0, inf, nan],
]


def log_softmax(x):
    """In extended precision, with the limits at infinity."""
    x = np.asarray(x).astype(L)
    with np.errstate(all="ignore"):
        largest = x.max(axis=-1, keepdims=True)
        below = np.where(x == largest, 0, x - largest)
        y = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
        undecided = ~np.isfinite(largest) & ((largest < 0) | ((x == inf).sum(axis=-1, keepdims=True) > 1))
    return np.where(undecided | np.isnan(largest), L(nan), y)


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


# ---- twins


SPECIAL = [0.0, -0.0, 1e-40, 1e15, -1e15, inf, -inf, nan]


def with_one(x, value, place):
    changed = np.array(x)
    changed.reshape(-1)[place % x.size] = value
    return changed


def twins():
    """Lane and case of every differentiable twin."""
    for lane in USABLE:
        with open_lane(lane) as backend:
            yield from ((lane, name) for name, case in FUNCTIONS.items() if case.function.__name__ in backend.kernels())


@pytest.mark.parametrize(("lane", "name"), list(twins()))
def test_twins_at_the_edges(lane, name):
    """Each special value at three places among ordinary ones: forms agree on what is infinite and what is NaN."""
    with open_lane(lane) as backend:
        compare_forms(backend, FUNCTIONS[name])


def compare_forms(backend, case):
    (first, *rest), fixed = case.arguments(4)
    others = put(backend, (tuple(rest), fixed), "float32")
    for value in SPECIAL:
        for place in (0, 7, 1000):
            x = put(backend, with_one(first, value, place), "float32")
            results = []
            for form in (case.call, case.call_portable):
                with backend.context(), np.errstate(all="ignore"):
                    y, backward = form(x, *others[0], *others[1])
                    dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), "float32")
                    results.append(get(backend, (y, backward(dy))))
            for actual, expected in zip(flat(results[0]), flat(results[1]), strict=True):
                if case.function is functional.conv_transpose2d and str(backend).startswith("jax"):
                    # XLA leaves out what padding adds; the portable form multiplies it, and 0 times infinity is NaN.
                    expected = np.where(np.isnan(expected), actual, expected)
                scale = abs(expected[np.isfinite(expected)]).max(initial=1.0)
                np.testing.assert_allclose(
                    actual, expected, rtol=1e-4, atol=1e-5 * scale, err_msg=f"{value} at {place}"
                )


def flat(result):
    """Value and gradients as a list."""
    y, grads = result
    return [y, *(grads if isinstance(grads, tuple) else (grads,))]


# ---- pooling

WINDOWS = {
    "tiles": {"size": 2},
    "overlapping": {"size": 3, "stride": 1},
    "padded": {"size": 3, "stride": 2, "padding": 1},
    "uneven": {"size": 2, "stride": 2, "padding": ((1, 0), (0, 1))},
    "same": {"size": 3, "stride": 2, "padding": "same"},
}


def pooled(x, dy, rows, columns):
    """Window by window: the largest value, NaN if there is one; the first of equal ones, and the last NaN."""
    y, dx = np.empty(dy.shape), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(dy.shape):
        best = None
        for u in range(rows.kernel):
            for v in range(columns.kernel):
                p, q = i * rows.stride + u - rows.before, j * columns.stride + v - columns.before
                if 0 <= p < rows.size and 0 <= q < columns.size:
                    value = x[n, p, q, c]
                    if best is None or value > x[best] or np.isnan(value):
                        best = (n, p, q, c)
        y[n, i, j, c] = x[best]
        dx[best] += dy[n, i, j, c]
    return y, dx


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("lowest", [-inf, -1.0])
def test_max_pooling(windows, lowest, backend):
    rng = np.random.default_rng(3)
    x = rng.choice([lowest, lowest, 0.0, 1.0, inf, nan], p=[0.35, 0.35, 0.1, 0.1, 0.05, 0.05], size=(3, 6, 6, 5))
    x[0, :, :, 0] = lowest
    x[1, :3, :3, 1] = nan
    rows, columns = functional.pooling.pool_axes(
        (6, 6), windows["size"], windows.get("stride"), windows.get("padding", 0)
    )
    dy = rng.integers(1, 9, (3, rows.count, columns.count, 5)).astype(float)
    expected = pooled(x, dy, rows, columns)
    for function in forms("max_pool2d"):
        y, backward = function(put(backend, x, "float32"), **windows)
        found = get(backend, (y, backward(put(backend, dy, "float32"))))
        for actual, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


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
