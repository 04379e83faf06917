"""Registered functions, layers and losses on traced arrays: one step each, with their hand-written backward."""

import numpy as np
import pytest
from array_api_compat import array_namespace
from families import ARRAY_FUNCTIONS, FUNCTIONS, LAYERS, LOSSES
from lanes import USABLE64, open_lane
from numpy.testing import assert_allclose, assert_array_equal

from portnn import functional, kernels, losses, tree
from portnn.autodiff import checkpoint, custom, grad, hessian, jacobian, jvp, value_and_grad, vjp
from portnn.autodiff.trace import AutodiffArray
from portnn.errors import GradientError, ShapeError, TraceError
from portnn.random import as_stream


@pytest.fixture(
    params=[pytest.param(n, marks=pytest.mark.slow) if n.startswith(("jax", "torch")) else n for n in USABLE64]
)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def waves(like, shift):
    return np.sin(shift + 1.7 * np.arange(like.size)).reshape(like.shape)


def total(y):
    return array_namespace(y).sum(y)


def put_all(backend, arrays):
    return [backend.asarray(a, "float64" if a.dtype.kind == "f" else None) for a in arrays]


def several(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def closely(backend, actual, expected, tolerance, what=""):
    for a, e in zip(actual, expected, strict=True):
        a, e = backend.to_numpy(a), backend.to_numpy(e)
        assert_allclose(a, e, rtol=tolerance, atol=tolerance * max(1.0, np.abs(e).max(initial=0.0)), err_msg=what)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_backward_is_the_derivative_of_its_forward_form(lane, name):
    """The portable form is traced operation by operation, which knows nothing of the backward."""
    case = FUNCTIONS[name]
    moving, fixed = (put_all(lane, arrays) for arrays in case.arguments(5))
    y, backward = case.call(*moving, *fixed)
    dy = lane.asarray(waves(lane.to_numpy(y), 0.0))

    def forward_form(*args):
        ns = args[0].__array_namespace__()
        return case.call_portable(*args, *[ns.asarray(a) for a in fixed])[0]

    traced, derivative = vjp(forward_form, *moving)
    closely(lane, [traced], [y], 1e-10)
    closely(lane, several(derivative(dy)), several(backward(dy)), 1e-10, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_one_step_with_its_own_backward(lane, name):
    case = FUNCTIONS[name]
    moving, fixed = (put_all(lane, arrays) for arrays in case.arguments(5))
    y, backward = case.call(*moving, *fixed)
    dy = lane.asarray(waves(lane.to_numpy(y), 0.0))
    traced, derivative = vjp(lambda *args: case.call(*args, *fixed)[0], *moving)
    assert_array_equal(lane.to_numpy(traced), lane.to_numpy(y))
    for a, e in zip(several(derivative(dy)), several(backward(dy)), strict=True):
        assert_array_equal(lane.to_numpy(a), lane.to_numpy(e))
    # The second derivative is that of the backward.
    where = tuple(range(len(moving)))

    def number(*args):
        y = case.call(*args, *fixed)[0]
        xp = array_namespace(y)
        return xp.sum(0.3 * y * y * y + y)

    slope = grad(number, argnums=where)
    directions = tuple([lane.asarray(waves(lane.to_numpy(a), 1.0)) for a in moving])
    along = jvp(slope, moving, directions)[1]
    closely(lane, several(vjp(slope, *moving)[1](directions)), along, 1e-10, name)
    h = 1e-6
    ahead, behind = (slope(*[a + s * h * d for a, d in zip(moving, directions, strict=True)]) for s in (1.0, -1.0))
    closely(lane, [(p - q) / (2.0 * h) for p, q in zip(ahead, behind, strict=True)], along, 3e-6, name)


def test_functions_that_are_not_differentiated_are_traced_through(lane):
    """Those without a backward: by their portable form, or by the rule of their name."""
    rng = np.random.default_rng(0)
    more = {"take_rows": (lane.dtype("float64"),), "sum_over": (0,), "along_last": ("sum",), "of_all": ("mean",)}
    for name, make in ARRAY_FUNCTIONS.items():
        function = kernels.registry[name]
        args = put_all(lane, make(rng, 4))
        args = [lane.asarray(lane.to_numpy(args[0]).astype(float)), *args[1:]]
        floats = tuple([i for i, a in enumerate(args) if a.dtype == lane.dtype("float64")])

        def number(*args, function=function, name=name):
            made = function(*args, *more.get(name, ()))
            made = made if isinstance(made, tuple) else (made,)
            return sum((0.5 + i) * array_namespace(v).sum(v * v) for i, v in enumerate(made))

        slopes = grad(number, argnums=floats)(*args)
        h = 1e-5
        for place, slope in zip(floats, slopes, strict=True):
            d = lane.asarray(waves(lane.to_numpy(args[place]), 0.3))
            ahead, behind = (
                lane.to_floats([number(*args[:place], args[place] + s * h * d, *args[place + 1 :])])[0]
                for s in (1.0, -1.0)
            )
            expected = float(np.sum(lane.to_numpy(slope) * lane.to_numpy(d)))
            assert_allclose((ahead - behind) / (2 * h), expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("train", [True, False], ids=["train", "predict"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(lane, name, train):
    layer, shape = LAYERS[name].layer, LAYERS[name].input_shape
    rng = as_stream(0)
    params, state, _ = layer.init(rng.child("init"), shape)
    x = rng.child("x").normal((4, *shape))
    params, state, x = tree.map(lambda a: lane.asarray(a, "float64"), (params, state, x))

    def output(params, x, state):
        return layer.forward(params, state, x, train=train, rng=rng.child("noise"))[0]

    y, _, backward = layer.forward(params, state, x, train=train, rng=rng.child("noise"))
    dy = lane.asarray(waves(lane.to_numpy(y), 0.0))
    dx, gradients = backward(dy)

    def number(params, x, state):
        return total(output(params, x, state) * dy)

    if not tree.leaves(params):
        closely(lane, [grad(number, argnums=1)(params, x, state)], [dx], 1e-12)
        return
    found = grad(number, argnums=(0, 1))(params, x, state)
    closely(lane, tree.leaves(found), tree.leaves((gradients, dx)), 1e-11)
    closely(lane, tree.leaves(grad(number)(params, x, state)), tree.leaves(gradients), 1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(lane, name, weighted):
    case, rng = LOSSES[name], np.random.default_rng(0)
    prediction, target = put_all(lane, (case.prediction(rng, 5)[0], case.target(rng, 5)[0]))
    weight = (lane.asarray(np.arange(5.0)),) if weighted else ()
    value, backward = case.loss(prediction, target, *weight)
    found, gradient = value_and_grad(lambda *args: case.loss(*args)[0])(prediction, target, *weight)
    assert_array_equal(lane.to_numpy(found), lane.to_numpy(value))
    closely(lane, [gradient], [backward()], 1e-12)


@pytest.mark.parametrize(
    "name", [n for n, c in LOSSES.items() if c.target(np.random.default_rng(0), 2)[0].dtype.kind == "f"]
)
def test_targets_have_gradients_too(lane, name):
    """The pair has none: the portable form is traced, of which the gradient of a Hessian's inverse is made."""
    case, rng = LOSSES[name], np.random.default_rng(1)
    prediction = case.prediction(rng, 5)[0]
    target = case.target(rng, 5)[0]
    target = 0.8 * target + 0.1  # away from 0 and 1, where the logarithms are
    there = put_all(lane, (prediction, target))

    def loss(*args):
        return case.loss(*args)[0]

    found = lane.to_numpy(grad(loss, argnums=1)(*there))
    both = [lane.to_numpy(g) for g in grad(loss, argnums=(0, 1))(*there)]
    closely(lane, [lane.asarray(both[1])], [lane.asarray(found)], 1e-14)
    closely(lane, [lane.asarray(both[0])], [case.loss(*there)[1]()], 1e-10)
    d, h = waves(target, 0.2), 1e-6
    values = [float(case.loss(prediction, target + s * h * d)[0]) for s in (1.0, -1.0)]
    assert_allclose((values[0] - values[1]) / (2 * h), np.sum(found * d), rtol=1e-6, atol=1e-8)


def test_predictions_and_targets_of_different_levels(lane):
    """What the gradient of a prediction becomes when the target moves: ``-1 / n`` for half of the squares."""
    y, t = (lane.asarray(np.asarray(v)) for v in ([[0.5, -1.0], [2.0, 0.3]], [[1.0, 0.0], [-1.0, 0.7]]))

    def slope(t):
        return grad(lambda y: losses.HalfSquaredError()(y, t)[0])(y)

    def slope_of_target(y):
        return grad(lambda t: losses.HalfSquaredError()(y, t)[0])(t)

    for function, x in ((slope, t), (slope_of_target, y)):
        mixed = lane.to_numpy(jacobian(function)(x))
        assert_allclose(mixed.reshape(4, 4), -0.5 * np.eye(4), rtol=1e-14, atol=1e-15)


def test_input_grad_is_not_asked_for_where_the_input_is_constant(monkeypatch):
    asked = []

    def watched(x, w, b):
        y, backward = functional.affine.portable(x, w, b)

        def pullback(dy, input_grad=True):
            asked.append(input_grad)
            return backward(dy, input_grad)

        return y, pullback

    twin = kernels.Kernel(watched)
    monkeypatch.setattr(kernels, "_twin", lambda name, kind: twin if name == "affine" else None)
    x, w, b = np.ones((4, 3)), np.ones((3, 2)), np.zeros(2)

    def number(*args):
        return total(functional.affine(*args)[0])

    grad(number, argnums=(1, 2))(x, w, b)
    assert asked == [False]
    grad(number, argnums=0)(x, w, b)
    assert asked == [False, True]


def test_gradient_penalty(lane):
    """The backward that a caller is given goes through what it computes: it may be differentiated."""
    x = lane.asarray(np.asarray([0.3, -0.8, 1.2]))

    def penalty(x):
        y, backward = functional.tanh(x)
        xp = array_namespace(x)
        slope = backward(xp.ones_like(y))
        return xp.sum(slope * slope)

    t = np.tanh(lane.to_numpy(x))
    assert_allclose(lane.to_numpy(grad(penalty)(x)), -4.0 * t * (1 - t * t) ** 2, rtol=1e-12)


def test_the_second_derivative_is_that_of_the_backward():
    """erf: of exp(-x^2), and not of the terms of its series."""
    x = np.asarray([0.3, -2.0, 7.0])
    second = grad(lambda x: total(grad(_sum_of_erf)(x)))(x)
    assert_allclose(second, -4.0 * x / np.sqrt(np.pi) * np.exp(-x * x), rtol=1e-14)


def _sum_of_erf(x):
    return total(functional.erf(x)[0])


def test_moments_are_constants():
    (_, mean, _), _ = functional.normalization.batch_norm_with_moments(np.ones((3, 2)), np.ones(2), np.zeros(2))
    assert mean.shape == (2,)

    def number(x):
        (_, mean, var), _ = functional.normalization.batch_norm_with_moments(x, np.ones(2), np.zeros(2))
        return total(mean + var)

    assert_array_equal(grad(number)(np.asarray([[1.0, 2.0], [3.0, 5.0]])), np.zeros((2, 2)))


def test_shapes_are_held_to_with_traced_arrays():
    with pytest.raises(ShapeError, match=r"affine takes x \(n, k\)"):
        vjp(lambda w: functional.affine(np.ones((2, 3)), w, np.zeros(2))[0], np.ones((4, 2)))
    with pytest.raises(ShapeError, match="the backward of tanh takes dy"):
        vjp(lambda x: functional.tanh(x)[1](x[0, ...]), np.ones((2, 3)))


def test_step_has_no_gradient():
    with pytest.raises(GradientError, match="no gradient to learn from"):
        grad(lambda x: functional.step(x)[0])(np.asarray(2.0))


def test_layer_of_ones_own(lane):
    x = lane.asarray(np.asarray([0.5, 2.0]))
    own = custom(lambda x: (x * x, lambda dy: dy * (10.0 * x)))

    def number(x):
        return total(own(x) * x)

    assert_allclose(lane.to_numpy(own(x)), [0.25, 4.0])
    assert_allclose(lane.to_numpy(grad(number)(x)), 11.0 * np.asarray([0.25, 4.0]), rtol=1e-14)
    # And again, by its own rule: of 10 x o(x)' with o' = 10 x, and of o.
    assert_allclose(np.diag(lane.to_numpy(hessian(number)(x))), [20.0 * 0.5 + 10.0 * 0.5, 20.0 * 2.0 + 10.0 * 2.0])


def test_custom_with_several_arguments_and_results():
    def pair(a, b):
        return (a * b, a + b), lambda dy: (dy[0] * b + dy[1], None)

    both = custom(pair)
    a, b = np.asarray([1.0, 2.0]), np.asarray([3.0, 5.0])
    y, backward = vjp(lambda a, b: both(a, b), a, b)
    assert_array_equal(y[0], a * b)
    da, db = backward((np.ones(2), 2.0 * np.ones(2)))
    assert_array_equal(da, b + 2.0)
    assert_array_equal(db, np.zeros(2))
    # Of one result alone the gradient of the other is 0.
    assert_array_equal(grad(lambda a: total(both(a, b)[0]))(a), b)
    assert_array_equal(jvp(lambda a: both(a, b), (a,), (np.ones(2),))[1][0], b)


def test_custom_refuses_what_it_would_lose():
    def outer(x):
        return custom(lambda y: (y * x, lambda dy: dy * x))(x * 1.0)

    with pytest.raises(TraceError, match="pass them as arguments"):
        grad(outer)(np.asarray(2.0))
    with pytest.raises(TraceError, match="pass them as arguments"):
        grad(lambda x: checkpoint(lambda y: y * x)(x))(np.asarray(2.0))


def test_checkpoint(lane):
    x = lane.asarray(np.asarray([0.3, -0.8, 1.2]))
    calls = []

    def block(x, w):
        calls.append(type(x))
        xp = array_namespace(x)
        return xp.sin(x * w) * x

    def number(f):
        return lambda x: total(f(f(x, 2.0 * x), x))

    expected = [lane.to_numpy(d(number(block))(x)) for d in (grad, hessian)]
    before = len(calls)
    y, backward = vjp(number(checkpoint(block)), x)
    assert len(calls) == before + 2
    assert_allclose(lane.to_numpy(backward(y / y)), expected[0], rtol=1e-12)
    assert len(calls) == before + 4  # computed again
    assert_allclose(lane.to_numpy(hessian(number(checkpoint(block)))(x)), expected[1], rtol=1e-10, atol=1e-12)
    assert AutodiffArray not in calls[before : before + 2]


def test_optimizers_can_be_differentiated():
    """A step of descent, with respect to the learning rate's argument: the gradient."""
    from portnn.optim.descent import sgd

    p, g = np.asarray([1.0, 2.0]), np.asarray([0.5, -3.0])

    def after(g):
        (new,) = sgd(p * 1.0, g, lr=0.1)
        return total(new * new)

    assert_allclose(grad(after)(g), -0.2 * (p - 0.1 * g), rtol=1e-12)


def test_losses_inside_functions_of_ones_own():
    t = np.asarray([[1.0], [0.0]])

    def number(w, x):
        y, _ = losses.SigmoidCrossEntropy()(functional.affine(x, w, w[0, :] * 0.0)[0], t)
        return y

    w, x = np.asarray([[0.4], [-0.3]]), np.asarray([[1.0, 2.0], [0.5, -1.0]])
    s = 1.0 / (1.0 + np.exp(-x @ w))
    assert_allclose(grad(number)(w, x), x.T @ (s - t) / 2.0, rtol=1e-12)
    assert_allclose(hessian(number)(w, x)[:, 0, :, 0], (x * (s * (1 - s))).T @ x / 2.0, rtol=1e-12)
