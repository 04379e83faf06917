"""Kinks, empty and strange arrays, other people's code, random expressions, depth and memory."""

import gc
import math
import tracemalloc

import array_api_extra as xpx
import numpy as np
import pytest
from array_api_compat import array_namespace, device
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, broadcastable_shapes
from lanes import USABLE64, open_lane
from numpy.testing import assert_allclose, assert_array_equal
from places import ROOT

from portnn import functional
from portnn.autodiff import checkpoint, grad, hessian, jacobian, jvp, value_and_grad, vjp

#: The imitation of CuPy has no linear algebra.
LANES = [name for name in USABLE64 if name != "cupy-on-host"]


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if "jax" in n else n for n in LANES])
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def total(y):
    return array_namespace(y).sum(y)


def of(name, *more, **options):
    """The sum of a function of the namespace."""

    def function(x):
        xp = array_namespace(x)
        for part in name.split("."):
            xp = getattr(xp, part)
        return total(xp(x, *more, **options))

    return function


#: What docs/autodiff.md says of kinks: function, point, gradient.
KINKS = {
    "max of equals": (of("max"), [2.0, 1.0, 2.0], [0.5, 0.0, 0.5]),
    "min of equals": (of("min"), [2.0, 1.0, 1.0], [0.0, 0.5, 0.5]),
    "max with NaN": (of("max"), [2.0, math.nan], [math.nan, math.nan]),
    "maximum": (of("maximum", 0.0), [0.0, -1.0, 1.0], [0.5, 0.0, 1.0]),
    "minimum": (of("minimum", 0.0), [0.0, -1.0, 1.0], [0.5, 1.0, 0.0]),
    "clip": (of("clip", -1.0, 1.0), [-1.0, 0.0, 1.0, 2.0], [0.5, 1.0, 0.5, 0.0]),
    "abs": (of("abs"), [0.0, -2.0, 3.0], [0.0, -1.0, 1.0]),
    "sign": (of("sign"), [0.0, -2.0], [0.0, 0.0]),
    "floor": (of("floor"), [0.0, 1.5], [0.0, 0.0]),
    "round": (of("round"), [0.5, 1.2], [0.0, 0.0]),
    "vector_norm at 0": (of("linalg.vector_norm"), [0.0, 0.0], [0.0, 0.0]),
    "vector_norm of order 3 at 0": (of("linalg.vector_norm", ord=3), [0.0, 0.0], [0.0, 0.0]),
    "std at 0": (of("std"), [1.0, 1.0], [0.0, 0.0]),
    "hypot at 0": (of("hypot", 0.0), [0.0, 3.0], [0.0, 1.0]),
    "sqrt at 0": (of("sqrt"), [0.0, 4.0], [math.inf, 0.25]),
    "x**0": (lambda x: total(x**0), [0.0, 2.0], [0.0, 0.0]),
    "x**1": (lambda x: total(x**1), [0.0, 2.0], [1.0, 1.0]),
    "x**2": (lambda x: total(x**2), [0.0, 2.0], [0.0, 4.0]),
    "x**0.0 of an array": (lambda x: total(x ** (x * 0.0)), [0.0], [0.0]),
    "0**x": (of("pow", 1.0), [0.0], [1.0]),
    "exponent of 0": (lambda x: total(array_namespace(x).pow(x * 0.0, x)), [2.0], [0.0]),
    "relu from the left": (lambda x: total(functional.relu(x)[0]), [0.0, 1.0], [0.0, 1.0]),
    "where and sqrt": (
        lambda x: total(array_namespace(x).where(x > 0, array_namespace(x).sqrt(x), 0.0)),
        [0.0, 4.0],
        [math.nan, 0.25],
    ),
    "where and sqrt, cured": (
        lambda x: total(array_namespace(x).where(x > 0, array_namespace(x).sqrt(_above_zero(x)), 0.0)),
        [0.0, 4.0],
        [0.0, 0.25],
    ),
}


def _above_zero(x):
    xp = array_namespace(x)
    return xp.where(x > 0, x, 1.0)


