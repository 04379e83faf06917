"""Convolutions with what stands behind them, by kernels compiled for their shapes, against the members one by one.

The kernels run on the CPU, see `cupy_on_host`; and where there is a GPU, values and gradients are compared there, too.
What every group is held to stands in `test_groups`.
"""

import itertools

import numpy as np
import pytest
from convolutions import random_convolutions
from cupy_on_host import COMPILER, in_order, launches, open_cupy_on_host, with_source
from groups import Comparison, composition
from helpers import assert_close, assert_equal, get, put
from lanes import USABLE, open_lane
from portnn_backends.on_cupy import direct_plan
from portnn_backends.on_cupy.direct import GROUPS, convolve

from portnn import Network, Trainer, functional, losses, nn, optim
from portnn.kernels import portable
from portnn.random import Stream

#: Layers, and the shape of an image.
CASES = {
    "places left out": ((nn.Conv2D(5), nn.ReLU(), nn.MaxPool2D()), (7, 9, 3)),
    "wider stride": ((nn.Conv2D(12, 3, stride=(2, 3)), nn.MaxPool2D((1, 2))), (11, 9, 8)),
    "pooled first": ((nn.Conv2D(4, padding=((1, 0), (2, 1))), nn.MaxPool2D((2, 3)), nn.ReLU()), (8, 8, 4)),
    "no square": ((nn.Conv2D(8, (3, 2), stride=(2, 1), padding="valid"), nn.ReLU()), (9, 8, 4)),
    "gaps": ((nn.Conv2D(4, 2, stride=3, padding=1), nn.ReLU()), (8, 7, 2)),
    "much padding": ((nn.Conv2D(2, (5, 4), padding=((4, 3), (0, 5))),), (3, 4, 2)),
    "a row": ((nn.Conv2D(3, (1, 5)), nn.ReLU(), nn.MaxPool2D((1, 7))), (1, 30, 1)),
    "a pixel": ((nn.Conv2D(3, 1), nn.MaxPool2D((3, 2)), nn.ReLU()), (7, 5, 4)),
    "cnn, first": ((nn.Conv2D(16), nn.ReLU(), nn.MaxPool2D()), (28, 28, 1)),
    "cnn, second": ((nn.Conv2D(32), nn.ReLU(), nn.MaxPool2D()), (14, 14, 16)),
    "cnn-best, last": ((nn.Conv2D(64),), (7, 7, 64)),
}

#: Tried by every run of the suite; the others, each of which takes two seconds to compile, by the slow one.
QUICK = {"places left out", "pooled first"}
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture
def backend():
    if COMPILER is None:
        pytest.skip("there is no g++ (on Linux) to compile the kernels with")
    with open_cupy_on_host() as backend:
        yield backend


@pytest.fixture(params=["emulated", *(["gpu"] if "cupy" in USABLE else [])])
def either(request):
    """The backend on the CPU, and the one of a GPU that is there."""
    if request.param == "emulated":
        yield request.getfixturevalue("backend")
    else:
        with open_lane("cupy") as opened, opened.context():
            yield opened


def group_of(layers):
    (group,) = (group for group in GROUPS if group.takes(layers))
    return group


class Case:
    """A group, and random values that it is given: integers, so that many are equal, or others."""

    def __init__(self, backend, name, dtype, n=3, *, integers=False, seed=0):
        self.layers, self.shape = CASES[name]
        self.rng = np.random.default_rng(seed)
        shape, params, states = self.shape, [], []
        for layer in self.layers:
            p, s, shape = layer.init(Stream(0), shape)
            params.append(p)
            states.append(s)
        self.integers = integers
        params[0] = {key: self.draw(a.shape) for key, a in params[0].items()}
        self.x, self.dy = self.draw((n, *self.shape)), self.rng.normal(size=(n, *shape))
        self.params, self.states = tuple(params), tuple(states)
        self.comparison = Comparison(backend, group_of(self.layers), dtype)

    def draw(self, shape):
        return self.rng.integers(-2, 3, shape).astype(float) if self.integers else self.rng.normal(size=shape)

    def compare(self):
        """Values and gradients of the group are those of its members; nothing is written that was given."""
        given = put(self.comparison.backend, (self.params, self.states, self.x, self.dy), self.comparison.dtype)
        before = self.comparison.taken
        self.comparison.layers(self.layers, *given)
        assert self.comparison.taken == before + 1

    def compare_of_odd_kernel(self):
        """The portable form sets gradients that stride apart with zeros, and multiplies those, too: 0 inf is NaN."""
        backend, dtype = self.comparison.backend, self.comparison.dtype
        params, states, x, dy = put(backend, (self.params, self.states, self.x, self.dy), dtype)
        results = []
        for function in (self.comparison.group.function, composition):
            with portable():
                y, _, backward = function(self.layers, params, states, x, train=True, rngs=(None,) * len(self.layers))
                dx, grads = backward(dy)
            results.append(get(backend, (y, tuple(grads))))
            results.append(get(backend, dx))
        assert_close(results[0], results[2], dtype)
        defined = np.isfinite(results[3])
        assert_close(results[1][defined], results[3][defined], dtype)
        assert not np.isfinite(results[1]).all()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EVERY)
