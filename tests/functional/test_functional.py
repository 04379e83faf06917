"""Generic tests over the table of functions."""

import math

import numpy as np
import pytest
from families import FUNCTIONS, FunctionCase
from helpers import assert_close, assert_equal, assert_here, get, put

from portnn import functional, get_backend
from portnn.backend import Backend
from portnn.errors import GradientError
from portnn.gradcheck import gradcheck

REFERENCE = get_backend("numpy")
all_functions = pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS)


def run(case: FunctionCase, backend: Backend, dtype: str, n: int = 5):
    """Value, gradients (a tuple) and pullback on a backend, for a fixed random gradient of the value."""
    args, fixed = (put(backend, part, dtype) for part in case.arguments(n))
    y, backward = case.call(*args, *fixed)
    dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), dtype)
    grads = backward(dy)
    return y, grads if isinstance(grads, tuple) else (grads,), backward, dy


@all_functions
def test_gradient_is_the_derivative(case, backend64):
    args, fixed = (put(backend64, part, "float64") for part in case.arguments(4))
    gradcheck(lambda *a: case.call(*a, *fixed), *args)


@all_functions
def test_pullback_is_linear(case, backend64):
    y, _, backward, dy = run(case, backend64, "float64")
    other = put(backend64, np.random.default_rng(2).normal(size=tuple(y.shape)), "float64")
    together, first, second = (
        get(backend64, g if isinstance(g, tuple) else (g,))
        for g in (backward(2.0 * dy - other), backward(dy), backward(other))
    )
    assert_close(together, tuple(2.0 * a - b for a, b in zip(first, second, strict=True)), "float64")


@all_functions
def test_dtype_device_and_values_on_every_backend(case, typed):
    backend, dtype = typed
    y, grads, _, _ = run(case, backend, dtype)
    assert_here(backend, dtype, (y, grads))
    with_numpy = run(case, REFERENCE, "float64")
    assert_close(get(backend, (y, grads)), (with_numpy[0], with_numpy[1]), dtype)


@all_functions
def test_backward_twice_and_nothing_is_changed(case, backend):
    args, fixed = (put(backend, part, "float32") for part in case.arguments(5))
    before = get(backend, (args, fixed))
    before = tuple(tuple(np.array(a) for a in part) for part in before)
    y, backward = case.call(*args, *fixed)
    y_before = np.array(get(backend, y))
    dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), "float32")
    dy_before = np.array(get(backend, dy))
    first = backward(dy)
    first = tuple(np.array(a) for a in get(backend, first if isinstance(first, tuple) else (first,)))
    second = backward(dy)
    assert_equal(get(backend, second if isinstance(second, tuple) else (second,)), first)
    assert_equal(get(backend, (args, fixed)), before)
    assert_equal(get(backend, (y, dy)), (y_before, dy_before))


by_example = {name: case for name, case in FUNCTIONS.items() if case.by_example}
each_example = pytest.mark.parametrize("case", by_example.values(), ids=by_example)


@each_example
def test_batch_equals_one_by_one(case, backend64):
    args, fixed = (put(backend64, part, "float64") for part in case.arguments(3))
    whole = get(backend64, case.call(*args, *fixed)[0])
    for i in range(3):
        row = tuple(a[i : i + 1, ...] if b else a for a, b in zip(args, case.batched, strict=True))
        y, _ = case.call(*row, *(f[i : i + 1, ...] if case.fixed_batched else f for f in fixed))
        assert_close(get(backend64, y), whole[i : i + 1], "float64")


@each_example
def test_empty_batch(case, backend):
    y, grads, _, _ = run(case, backend, "float32", n=0)
    assert y.shape[0] == 0
    for grad, batched in zip(grads, case.batched, strict=True):
        assert (grad.shape[0] == 0) == batched


@all_functions
def test_under_jax_jit(case):
    jax = pytest.importorskip("jax")

    def both(args, fixed, dy):
        y, backward = case.call(*args, *fixed)
        return y, backward(dy)

    backend = get_backend("jax")
    args, fixed = (put(backend, part, "float32") for part in case.arguments(5))
    y, _ = case.call(*args, *fixed)
    dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), "float32")
    assert_close(get(backend, jax.jit(both)(args, fixed, dy)), get(backend, both(args, fixed, dy)), "float32")