@pytest.mark.parametrize("name", KINKS)
def test_kinks(lane, name):
    function, point, expected = KINKS[name]
    x = lane.asarray(np.asarray(point))
    assert_array_equal(lane.to_numpy(grad(function)(x)), expected)
    ones = lane.asarray(np.ones(len(point)))
    if name != "where and sqrt":  # which leaves out what it does not take, on the way forth
        assert_allclose(lane.to_numpy(jvp(function, (x,), (ones,))[1]), np.sum(expected))


def test_exponents_of_both_kinds_at_zero():
    point = (np.asarray([0.0, 0.0, 0.0, 2.0]), np.asarray([0.0, 1.0, 2.0, 0.0]))
    base, exponent = grad(lambda a, b: total(a**b), argnums=(0, 1))(*point)
    assert_array_equal(base, [0.0, 1.0, 0.0, 0.0])
    assert_allclose(exponent, [0.0, 0.0, 0.0, math.log(2.0)])


def test_singular_determinants(lane):
    a = lane.asarray(np.asarray([[1.0, 2.0], [2.0, 4.0]]))
    slope = lane.to_numpy(grad(lambda a: array_namespace(a).linalg.det(a))(a))
    assert_allclose(slope, [[4.0, -2.0], [-2.0, 1.0]], atol=1e-13)
    # Equal singular values, where there is an inverse, and to the second order.
    eye = lane.asarray(np.eye(3))
    assert_allclose(lane.to_numpy(grad(lambda a: array_namespace(a).linalg.det(a))(eye)), np.eye(3), atol=1e-14)
    curved = lane.to_numpy(hessian(lambda a: array_namespace(a).linalg.det(a))(eye))
    assert_allclose(curved[0, 0], np.diag([0.0, 1.0, 1.0]), atol=1e-13)
    assert_allclose(curved[0, 1], [[0, 0, 0], [-1, 0, 0], [0, 0, 0]], atol=1e-13)


def test_decompositions_at_known_points(lane):
    """Values of torch 2.13 and JAX 0.10."""
    a = lane.asarray(np.asarray([[3.0, 1.0], [1.0, 2.0], [0.0, 1.0]]))

    def f(a):
        xp = array_namespace(a)
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
        six = xp.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=a.dtype, device=device(a))
        return xp.sum(s**3) + xp.sum(xp.abs(u) * six) + 2.0 * xp.sum(xp.abs(vh) * six[:2, :])

    value, slope = value_and_grad(f)(a)
    assert_allclose(float(lane.to_numpy(value)), 77.1211836102091, rtol=1e-14)
    expected = [
        [28.762000499941127, 16.1294694302687],
        [15.227157855522938, 16.546290833359066],
        [3.0439987015372663, 8.861563523060157],
    ]
    assert_allclose(lane.to_numpy(slope), expected, rtol=1e-12)
    b = lane.asarray(np.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]]))
    slope = lane.to_numpy(grad(lambda b: total(array_namespace(b).linalg.cholesky(b) ** 3))(b))
    assert_allclose(slope[0], [3.129961130444993, -0.4241823280466583, -0.19132438746662508], rtol=1e-12)


def test_equal_eigenvalues():
    eye = np.eye(3)
    values = lambda a: total(array_namespace(a).linalg.eigvalsh(a) ** 2)  # noqa: E731
    assert_allclose(grad(values)(eye), 2.0 * eye, atol=1e-14)
    by_eigh = lambda a: total(array_namespace(a).linalg.eigh(a)[0] ** 2)  # noqa: E731
    assert_allclose(grad(by_eigh)(eye), 2.0 * eye, atol=1e-14)

    def exponential(a):
        xp = array_namespace(a)
        w, v = xp.linalg.eigh(a)
        return ((v * xp.exp(w)) @ v.T)[0, 1]

    assert np.all(np.isnan(grad(exponential)(eye)))  # the truth is e/2 off the diagonal; 0 there would be wrong
    norms = lambda a: array_namespace(a).linalg.matrix_norm(a, ord="nuc")  # noqa: E731
    assert_allclose(grad(norms)(eye), eye, atol=1e-14)