def test_parity(either, name, dtype):
    Case(either, name, dtype).compare()
    Case(either, name, dtype, 1).compare()
    Case(either, name, dtype, integers=True).compare()


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_finite(either, name):
    """In images, kernels, biases and gradients; NaN and infinity next to each other, and at the edges, too."""
    for seed, odd in itertools.product(range(4 if name in QUICK else 2), (np.nan, np.inf, -np.inf)):
        case = Case(either, name, "float32", 2, integers=seed % 2 == 1, seed=seed)
        flat = case.x.reshape(-1)
        flat[case.rng.integers(0, flat.size, 2)] = odd
        flat[case.rng.integers(0, flat.size)] = np.nan
        flat[-1] = odd
        case.compare()
        case = Case(either, name, "float32", 2, seed=seed)
        case.dy.reshape(-1)[case.rng.integers(0, case.dy.size, 2)] = odd
        case.compare()
        case = Case(either, name, "float32", 2, seed=seed)
        case.params[0]["wb"[seed % 2]].reshape(-1)[1] = odd
        if seed % 2 or case.layers[0].stride == (1, 1):
            case.compare()
        else:
            case.compare_of_odd_kernel()


def test_nan_in_places_that_no_window_holds(either):
    """Where the ReLU comes first, it gives NaN back to them, too; where the pooling does, zero."""
    for behind in ((nn.ReLU(), nn.MaxPool2D()), (nn.MaxPool2D(), nn.ReLU())):
        layers = nn.Conv2D(2, 1), *behind
        x, dy = np.ones((1, 3, 5, 1)), np.ones((1, 1, 2, 2))
        x[0, 2, 1] = np.nan
        params = {"w": np.ones((1, 1, 1, 2)), "b": np.zeros(2)}, {}, {}
        given = put(either, (params, ((), (), ()), x, dy), "float32")
        comparison = Comparison(either, group_of(layers), "float32")
        comparison.layers(layers, *given)
        _, _, backward = comparison.group.function(layers, *given[:-1], train=True, rngs=(None,) * 3)
        assert np.isnan(get(either, backward(given[-1])[0])).sum() == (type(behind[0]) is nn.ReLU)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_block_takes_several_bands(either, monkeypatch, rows):
    monkeypatch.setattr(direct_plan, "ROWS", rows)
    Case(either, "places left out", "float32", 5).compare()


def test_arrays_that_begin_anywhere(either):
    """Vectors are read where they may be: an image of 360 bytes further on is no such place."""
    layers = nn.Conv2D(4), nn.ReLU()
    rng = np.random.default_rng(0)
    x, dy, w, b = put(
        either, tuple(rng.normal(size=s) for s in ((3, 5, 6, 3), (3, 5, 6, 4), (3, 3, 3, 4), (4,))), "float32"
    )
    params = {"w": w, "b": either.xp.concat([b, b])[2:6]}, {}
    x, dy = x[1:], either.xp.concat([b, either.xp.reshape(dy, (-1,))])[2:242].reshape(2, 5, 6, 4)
    assert [a.data.ptr % 16 for a in (x, dy, params[0]["b"])] == [8, 8, 8]
    Comparison(either, group_of(layers), "float32").layers(layers, params, ((), ()), x, dy)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_bits_in_every_order_of_threads(backend, name):
    case, results = Case(backend, name, "float32"), []
    params, states, x, dy = put(backend, (case.params, case.states, case.x, case.dy), "float32")
    for backwards in (False, True):
        with in_order(backwards):
            y, _, backward = group_of(case.layers).function(case.layers, params, states, x, train=True, rngs=())
            dx, grads = backward(dy)
            results.append(get(backend, (y, dx, tuple(grads))))
    assert_equal(*results)


def test_launches(backend):
    """One forth, and two back, whether the gradient of the images is wanted or not."""
    case = Case(backend, "places left out", "float32")
    params, states, x, dy = put(backend, (case.params, case.states, case.x, case.dy), "float32")
    with launches() as forth:
        _, _, backward = group_of(case.layers).function(case.layers, params, states, x, train=True, rngs=())
    assert forth == ["convolved_values"]
    with launches() as back:
        backward(dy)
    assert back == ["convolved_slopes", "column_sums"]
    with launches() as back:
        assert backward(dy, input_grad=False)[0] is None
    assert back == ["convolved_weights", "column_sums"]


