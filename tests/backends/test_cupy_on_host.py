"""The twins of the CuPy backend without a GPU: the same wrappers, and the same kernels compiled for the CPU.

See `cupy_on_host` for what is emulated, and what is checked on the way.
"""

import functools
import re

import numpy as np
import pytest
from cupy_on_host import COMPILER, OF_CUPY, in_order, launches, never_waiting, open_cupy_on_host, with_source
from curves import CURVES, trained_as_on_the_cpu
from helpers import assert_close, assert_equal, get, put
from parity import CASES, COMPARE, RULES
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import sums as cupy_sums
from portnn_backends.on_cupy import updates as cupy_updates
from portnn_backends.on_cupy import windows as cupy_windows
from portnn_backends.on_cupy.kernels import KERNELS

from portnn import Network, functional, kernels, losses, nn, optim, tree
from portnn.errors import ConfigError
from portnn.random import Stream
from portnn.training.steps import training_step

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")


@pytest.fixture
def backend():
    with open_cupy_on_host() as backend:
        yield backend


OURS = sorted(KERNELS.keys() - OF_CUPY)
REALS = ["float32", "float64"]


def slow(*values):
    """Each of them takes a second to compile."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("n", [0, 1, 7, 5_001])
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", OURS)
def test_parity(backend, name, dtype, n):
    with launches() as launched:
        COMPARE[kernels.registry[name].kind](backend, name, dtype, n)
    assert launched or n == 0


@pytest.mark.parametrize("dtype", ["float32", *slow("float64")])
@pytest.mark.parametrize("name", OURS)
def test_parity_where_everything_is_scarce(backend, name, dtype, monkeypatch):
    """Threads that loop, sums in two launches, indices of 64 bits, several launches for the leaves."""
    monkeypatch.setattr(cupy_compile, "_BLOCKS", 3)
    monkeypatch.setattr(cupy_sums, "_ROWS", 1)
    monkeypatch.setattr(cupy_sums, "_BLOCKS", 50)
    monkeypatch.setattr(cupy_windows, "_NARROW", 0)
    monkeypatch.setattr(cupy_updates, "_PIECE", 300)
    COMPARE[kernels.registry[name].kind](backend, name, dtype, 1_501)


@pytest.mark.parametrize("name", [name for name in OURS if kernels.registry[name].kind == "differentiable"])
def test_the_same_bits_in_every_order_of_threads(backend, name):
    for case in CASES[name]:
        args, fixed = (put(backend, part, "float32") for part in case.arguments(min(1_501, case.many)))
        results = []
        for backwards in (False, True):
            with in_order(backwards):
                y, backward = case.call(*args, *fixed)
                results.append(get(backend, (y, backward(put(backend, np.ones(y.shape), "float32")))))
        assert_equal(*results)


def compare(backend, function, dtype, *args, **options):
    """A twin against its portable form, for arguments from the host."""
    args = put(backend, args, dtype)
    with launches() as launched:
        actual = function(*args, **options)
    assert launched
    expected = function.portable(*args, **options)
    if function.kind == "differentiable":
        dy = put(backend, np.random.default_rng(1).normal(size=actual[0].shape), dtype)
        actual, expected = ((y, backward(dy)) for y, backward in (actual, expected))
    assert_close(get(backend, actual), get(backend, expected), dtype)


@pytest.mark.parametrize("dtype", REALS)
def test_more_columns_than_a_block_has(backend, dtype):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape)  # noqa: E731
    compare(backend, functional.affine, dtype, normal(130, 33), normal(33, 70), normal(70))
    compare(backend, functional.batch_norm, dtype, normal(300, 70) + 5.0, normal(70), normal(70))
    compare(backend, functional.channel_moments, dtype, normal(2, 3, 70) - 100.0)
    compare(backend, functional.softmax_cross_entropy, dtype, normal(40, 100), rng.integers(0, 100, 40))


def test_a_matrix_without_rows_or_columns(backend):
    for n, k, m in ((0, 3, 2), (4, 0, 2), (4, 3, 0)):
        compare(backend, functional.affine, "float32", np.ones((n, k)), np.ones((k, m)), np.ones(m))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("index", ["int8", "uint64", *slow("uint8", "int16", "uint16", "int32", "uint32", "int64")])
def test_class_numbers_of_every_type(backend, index, smoothing):
    logits = np.random.default_rng(0).normal(size=(9, 5))
    target = np.asarray([0, 1, 2, 3, 4, 4, 100, 5, 0]).astype(index)  # some are none
    compare(backend, functional.softmax_cross_entropy, "float64", logits, target, label_smoothing=smoothing)


def test_logits_that_are_not_finite(backend):
    logits = np.zeros((4, 40))
    logits[0, 3], logits[1, 39], logits[2, 0], logits[3] = -np.inf, np.nan, np.nan, -1e300
    logits, target = put(backend, (logits, np.asarray([1, 0, 0, 39])), "float64")
    with backend.context():
        results = []
        for function in (functional.softmax_cross_entropy, functional.softmax_cross_entropy.portable):
            values, backward = function(logits, target)
            results.append(get(backend, (values, backward(values))))
    tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), *results)


@pytest.mark.parametrize("index", [*slow("int32"), "int64"])
def test_rows_of_pictures(backend, index):
    x = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    rows = np.random.default_rng(1).integers(-300, 300, 70).astype(index)
    args = put(backend, (x, rows), "float32")
    taken = functional.take_rows(*args, backend.dtype("float32"))
    # Bit for bit, as the picture is what the portable form makes of it.
    np.testing.assert_array_equal(get(backend, taken), x[rows] / np.float32(255.0))


def test_nan_goes_through_relu_and_pooling(backend):
    x = np.asarray([-1.0, np.nan, 2.0, -0.0]).reshape(1, 2, 2, 1)
    y, _ = functional.relu(put(backend, x, "float32"))
    np.testing.assert_array_equal(get(backend, y).ravel(), [0.0, np.nan, 2.0, 0.0])
    y, _ = functional.max_pool2d(put(backend, x, "float32"))
    assert np.isnan(get(backend, y)).all()


def test_convolution_by_slabs(backend):
    rng = np.random.default_rng(0)
    args = rng.normal(size=(5, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4))
    for memory in (1, 4 * 6 * 7 * 27 * 2):  # one image at a time, and two
        options = {"padding": 1, "memory": memory}
        compare(backend, functional.conv2d, "float32", *args, rng.normal(size=4), **options)
        turned = (args[0], args[1].transpose(0, 1, 3, 2), rng.normal(size=4))
        compare(backend, functional.conv_transpose2d, "float32", *turned, stride=2, **options)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 9, 1_000_003])
def test_uniform_numbers_are_numpys(backend, length, dtype):
    for stream in (Stream(0), Stream(2**64 - 1, 2**64 - 1, ("noise", 3)), Stream(7, 3).child("a")):
        expected = stream.generator().random(length, dtype=dtype)
        np.testing.assert_array_equal(get(backend, backend.uniform(stream, (length,), dtype)), expected)


def test_the_step_may_be_on_the_device(backend):
    step = backend.asarray(np.asarray(11))
    drawn = backend.uniform(Stream(5).child("noise").at(step), (3, 5), "float32")
    np.testing.assert_array_equal(
        get(backend, drawn), Stream(5).child("noise").at(11).generator().random((3, 5), dtype=np.float32)
    )
    with pytest.raises(ConfigError, match="step must be in"):
        backend.uniform(Stream(5).at(-1), (3,), "float32")


def leaves_of(backend, rule, shapes, dtypes):
    """Leaves (p, g, *slots) of an update rule, on the device."""
    rng = np.random.default_rng(0)
    return [
        put(backend, tuple(abs(rng.normal(size=shape)) for _ in range(2 + RULES[rule].slot_count)), dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_many_leaves_take_few_launches(backend, rule):
    function, hyper = kernels.registry[rule], vars(RULES[rule]) | RULES[rule].hyper(3)
    shapes = [(4_500,), (), (0, 3), *[(n % 7 + 1, 3) for n in range(150)]]
    leaves = leaves_of(backend, rule, shapes, ["float64", *["float32"] * (len(shapes) - 1)])
    expected = [get(backend, function.portable(*leaf, **hyper)) for leaf in leaves]
    gradients = [get(backend, leaf[1]) for leaf in leaves]
    with launches() as launched:
        updated = kernels.update_leaves(function, leaves, hyper)
    assert launched == [rule] * (1 + 3)  # one for float64, and 152 leaves by 64
    for leaf, gradient, actual, wanted in zip(leaves, gradients, updated, expected, strict=True):
        assert all(a is b for a, b in zip(actual, (leaf[0], *leaf[2:]), strict=True))  # in place
        np.testing.assert_array_equal(get(backend, leaf[1]), gradient)
        assert_close(get(backend, tuple(actual)), wanted, leaf[0].dtype.name)


@pytest.mark.parametrize("kind", REALS)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_numbers_of_the_step_may_be_on_the_device(backend, rule, kind):
    function, opt = kernels.registry[rule], RULES[rule]
    in_python = vars(opt) | {key: float(np.dtype(kind).type(value)) for key, value in opt.hyper(3).items()}
    on_device = in_python | put(backend, opt.hyper(3), kind)
    for dtype in REALS:
        a, b = (kernels.update_leaves(function, leaves_of(backend, rule, [(5, 3)], [dtype]), hyper)
                for hyper in (in_python, on_device))  # fmt: skip
        np.testing.assert_equal(get(backend, tuple(a[0])), get(backend, tuple(b[0])))


def test_an_optimizer_updates_in_one_launch(backend):
    net = Network(nn.Sequential([nn.Affine(6), nn.BatchNorm(), nn.ReLU(), nn.Affine(3)]), 4, device="cupy", rng=0)
    opt = optim.Adam()
    with launches() as launched:
        opt.step(net.params, net.params, opt.init(net.params))
    assert launched == ["adam"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CURVES)
def test_same_curve_as_on_the_cpu(backend, case):
    """From pictures in bytes, with dropout and batch normalisation, for 100 steps."""
    run = {"examples": 160, "epochs": 10, "label_smoothing": 0.1}
    trained_as_on_the_cpu(case, "cupy", optim.AdamW(lr=0.01), {"adamw"}, **run)


@pytest.mark.parametrize("case", CURVES)
def test_a_step_waits_for_nothing(backend, case):
    """From the pictures to the new parameters: nothing is read back, so that the step can be recorded."""
    layer, shape = CURVES[case]
    net = Network(layer, shape, device="cupy", rng=0)
    loss, opt = losses.SoftmaxCrossEntropy(), optim.NAdam()
    step = training_step(net, loss, opt, None, None, Stream(0))
    slots, rng = opt.slots(net.params), np.random.default_rng(0)
    data = put(backend, (rng.integers(0, 256, (40, *shape), np.uint8), rng.integers(0, 3, 40)), "float32")
    index = backend.asarray(rng.permutation(40)[:16])
    on_device = {"step": backend.asarray(np.asarray(3)), "optimizer": put(backend, opt.hyper(3), "float32")}
    in_python = {"step": 3, "optimizer": opt.hyper(3)}
    results = []
    for hyper in (on_device, in_python):
        given_up = tree.map(backend.copy, (net.params, net.state, slots))
        with never_waiting():
            result = step(*given_up, (*data, None, index), hyper)
        results.append(get(backend, result))
    assert_close(*results, "float32")
    with pytest.raises(AssertionError, match="this waits for the device"), never_waiting():
        float(index[0])


# What the emulation is there to find.


FAULTS = [
    ("relu", "i < size", "i <= size", "relu_slopes writes outside an array"),
    ("affine", "  __syncthreads();", "  if (threadIdx.y == 0) __syncthreads();", "a barrier that not all threads"),
    ("softmax_cross_entropy", "total = sum_of", "if (lane) total = sum_of", "a shuffle that not all threads"),
    ("softmax_cross_entropy", "double smoothing", "float smoothing", "float64 for a parameter f4"),
    ("relu", "values[j] > 0 ? slopes[j]", "values[j] > 1 ? slopes[j]", "Not equal to tolerance"),
    ("relu", "i < words", "i <= words", "relu_slopes writes outside an array"),
    ("affine", "  __syncthreads();", "", "Not equal to tolerance"),
    ("softmax_cross_entropy", "apart > 0; apart /= 2) value", "apart > 1; apart /= 2) value", "Not equal to tol"),
    ("conv2d", "total[c] += values", "total[c] = values", "Not equal to tolerance"),
    ("adam", "rest1 = 1 - beta1,", "rest1 = 1.001 - beta1,", "Not equal to tolerance"),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "error"),
    [*FAULTS[:4], *(pytest.param(*fault, marks=pytest.mark.slow) for fault in FAULTS[4:])],
)
def test_faults_are_found(backend, monkeypatch, name, old, new, error):
    changed = []

    def change(text):
        found = re.subn(re.escape(old), lambda _: new, text)
        changed.append(found[1])
        return found[0]

    with_source(monkeypatch, change)
    run = functools.partial(COMPARE[kernels.registry[name].kind], backend, name, "float32", 301)
    with pytest.raises(AssertionError, match=error):
        run()
    assert any(changed)