def test_products_with_zeros_to_the_third_order():
    x = np.asarray([2.0, 0.0, 0.0])
    prod = lambda x: array_namespace(x).prod(x)  # noqa: E731
    assert_array_equal(grad(prod)(x), [0.0, 0.0, 0.0])
    assert_array_equal(hessian(prod)(x), [[0, 0, 0], [0, 0, 2], [0, 2, 0]])
    third = jacobian(hessian(prod))(x)
    assert third[0, 1, 2] == 1.0
    assert np.sum(third) == 6.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_broadcasting_of_any_shapes(data):
    """0-d arrays and empty axes among them; views that are strided, flipped or read-only."""
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    other = data.draw(broadcastable_shapes(shape, max_dims=3, max_side=3))
    numbers = st.floats(-2.0, 2.0, width=32)
    a, b = data.draw(arrays(float, shape, elements=numbers)), data.draw(arrays(float, other, elements=numbers))
    if data.draw(st.booleans()):
        a = np.repeat(a[..., None], 2, axis=-1)[..., 0].T.T
    if data.draw(st.booleans()) and b.ndim:
        b = b[::-1]
    a.flags.writeable = False

    def f(a, b):
        xp = array_namespace(a, b)
        return total(xp.sin(a) * b + a / (2.0 + b * b) - xp.hypot(a, b * b + 1.0))

    value, (da, db) = value_and_grad(f, argnums=(0, 1))(a, b)
    r = np.hypot(a, b * b + 1.0)
    slope_a = np.broadcast_to(np.cos(a) * b + 1 / (2.0 + b * b) - a / r, np.broadcast_shapes(shape, other))
    slope_b = np.sin(a) - 2.0 * a * b / (2.0 + b * b) ** 2 - (b * b + 1.0) * 2.0 * b / r
    assert_allclose(value, f(a, b))
    assert_allclose(da, reduced(slope_a, shape), atol=1e-12)
    assert_allclose(db, reduced(slope_b, other), atol=1e-12)
    along = (np.ones(shape), np.ones(other))
    assert_allclose(jvp(f, (a, b), along)[1], np.sum(da) + np.sum(db), atol=1e-11)
    flat = jacobian(lambda a: array_namespace(a).reshape(a * 2.0, (a.size,)))(a)
    assert flat.shape == (math.prod(shape), *shape)


