"""Numerical derivatives, and gradient descent on a plain function."""

import numpy as np
import pytest
from array_api_compat import array_namespace
from helpers import assert_here, get, put
from numpy.testing import assert_allclose

from portnn import functional
from portnn.errors import ConfigError, DataError, ShapeError
from portnn.numerical import default_step, gradient, gradient_descent, jacobian, partial

X = np.random.default_rng(0).normal(size=(2, 3))
#: What a central difference is worth, relative to a function of scale 1.
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}


def bowl(x):
    return array_namespace(x).sum(x**2)


def test_gradient(typed):
    backend, dtype = typed
    x = put(backend, X, dtype)
    found = gradient(lambda x: array_namespace(x).sum(array_namespace(x).sin(x)), x)
    assert_here(backend, dtype, found)
    assert_allclose(get(backend, found), np.cos(X), atol=TOLERANCE[dtype])


def test_jacobian(typed):
    backend, dtype = typed
    found = jacobian(lambda x: functional.softmax(x)[0], put(backend, X, dtype))
    assert_here(backend, dtype, found)
    p = get(backend, functional.softmax(put(backend, X, "float32"))[0])
    expected = np.zeros((2, 3, 2, 3))
    for row in range(2):
        expected[row, :, row, :] = np.diag(p[row]) - np.outer(p[row], p[row])
    assert_allclose(get(backend, found), expected, atol=max(TOLERANCE[dtype], 1e-7))


def test_partial_counts_in_row_major_order(backend):
    weights = np.arange(6.0).reshape(2, 3)
    w = put(backend, weights, "float32")
    slopes = [
        get(backend, partial(lambda x: array_namespace(x).sum(w * x), put(backend, X, "float32"), i)) for i in range(6)
    ]
    assert_allclose(slopes, weights.reshape(-1), atol=1e-3)


def test_shapes_of_nothing_and_of_one_number(backend):
    empty = put(backend, np.zeros((0,)), "float32")
    assert jacobian(lambda x: x, empty).shape == (0, 0)
    one = put(backend, np.asarray(3.0), "float32")
    assert gradient(lambda x: x * x, one).shape == ()
    assert_allclose(get(backend, gradient(lambda x: x * x, one)), 6.0, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_default_step_is_near_the_best(dtype):
    """Steps ten times as long and as short are both worse, on average over many points."""
    x = np.linspace(0.5, 1.5, 200, dtype=dtype)

    def error(h):
        return np.mean(np.abs((np.exp(x + x.dtype.type(h)) - np.exp(x - x.dtype.type(h))) / (2 * h) - np.exp(x)))

    h = default_step(x)
    assert error(h) < min(error(10 * h), error(h / 10))


def test_gradient_descent_of_the_lectures(typed):
    backend, dtype = typed
    start = put(backend, np.asarray([-3.0, 4.0]), dtype)
    # A step of its own in float32, where f is 1e-19 in the end and the usual step 5e-3.
    path = gradient_descent(bowl, start, lr=0.1, steps=100, grad=None if dtype == "float64" else lambda x: 2.0 * x)
    assert_here(backend, dtype, path)
    assert path.shape == (101, 2)
    assert_allclose(
        get(backend, path)[-1], [-6.11110793e-10, 8.14814391e-10], rtol=1e-8 if dtype == "float64" else 1e-4
    )


@pytest.mark.parametrize("place", [1e2, -1e5, 1e6, 1e10, -1e12, 1e30])
def test_far_from_zero(place, typed):
    """The identity, a parabola and a product, where numbers lie further apart than the step at 1."""
    backend, dtype = typed
    xp, x = backend.xp, put(backend, np.asarray([place, 2.0]), dtype)
    there = get(backend, x)
    assert_allclose(get(backend, gradient(lambda x: x[0], x)), [1.0, 0.0], rtol=1e-4)
    assert_allclose(get(backend, gradient(lambda x: (x[0] / place) ** 2, x))[0] * place, 2.0, rtol=1e-3)
    found = get(backend, jacobian(lambda x: xp.stack([x[0] * x[1], x[1]]), x))
    assert_allclose(found, [[there[1], there[0]], [0.0, 1.0]], rtol=1e-3)
    path = gradient_descent(lambda x: 0.5 * (x[0] / place) ** 2, x, lr=0.5 * abs(place), steps=2)
    assert_allclose(get(backend, path)[:, 0], [place * (1 - 0.5 / abs(place)) ** k for k in range(3)], rtol=1e-3)


def test_a_step_of_its_own_is_divided_by_as_it_is_rounded(typed):
    """0.01 is not a multiple of the distance of two numbers there."""
    backend, dtype = typed
    x = put(backend, np.asarray([1e5 if dtype == "float32" else 1e13]), dtype)
    assert_allclose(get(backend, gradient(lambda x: x[0], x, h=0.01)), [1.0], rtol=1e-6)


def test_refused():
    with pytest.raises(ShapeError, match=r"the gradient is that of one number; the value has shape \(2, 3\)"):
        gradient(lambda x: x, X)
    with pytest.raises(DataError, match="floating-point numbers can be differentiated, not of int64"):
        jacobian(lambda x: x, np.arange(3))
    for entry in (-1, 6):
        with pytest.raises(ShapeError, match=f"there is no entry {entry} in an array of 6"):
            partial(bowl, X, entry)
    for h in (0.0, -1e-3, float("nan")):
        with pytest.raises(ConfigError, match=r"h must be a number in \(0, inf\)"):
            gradient(bowl, X, h)
    with pytest.raises(ConfigError, match="lr must be"):
        gradient_descent(bowl, X, lr=0.0, steps=1)
    with pytest.raises(ConfigError, match="steps must be a positive int"):
        gradient_descent(bowl, X, lr=0.1, steps=0)