@pytest.mark.slow
def test_a_network_learns_as_on_the_cpu(backend):
    """Of two convolutions, one of them with a normalisation behind it; the images are of odd sizes."""
    first, second = (nn.Conv2D(4), nn.ReLU(), nn.MaxPool2D()), (nn.Conv2D(6, stride=2), nn.BatchNorm(), nn.ReLU())
    layer = nn.Sequential([*first, *second, nn.Flatten(), nn.Affine(3)])
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (64, 9, 11, 2), np.uint8), rng.integers(0, 3, 64)
    curves = []
    for device in (backend, "cpu"):
        network = Network(layer, (9, 11, 2), device=device, rng=0)
        trainer = Trainer(network, losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01), rng=0)
        with launches() as launched:
            trainer.fit(x, y, epochs=5, batch_size=16)
        assert (device == "cpu") != (launched.count("convolved_slopes") == launched.count("convolved_weights") == 20)
        curves.append(trainer.history["loss"])
    np.testing.assert_allclose(*curves, rtol=1e-4)
    assert curves[0][-1] < 0.8 * curves[0][0]


def test_arrays_that_do_not_belong_together(backend):
    """The members say what is wrong with them."""
    layers = (nn.Conv2D(4),)
    right = {"x": np.ones((2, 5, 5, 3)), "w": np.ones((3, 3, 3, 4)), "b": np.ones(4)}
    wrong = [{"x": np.ones((2, 5, 5, 2))}, {"x": np.ones((5, 5, 3))}, {"w": np.ones((3, 3, 3, 5))}, {"b": np.ones(1)}]
    for given in [right, *(right | one for one in wrong)]:
        x, w, b = (put(backend, given[name], "float32") for name in "xwb")
        made = group_of(layers).function(layers, ({"w": w, "b": b},), ((),), x, train=False, rngs=())
        assert (made is NotImplemented) == (given is not right)
    for name in "xwb":
        x, w, b = (put(backend, right[other], "float64" if other == name else "float32") for other in "xwb")
        made = group_of(layers).function(layers, ({"w": w, "b": b},), ((),), x, train=False, rngs=())
        assert made is NotImplemented


@pytest.mark.slow
def test_random_shapes(either):
    """The source counts as the plan does: it would not compile otherwise."""
    compared = 0
    for conv in itertools.islice(random_convolutions(100), 0, 100, 5):
        rng = np.random.default_rng(conv.filters)
        kernel = conv.rows.kernel, conv.columns.kernel, conv.channels, conv.filters
        image = 2, conv.rows.size, conv.columns.size, conv.channels
        given = put(either, tuple(rng.integers(-2, 3, s).astype(float) for s in (image, kernel, kernel[3:])), "float32")
        made = convolve(conv, *given)
        if made is NotImplemented:
            continue
        y, backward = made
        dy = put(either, rng.normal(size=y.shape), "float32")
        with portable():
            expected, way_back = by_members(conv, *given)
            assert_close(get(either, (y, *backward(dy))), get(either, (expected, *way_back(dy))), "float32")
        compared += 1
    assert compared > 10


def by_members(conv, x, w, b):
    padding = (conv.rows.ends, conv.columns.ends)
    y, first = functional.conv2d(x, w, b, stride=(conv.rows.stride, conv.columns.stride), padding=padding)
    behind = [lambda y: functional.max_pool2d(y, size=conv.pool)] * (conv.pool != (1, 1))
    backs = []
    for function in (
        [functional.relu] * conv.relu + behind if conv.relu_first else behind + [functional.relu] * conv.relu
    ):
        y, back = function(y)
        backs.append(back)

    def backward(dy):
        for back in reversed(backs):
            dy = back(dy)
        return first(dy)

    return y, backward


# What the comparison is there to find.

FAULTS = [
    ("found > value.at[k]", "found >= value.at[k]", "Not equal to tolerance"),
    ("undefined[k] | 1 << place", "1 << place", "nan location mismatch"),
    ("passes = !RELU || value.at[k] > 0", "passes = true", "Not equal to tolerance"),
    ("row >= HEIGHT", "row > HEIGHT", "Not equal to tolerance|nan location mismatch"),
    ("  __syncthreads();\n\n  const int group", "\n  const int group", "Not equal to tolerance"),
    ("bias_total += bias_sums[i * TILE + me]", "bias_total += 0", "Not equal to tolerance"),
]


@pytest.mark.parametrize(
    ("old", "new", "error"), [FAULTS[0], *(pytest.param(*fault, marks=pytest.mark.slow) for fault in FAULTS[1:])]
)
def test_faults_are_found(backend, monkeypatch, old, new, error):
    changed = []

    def change(text):
        changed.append(old in text)
        return text.replace(old, new)

    with_source(monkeypatch, change)
    with pytest.raises(AssertionError, match=error):
        compare_often(backend)
    assert any(changed)


def compare_often(backend):
    for seed in range(4):
        case = Case(backend, "places left out", "float32", integers=True, seed=seed)
        case.compare()
        case.x.reshape(-1)[case.rng.integers(0, case.x.size, 9)] = np.nan
        case.compare()