def reduced(g, shape):
    """The sum over what was broadcast."""
    g = np.sum(g, axis=tuple(range(np.ndim(g) - len(shape))))
    return np.sum(g, axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def test_empty_arrays(lane):
    x = lane.asarray(np.zeros((0, 3)))
    for f in (
        total,
        lambda x: total(x @ x.T),
        lambda x: total(array_namespace(x).concat([x, x])[:, ::2]),
        lambda x: total(array_namespace(x).prod(x, axis=0)),
        lambda x: total(array_namespace(x).cumulative_sum(x, axis=0)),
        lambda x: total(array_namespace(x).take(x, _index(x), axis=1)),
    ):
        assert grad(f)(x).shape == (0, 3)


def _index(x):
    xp = array_namespace(x)
    return xp.asarray([0, 0, 2], dtype=xp.int64, device=device(x))


@pytest.mark.parametrize("hundred", range(5))
def test_random_expressions(hundred, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from fuzz_autodiff import TOLERANCE, Expression, disagreement

    for seed in range(100 * hundred, 100 * (hundred + 1)):
        expression = Expression(seed)
        assert disagreement(expression) < TOLERANCE, (seed, str(expression))


def test_a_wrong_rule_is_seen_by_them(monkeypatch):
    from portnn.autodiff import namespace
    from portnn.autodiff.rules.forms import Unary

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from fuzz_autodiff import TOLERANCE, Expression, disagreement

    monkeypatch.setattr(namespace, "RULES", {**namespace.RULES, "tanh": Unary(lambda y: 1.0 - 0.9999 * y * y)})
    monkeypatch.setattr(namespace, "_namespaces", {})
    assert max(disagreement(Expression(seed)) for seed in range(5)) > TOLERANCE


# ---- code of other people, which is written against the standard


def test_array_api_extra(lane):
    x = lane.asarray(np.asarray([[0.3, -0.8, 1.2], [0.5, 0.1, -2.0]]))
    for f in (
        lambda x: xpx.pad(x, ((1, 2), (0, 1)), constant_values=0.5),
        lambda x: xpx.at(x * 1.0)[0, ...].multiply(3.0),
        lambda x: xpx.at(x)[1, ...].set(x[0, ...] * 2.0),
        lambda x: xpx.kron(x, x[:, :1]),
        lambda x: xpx.sinc(x),
        lambda x: xpx.create_diagonal(x[0, ...]),
        lambda x: xpx.cov(x),
        *([lambda x: xpx.nan_to_num(x) * x] if hasattr(xpx, "nan_to_num") else []),  # of version 0.8
        lambda x: xpx.atleast_nd(x, ndim=4),
    ):
        number = lambda x, f=f: total(f(x) ** 2 + f(x))  # noqa: E731
        direction = lane.asarray(np.asarray([[1.0, -0.5, 0.3], [0.2, 0.7, -1.1]]))
        h = 1e-6
        values = [lane.to_floats([number(x + s * h * direction)])[0] for s in (1.0, -1.0)]
        slope = lane.to_numpy(grad(number)(x))
        found = float(np.sum(slope * lane.to_numpy(direction)))
        assert_allclose((values[0] - values[1]) / (2 * h), found, rtol=1e-6, atol=1e-7)


def test_scipy():
    pytest.importorskip("scipy", minversion="1.15", reason="earlier ones have these for NumPy alone")
    from scipy import special

    x = np.asarray([0.3, -0.8, 1.2])
    p = np.exp(x) / np.sum(np.exp(x))
    assert_allclose(grad(lambda x: special.logsumexp(x))(x), p, rtol=1e-13)
    assert_allclose(hessian(lambda x: special.logsumexp(x))(x), np.diag(p) - np.outer(p, p), atol=1e-14)
    assert_allclose(jacobian(lambda x: special.softmax(x))(x), np.diag(p) - np.outer(p, p), atol=1e-14)


# ---- cost


def test_memory_stays_flat_without_the_collector():
    """Nothing refers to itself: what a derivative needed is gone when it is there."""

    def f(x):
        xp = array_namespace(x)
        y = functional.tanh(xp.sin(x) @ x)[0]
        return xp.sum(y * xp.linalg.vector_norm(x, axis=0) + xp.cumulative_prod(x, axis=0))

    x = np.full((3, 3), 0.3)
    kinds = (
        lambda: grad(f)(x),
        lambda: jvp(grad(f), (x,), (x,)),
        lambda: hessian(f)(x),
        lambda: vjp(checkpoint(f), x)[1](np.asarray(1.0)),
    )
    for kind in kinds:
        kind()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(1000):
            kinds[0]()
        for kind in kinds:
            kind()
        assert len(gc.get_objects()) - before < 100
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_sums_keep_nothing():
    """Of 40 sums of large arrays fewer than 15 are there at once."""
    x = np.ones(200_000)

    def f(x):
        y = x
        for i in range(40):
            y = y + x if i % 2 else y - 0.5 * x
        return total(y)

    grad(f)(x)
    tracemalloc.start()
    slope = grad(f)(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert_allclose(slope, 1.0 + 20 * 1.0 - 20 * 0.5)
    assert peak < 15 * x.nbytes, peak / x.nbytes


def test_twenty_thousand_nodes_deep():
    def f(x):
        for _ in range(20_000):
            x = x * 1.0001
        return x

    assert_allclose(grad(f)(np.asarray(1.0)), 1.0001**20_000, rtol=1e-10)
