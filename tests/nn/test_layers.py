"""Generic tests over the table of layers."""

import numpy as np
import pytest
from families import LAYERS, MLP, LayerCase
from helpers import assert_close, assert_equal, assert_here, get, put
from lanes import host_closed, open_lane

from portnn import get_backend, nn, tree
from portnn.errors import ConfigError, ShapeError
from portnn.gradcheck import gradcheck_layer
from portnn.random import ShapeStream, Stream

all_layers = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)


def make(case: LayerCase, backend, dtype, n=4):
    """Parameters, state and a batch on the backend, and the declared output shape."""
    params, state, output_shape = case.layer.init(Stream(0), case.input_shape)
    x = np.random.default_rng(0).normal(size=(n, *case.input_shape))
    x += 0.1 * np.sign(x)  # away from the kinks
    return *put(backend, (params, state, x), dtype), output_shape


@all_layers
def test_declared_shape_dtype_and_device(case, typed):
    backend, dtype = typed
    params, state, x, output_shape = make(case, backend, dtype)
    y, new_state, backward = case.layer.forward(params, state, x, train=True, rng=Stream(0))
    assert y.shape == (4, *output_shape)
    dx, grads = backward(y)
    assert dx.shape == x.shape
    tree.map(lambda p, g: (p.shape == g.shape) or pytest.fail("gradient of another shape"), params, grads)
    tree.map(lambda a, b: None, state, new_state)  # raises where the structures differ
    assert_here(backend, dtype, (y, dx, grads, new_state))


@all_layers
def test_gradient_is_the_derivative(case, backend64):
    gradcheck_layer(case.layer, case.input_shape, device=backend64)


@all_layers
def test_skipping_the_input_gradient_changes_no_other(case, backend):
    params, state, x, _ = make(case, backend, "float32")
    y, _, backward = case.layer.forward(params, state, x, train=True, rng=Stream(0))
    _, with_input = backward(y)
    _, without = backward(y, input_grad=False)
    assert_equal(get(backend, without), get(backend, with_input))


@all_layers
def test_apply_is_forward_at_inference(case, backend):
    params, state, x, _ = make(case, backend, "float32")
    y, _, _ = case.layer.forward(params, state, x)
    assert_equal(get(backend, case.layer.apply(params, state, x)), get(backend, y))


@all_layers
def test_batch_equals_one_by_one(case, backend64):
    params, state, x, _ = make(case, backend64, "float64", n=3)
    whole = get(backend64, case.layer.apply(params, state, x))
    rows = [get(backend64, case.layer.apply(params, state, x[i : i + 1, ...])) for i in range(3)]
    assert_close(np.concatenate(rows), whole, "float64")


@all_layers
def test_same_result_on_every_backend(case, typed):
    backend, dtype = typed
    results = []
    for lane in (backend, get_backend("numpy")):
        params, state, x, _ = make(case, lane, dtype)
        y, _, backward = case.layer.forward(params, state, x, train=True, rng=Stream(0))
        results.append(get(lane, (y, backward(y))))
    assert_close(results[0], results[1], dtype)


@all_layers
def test_nothing_leaves_the_device(case):
    with open_lane("strict:device1") as backend:
        params, state, x, _ = make(case, backend, "float32")
        with host_closed(backend):
            y, _, backward = case.layer.forward(params, state, x, train=True, rng=Stream(0))
            backward(y, input_grad=False)
            case.layer.apply(params, state, x)


@all_layers
def test_under_jax_jit(case):
    jax = pytest.importorskip("jax")
    backend = get_backend("jax")
    params, state, x, _ = make(case, backend, "float32")

    def both(params, state, x):
        y, _, backward = case.layer.forward(params, state, x, train=True, rng=Stream(0))
        return y, backward(y)

    assert_close(get(backend, jax.jit(both)(params, state, x)), get(backend, both(params, state, x)), "float32")


@all_layers
def test_configuration_round_trip(case):
    assert nn.from_config(nn.to_config(case.layer)) == case.layer


@all_layers
def test_shapes_without_drawing(case):
    drawn, blank = case.layer.init(Stream(0), case.input_shape), case.layer.init(ShapeStream(), case.input_shape)
    assert drawn[2] == blank[2]
    tree.map(lambda a, b: a.shape == b.shape or pytest.fail("another shape"), drawn[:2], blank[:2])


def test_shape_errors_say_where_and_what():
    with pytest.raises(ShapeError, match=r"Affine takes rows of one axis, not of shape \(2, 3\): put Flatten"):
        nn.Affine(3).init(Stream(0), (2, 3))
    with pytest.raises(ShapeError, match="layer 1: layer 0: Affine takes rows of one axis"):
        nn.Sequential([nn.ReLU(), nn.Sequential([nn.Affine(3)])]).init(Stream(0), (2, 3))


def test_bad_configuration_fails_at_construction():
    for units in (0, -1, 2.5, True, "3"):
        with pytest.raises(ConfigError, match="units must be a positive int"):
            nn.Affine(units)
    with pytest.raises(ConfigError, match="entry 1 of Sequential is no layer"):
        nn.Sequential([nn.ReLU(), nn.ReLU])


def test_sequential_at_inference_drops_what_backward_would_need():
    """The peak of memory is that of a layer or two, not of all twenty."""
    import tracemalloc

    deep = nn.Sequential([nn.Tanh() for _ in range(20)])
    params, state, _ = deep.init(Stream(0), (1000,))
    x = np.zeros((500, 1000))
    tracemalloc.start()
    deep.apply(params, state, x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * x.nbytes


def test_sequential_skips_what_comes_before_the_first_parameter():
    """Flatten and Tanh have nothing to train: their backward must not run where no input gradient is wanted."""
    calls = []

    class Watched(nn.Tanh):
        def forward(self, params, state, x, *, train=False, rng=None):
            y, state, backward = super().forward(params, state, x, train=train, rng=rng)

            def watched(dy, input_grad=True):
                calls.append(input_grad)
                return backward(dy, input_grad)

            return y, state, watched

    layer = nn.Sequential([nn.Flatten(), Watched(), MLP, Watched()])
    params, state, _ = layer.init(Stream(0), (2, 2))
    y, _, backward = layer.forward(params, state, np.ones((3, 2, 2)))
    dx, _ = backward(y, input_grad=False)
    assert dx is None
    assert calls == [True]
