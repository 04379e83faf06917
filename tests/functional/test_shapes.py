"""Whoever calls the mathematics is held to the shapes that it states: arguments and dy, portable form and twin."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools

import numpy as np
import pytest
from families import ARRAY_FUNCTIONS, FUNCTIONS, LAYERS, LOSSES, OPTIMIZERS
from helpers import assert_equal, put
from lanes import USABLE, open_lane

from portnn import functional, get_backend, kernels, losses, metrics, nn, optim
from portnn.errors import KernelError, ShapeError
from portnn.random import Stream
from portnn.shapes import Shapes, shaped

RULES = {opt.rule.__name__: opt for opt in OPTIMIZERS.values() if isinstance(opt, optim.UpdateRule)}

#: Axes that no other array shares, so that another length is another call and no mistake: (argument, axis).
FREE = {
    "affine": {(0, 0)},
    "batch_norm": {(0, 0), (0, 1)},
    "batch_norm_inference": {(0, 0), (0, 1)},
    "batch_norm_with_moments": {(0, 0), (0, 1)},
    "layer_norm": {(0, 0), (0, 1)},
    "conv2d*": {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)},
    "conv_transpose2d*": {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)},
    "matmul": {(0, 1), (1, 2)},
    "scatter_add": {(0, 0)},
    "take_rows": {(0, 0), (0, 1), (0, 2), (1, 0)},
    # Class numbers do not say how many classes there are.
    "softmax_cross_entropy": {(0, 1)},
    "negative_log_likelihood": {(0, 1)},
}
#: Which arrays may have an axis more: one for what stands for `...` in front of the channels.
FREE_AXES = {
    name: {0} for name in ("batch_norm", "batch_norm_inference", "batch_norm_with_moments", "layer_norm", "take_rows")
}


def that_only_broadcast(shape, free=(), free_axes=False):
    """Shapes that an operator would take beside this one: an axis of 1, an axis more or less."""
    for axis, length in enumerate(shape):
        if length > 1 and axis not in free:
            yield (*shape[:axis], 1, *shape[axis + 1 :])
    if shape and not free_axes:
        yield shape[1:]
    if not free_axes:
        yield (1, *shape)
        yield (*shape, 1)


def cases():
    """``(name, call, arrays, what else it takes)`` of everything that is registered."""
    for name, case in FUNCTIONS.items():
        moving, fixed = case.arguments(5)
        yield name, case.call, (*moving, *fixed), ()
    moving, _ = FUNCTIONS["batch_norm"].arguments(5)
    yield "batch_norm_with_moments", kernels.registry["batch_norm_with_moments"], moving, ()
    for name, make in ARRAY_FUNCTIONS.items():
        more = (np.dtype("float32"),) if name == "take_rows" else ()
        yield name, kernels.registry[name], make(np.random.default_rng(0), 5), more
    for name, opt in RULES.items():
        arrays = tuple(np.abs(np.random.default_rng(0).normal(size=(2 + opt.slot_count, 4, 3))))
        rule, hyper = kernels.registry[name], vars(opt) | opt.hyper(3)
        yield name, functools.partial(rule, **hyper), arrays, ()


CASES = {name: rest for name, *rest in cases()}
#: A function of one array takes all of its shapes, or says so itself.
SEVERAL = [name for name, (_, arrays, _) in CASES.items() if len(arrays) > 1]


def test_everything_registered_is_in_the_table():
    assert {name.partition("-")[0] for name in CASES} | {"step"} == set(kernels.registry)


@pytest.fixture(params=[name for name in USABLE if name != "numpy-readonly"])
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


@pytest.mark.parametrize("portable", [False, True], ids=["twin", "portable"])
@pytest.mark.parametrize("name", SEVERAL)
def test_shapes_that_only_broadcast_are_refused(lane, name, portable):
    call, arrays, more = CASES[name]
    more = tuple(lane.dtype("float32") for _ in more)
    plain = name.partition("-")[0]
    free, free_axes = FREE.get(name, FREE.get(f"{plain}*", set())), FREE_AXES.get(name, set())
    with kernels.portable() if portable else contextlib.nullcontext(), lane.context():
        for i, array in enumerate(arrays):
            own = {axis for argument, axis in free if argument == i}
            for shape in that_only_broadcast(array.shape, own, i in free_axes):
                bad = np.resize(array, shape).astype(array.dtype)
                here = put(lane, tuple(bad if k == i else a for k, a in enumerate(arrays)), "float32")
                with pytest.raises(ShapeError, match=f"^{plain} takes .* is |channels in . groups"):
                    call(*here, *more)


@pytest.mark.parametrize("portable", [False, True], ids=["twin", "portable"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_dy_of_another_shape_is_refused(lane, name, portable):
    case = FUNCTIONS[name]
    moving, fixed = case.arguments(5)
    with kernels.portable() if portable else contextlib.nullcontext(), lane.context():
        y, backward = case.call(*put(lane, moving, "float32"), *put(lane, fixed, "float32"))
        for shape in that_only_broadcast(tuple(y.shape)):
            with pytest.raises(ShapeError, match=r"^the backward of \w+ takes dy of the shape of its y, \(5,"):
                backward(lane.asarray(np.ones(shape, np.float32)))
        backward(lane.asarray(np.ones(tuple(y.shape), np.float32)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_made_has_the_shape_that_is_stated(name):
    case = FUNCTIONS[name]
    moving, fixed = case.arguments(5)
    y, _ = case.call(*moving, *fixed)
    shapes = case.function.shapes
    assert shapes.fits_output([a.shape for a in (*moving, *fixed)], y.shape)
    assert not shapes.fits_output([a.shape for a in (*moving, *fixed)], (*y.shape, 7)) or name == "reshape"


@pytest.mark.parametrize("name", SEVERAL)
def test_twins_read_nothing_behind_their_arrays(name):
    """Each array lies in front of numbers that would show in whatever is made of them."""
    call, arrays, more = CASES[name]

    def in_front_of(values, poison):
        buffer = np.full(values.size + 4096, poison, values.dtype)
        buffer[: values.size] = values.reshape(-1)
        return buffer[: values.size].reshape(values.shape)

    def everything(poison):
        here = [in_front_of(a, 0 if poison is None else poison) for a in map(as_float32, arrays)]
        made = call(*here, *more)
        if kernels.registry[name.partition("-")[0]].kind != "differentiable":
            return made
        y, backward = made
        like = y[0] if isinstance(y, tuple) else y
        return y, backward(in_front_of(np.ones_like(like), 0 if poison is None else poison))

    with get_backend("numpy").context():
        assert_equal(everything(100), everything(None))


def as_float32(a):
    return a.astype(np.float32) if a.dtype.kind == "f" else a


@pytest.mark.parametrize("name", LOSSES)
def test_losses_refuse_targets_and_weights_that_only_broadcast(lane, name):
    case, rng = LOSSES[name], np.random.default_rng(0)
    (prediction,), (target,) = case.prediction(rng, 5), case.target(rng, 5)
    p, t = put(lane, (prediction, target), "float32")
    column, one = (lane.asarray(np.ones(shape, np.float32)) for shape in ((5, 1), (1,)))
    for function in (case.loss, case.loss.totals):
        for shape in that_only_broadcast(target.shape):
            bad = put(lane, np.resize(target, shape).astype(target.dtype), "float32")
            with pytest.raises(ShapeError, match="takes"):
                function(p, bad)
        for shape in that_only_broadcast(prediction.shape, {1} if target.ndim == 1 else ()):
            with pytest.raises(ShapeError, match="takes"):
                function(put(lane, np.resize(prediction, shape), "float32"), t)
        for weight in (column, one):
            with pytest.raises(ShapeError, match=r"sample_weight is one number an example, \(5,\), not \("):
                function(p, t, weight)
    with pytest.raises(ShapeError, match="dloss is one number"):
        case.loss(p, t)[1](column)


@pytest.mark.parametrize("name", metrics.__all__)
def test_metrics_refuse_what_only_broadcasts(name):
    metric = getattr(metrics, name)
    if not hasattr(metric, "shapes"):
        pytest.skip(f"{name} is no function of prediction and target")
    p, t = np.ones((4, 3)), np.ones((4, 3))
    assert metric(p, t).shape == ()
    for shape in that_only_broadcast((4, 3)):
        if not (name == "accuracy" and shape == (4,)):
            with pytest.raises(ShapeError, match=f"{name} takes"):
                metric(p, np.ones(shape))
    for labels in ((4, 1), (1,), (3,)):
        with pytest.raises(ShapeError, match=f"{name} takes"):
            metric(p, np.ones(labels, np.int64))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_refuse_dy_of_another_shape(name, train):
    case, rng = LAYERS[name], Stream(0)
    params, state, output_shape = case.layer.init(rng, case.input_shape)
    x = np.random.default_rng(0).normal(size=(4, *case.input_shape))
    y, _, backward = case.layer.forward(params, state, x, train=train, rng=rng)
    assert y.shape == (4, *output_shape)
    for shape in that_only_broadcast(y.shape):
        with pytest.raises(ShapeError, match="takes dy of the shape of its y"):
            backward(np.ones(shape))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("key", ["gamma", "beta", "mean", "var"])
def test_batch_norm_refuses_parameters_and_state_of_one_number(key, train):
    layer = nn.BatchNorm()
    params, state, _ = layer.init(Stream(0), (4,))
    for held in (params, state):
        if key in held:
            held[key] = np.ones(1)
    with pytest.raises(ShapeError):
        layer.forward(params, state, np.ones((8, 4)), train=train)


def test_a_residual_whose_ways_make_other_shapes_is_refused():
    layer = nn.Residual(nn.Affine(1))
    params = {"layer": {"w": np.ones((4, 1)), "b": np.ones(1)}, "shortcut": {}}
    with pytest.raises(ShapeError, match=r"makes \(8, 1\), its shortcut \(8, 4\)"):
        layer.forward(params, {"layer": (), "shortcut": ()}, np.ones((8, 4)))


def test_a_loss_that_does_not_give_one_number_an_example_is_named():
    class Whole(losses.Loss):
        function = staticmethod(lambda p, t: ((p - t).sum(), None))
        targets = "numbers"

    with pytest.raises(ShapeError, match=r"Whole's loss is one number an example, \(4,\), not \(\)"):
        Whole()(np.ones((4, 1)), np.ones((4, 1)))


def test_named_arguments_are_checked_like_the_others():
    x, w, b = np.ones((4, 3)), np.ones((3, 2)), np.ones(2)
    assert functional.affine(x, b=b, w=w)[0].shape == (4, 2)
    with pytest.raises(ShapeError, match="affine takes"):
        functional.affine(x, b=b[:1], w=w)
    with pytest.raises(TypeError, match="missing 1 required"):
        functional.affine(x, w)
    assert metrics.binary_accuracy(target=np.ones((2, 1)), prediction=np.ones((2, 1))) == 1.0
    with pytest.raises(TypeError, match="missing 1 required"):
        metrics.accuracy(np.ones((4, 3)))


def test_dy_of_another_dtype_is_cast_for_a_twin():
    x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    dy = np.ones((64, 32))
    with get_backend("numpy").context():
        np.testing.assert_array_equal(functional.relu(x)[1](dy), functional.relu.portable(x)[1](dy))


def test_what_is_no_array_is_named():
    with pytest.raises(ShapeError, match="relu takes arrays; its x is of type list"):
        functional.relu([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"of the shape of its y, \(2,\), not a float"):
        functional.relu(np.ones(2))[1](1.0)


def test_the_sentence_says_what_does_not_fit():
    with pytest.raises(ShapeError) as error:
        functional.softmax_cross_entropy(np.ones((8, 3)), np.ones((8, 1), int))
    assert str(error.value) == (
        "softmax_cross_entropy takes logits (n, k), target (n,) or (n, k); logits is (8, 3), target is (8, 1): "
        "k cannot be 3 and 1"
    )
    with pytest.raises(ShapeError, match=r"w is \(4, 3, 1\), b is \(3,\): w has 3 axes$"):
        functional.affine(np.ones((8, 4)), np.ones((4, 3, 1)), np.ones(3))


def test_a_docstring_says_the_shapes():
    assert "Shapes: ``(n, k), (k, m), (m,) -> (n, m)``." in functional.affine.__doc__
    missing = [name for name, f in kernels.registry.items() if "Shapes: ``(" not in inspect.getdoc(f)]
    assert missing == []


@pytest.mark.parametrize("text", ["n k", "n, n, n -> n"])
def test_a_statement_that_says_nothing_is_refused(text):
    with pytest.raises(KernelError, match="does not say what shapes the arrays of dot have"):
        shaped(text)(dot)


def dot(rows, w):
    return rows @ w


def test_numbers_stars_and_alternatives():
    pair = Shapes("2 *left, *left | 3 -> ", dot)
    pair.check([np.ones((2, 5, 6)), np.ones((5, 6))])
    pair.check([np.ones((2, 5, 6)), np.ones(3)])
    for first, second in (((3, 5), (5,)), ((2, 5), (4,)), ((2, 5), (5, 1))):
        with pytest.raises(ShapeError):
            pair.check([np.ones(first), np.ones(second)])


def test_what_was_right_once_does_not_make_other_shapes_right():
    for n, k in itertools.product((1, 2, 3), repeat=2):
        functional.squared_error(np.ones((n, k)), np.ones((n, k)))
    for n, k in ((2, 1), (1, 3)):
        with pytest.raises(ShapeError):
            functional.squared_error(np.ones((n, 1)), np.ones((1, k)))


def test_a_compiled_step_is_checked_while_it_is_traced():
    jax = pytest.importorskip("jax")
    compiled = jax.jit(lambda x, dy: functional.relu(x)[1](dy))
    x = jax.numpy.ones((4, 3))
    with pytest.raises(ShapeError):
        compiled(x, jax.numpy.ones((1, 3)))
    text = str(jax.make_jaxpr(lambda x: functional.relu(x)[1](x))(x))
    assert text == str(jax.make_jaxpr(lambda x: functional.relu.portable(x)[1](x))(x))  # nothing of it is computed