def torch_functions():
    import torch
    from torch.nn import functional as theirs

    return {
        "erf": torch.special.erf,
        "erfc": torch.special.erfc,
        "relu": theirs.relu,
        "leaky_relu": lambda x: theirs.leaky_relu(x, 0.1),
        "elu": theirs.elu,
        "selu": theirs.selu,
        "sigmoid": torch.sigmoid,
        "hard_sigmoid": lambda x: theirs.relu6(x + 3) / 6,  # hardsigmoid has 1/6 of its gradient in float32
        "tanh": torch.tanh,
        "softplus": theirs.softplus,
        "silu": theirs.silu,
        "hard_swish": theirs.hardswish,
        "gelu": theirs.gelu,
        "gelu_tanh": lambda x: theirs.gelu(x, approximate="tanh"),
        "softmax": lambda x: theirs.softmax(x, dim=-1),
        "log_softmax": lambda x: theirs.log_softmax(x, dim=-1),
        "identity": lambda x: x.clone(),
    }


ACTIVATIONS = [name for name in functional.activations.__all__ if name != "step"] + ["erf", "erfc"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equals_torch(name):
    torch = pytest.importorskip("torch")
    if (theirs := torch_functions().get(name)) is None:
        pytest.skip(f"torch_functions has no {name}; test_edges compares it with its definition")
    rng = np.random.default_rng(0)
    x, dy = rng.normal(scale=3.0, size=(40, 7)), rng.normal(size=(40, 7))
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(leaf)
    expected.backward(torch.tensor(dy))
    y, backward = getattr(functional, name).portable(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(backward(dy), leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_and_its_complement_are_exact_to_rounding(dtype):
    """The complement also where it is next to nothing."""
    x = np.concatenate([np.linspace(-8, 8, 2001), [-26.0, 10.0, 26.0, -1.0, 1.0, np.inf, -np.inf]]).astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    y, _ = functional.erf.portable(x)
    np.testing.assert_allclose(y, [math.erf(v) for v in x], rtol=4 * eps)
    assert abs(y).max() == 1.0
    assert (abs(y[abs(x) > 6]) == 1.0).all()
    y, _ = functional.erfc.portable(x)
    np.testing.assert_allclose(y, [math.erfc(v) for v in x], rtol=16 * eps, atol=tiny)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_of_gamma_and_its_derivatives_are_exact(dtype):
    """Also near 1 and 2, where the logarithm is next to nothing; near other zeros to an absolute error."""
    mpmath = pytest.importorskip("mpmath")
    near = np.logspace(-6, -1, 11)
    x = np.concatenate([np.logspace(-8, 8, 65), np.linspace(0.05, 12, 241), 1 - near, 1 + near, 2 - near, 2 + near])
    x = np.concatenate([x, -np.linspace(0.013, 6.3, 77)]).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    points, above = [mpmath.mpf(float(v)) for v in x], x > 0

    def exactly(function):
        with mpmath.workdps(40):
            return np.asarray([float(function(v)) for v in points])

    y, backward = functional.gammaln.portable(x)
    exact = exactly(lambda v: mpmath.re(mpmath.loggamma(v)))
    np.testing.assert_allclose(y[above], exact[above], rtol=8 * eps)
    np.testing.assert_allclose(y, exact, rtol=8 * eps, atol=8 * eps)
    exact = exactly(mpmath.digamma)
    np.testing.assert_allclose(backward(np.ones_like(x))[above], exact[above], rtol=32 * eps, atol=32 * eps)
    y, backward = functional.digamma.portable(x)
    np.testing.assert_allclose(y, exact, rtol=32 * eps, atol=32 * eps)
    exact = exactly(lambda v: mpmath.psi(1, v))
    np.testing.assert_allclose(backward(np.ones_like(x)), exact, rtol=32 * eps)


def test_gamma_at_its_poles(backend):
    x = put(backend, [0.0, -1.0, -7.0], "float32")
    with backend.context():
        assert (get(backend, functional.gammaln(x)[0]) == np.inf).all()
        for form in (functional.digamma, functional.digamma.portable):
            y, backward = form(x)
            assert np.isnan(get(backend, y)).all()
            assert np.isnan(get(backend, backward(y))).all()


def test_step_goes_forward_only(backend):
    y, backward = functional.step(put(backend, [[-1.0, 0.0, 2.0]], "float32"))
    assert_here(backend, "float32", y)
    assert get(backend, y).tolist() == [[0.0, 0.0, 1.0]]
    with pytest.raises(GradientError, match="the step function has no gradient to learn from: use sigmoid"):
        backward(y)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite_far_out(name, backend):
    """Values and gradients for |x| up to 1e4 in float32."""
    x = put(backend, [[-1e4, -88.0, -1e-30, 0.0, 1e-30, 88.0, 1e4]], "float32")
    y, backward = getattr(functional, name)(x)
    dx = backward(x * 0.0 + 1.0)
    assert np.isfinite(get(backend, y)).all()
    assert np.isfinite(get(backend, dx)).all()


def test_softplus_and_log_softmax_are_stable(backend):
    x = put(backend, [[-1e4, -88.0, 0.0, 88.0, 1e4]], "float32")
    tiny = np.finfo(np.float32).tiny
    softplus = get(backend, functional.softplus(x)[0])
    np.testing.assert_allclose(softplus, [[0, np.exp(-88.0), np.log(2), 88, 1e4]], rtol=1e-6, atol=tiny)
    log_softmax = get(backend, functional.log_softmax(x)[0])
    np.testing.assert_allclose(log_softmax, [[-2e4, -10088, -1e4, -9912, 0]], rtol=1e-6)


def test_affine_can_skip_the_input_gradient(backend):
    case = FUNCTIONS["affine"]
    args = put(backend, case.arguments(5)[0], "float32")
    y, backward = functional.affine(*args)
    dx, dw, db = backward(y, input_grad=False)
    assert dx is None
    _, dw_full, db_full = backward(y)
    assert_equal(get(backend, (dw, db)), get(backend, (dw_full, db_full)))


@pytest.mark.parametrize("value", [1e4, 88.0, 1e-30, 0.0, -1e-30, -88.0, -1e4])
def test_sigmoid_and_its_cross_entropy_are_stable(value, backend):
    x = put(backend, np.full((1, 1), value), "float32")
    y, backward = functional.sigmoid(x)
    y, dx = get(backend, (y, backward(x * 0.0 + 1.0)))
    exact = 1 / (1 + np.exp(-np.float64(value))) if value > -700 else 0.0
    subnormal = np.finfo(np.float32).tiny  # XLA flushes these to 0
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=subnormal)
    assert np.isfinite(dx).all()
    for target in (0.0, 1.0):
        values, _ = functional.sigmoid_cross_entropy(x, put(backend, np.full((1, 1), target), "float32"))
        expected = np.logaddexp(0, value if target == 0 else -value)
        np.testing.assert_allclose(get(backend, values), expected, rtol=1e-6, atol=subnormal)


def test_softmax_cross_entropy_is_stable(backend):
    logits = put(backend, np.asarray([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]]), "float32")
    values, backward = functional.softmax_cross_entropy(logits, put(backend, np.asarray([1, 2]), "float32"))
    np.testing.assert_allclose(get(backend, values), [1e4, np.log(3)], rtol=1e-6)
    gradient = get(backend, backward(values * 0.0 + 1.0))
    np.testing.assert_allclose(gradient, [[1, -1, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6, atol=1e-7)


def test_labels_of_a_narrow_dtype_and_many_classes(backend):
    """300 classes do not fit into the uint8 of the labels."""
    logits = put(backend, np.random.default_rng(0).normal(size=(2, 300)), "float32")
    wide, narrow = (backend.asarray(np.asarray([3, 200], dtype=kind)) for kind in (np.int32, np.uint8))
    results = [functional.softmax_cross_entropy(logits, target)[0] for target in (wide, narrow)]
    assert_equal(get(backend, results[0]), get(backend, results[1]))


def test_a_class_that_is_ruled_out_costs_nothing(backend):
    logits = put(backend, [[1.0, -np.inf, 1.0]], "float32")
    values, backward = functional.softmax_cross_entropy(logits, backend.asarray(np.asarray([0])))
    np.testing.assert_allclose(get(backend, values), [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(get(backend, backward(values * 0.0 + 1.0)), [[-0.5, 0.0, 0.5]], atol=1e-7)


def test_nan_is_not_hidden(backend):
    x = put(backend, np.asarray([[np.nan, 1.0]]), "float32")
    for function in (functional.relu, functional.sigmoid, functional.tanh):
        y, _ = function(x)
        assert np.isnan(get(backend, y)).tolist() == [[True, False]]


def test_bytes_are_pixels_and_other_numbers_are_not(typed):
    backend, dtype = typed
    wanted = backend.dtype(dtype)
    pixels = backend.asarray(np.asarray([[0, 51], [255, 102]], dtype=np.uint8))
    numbers = backend.asarray(np.asarray([[0, 51], [255, 102]], dtype=np.int32))
    rows = backend.asarray(np.asarray([1, 0, 1]))
    assert_here(backend, dtype, functional.as_float(pixels, wanted))
    taken = functional.take_rows(pixels, rows, wanted)
    np.testing.assert_allclose(get(backend, taken), [[1.0, 0.4], [0.0, 0.2], [1.0, 0.4]], rtol=1e-6)
    assert get(backend, functional.as_float(numbers, wanted)).tolist() == [[0, 51], [255, 102]]
