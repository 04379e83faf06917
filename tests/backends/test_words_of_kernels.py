"""Kernels that read 16 bytes at once, on arrays that begin anywhere, and of any length. No GPU: see `cupy_on_host`.

An access to several bytes at an address that is no multiple of their number is an error there, as it is on a GPU.
"""

import functools
import itertools
import re

import numpy as np
import pytest
from cupy_on_host import COMPILER, open_cupy_on_host, with_source
from helpers import assert_close, get, put
from parity import RULES
from portnn_backends.on_cupy import affine_groups as cupy_affine_groups
from portnn_backends.on_cupy import bf16 as cupy_bf16
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import linear as cupy_linear
from portnn_backends.on_cupy import sums as cupy_sums
from portnn_backends.on_cupy import windows as cupy_windows

from portnn import functional, kernels, nn, tree
from portnn.random import Stream

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")

REALS = ["float32", "float64"]
SIZES = [*range(10), 255, 256, 257, 1023, 1024, 1025, 1027]
#: Rows and columns: less and more than a thread takes at once, and than a block has.
SHAPES = [*itertools.product((1, 3, 9), (1, 2, 3, 4, 5, 8, 9)), (70, 4), (40, 10), (7, 127), (33, 128), (9, 129)]


@pytest.fixture
def backend():
    with open_cupy_on_host() as backend:
        yield backend


def beginning_at(backend, host, offset):
    """An array of so many values after the beginning of a larger one."""
    room = np.zeros(offset + host.size, host.dtype)
    room[offset:] = host.ravel()
    return backend.asarray(room)[offset:].reshape(host.shape)


def everywhere(backend, call, *arrays):
    """What a call gives where its arrays begin at multiples of 16 bytes; the same bits as where they do not."""
    each_alone = [[int(i == k) for i in range(len(arrays))] for k in range(len(arrays))]
    first = None
    for offsets in ([0] * len(arrays), *each_alone, *([n] * len(arrays) for n in (1, 2, 3))):
        given = [beginning_at(backend, a, n) for a, n in zip(arrays, offsets, strict=True)]
        found = get(backend, call(*given))
        first = found if first is None else first
        tree.map(np.testing.assert_array_equal, found, first)
    return first


def normal(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def with_gradient(function):
    """Value and gradients, of a function whose last array is dy."""

    def call(*args):
        y, backward = function(*args[:-1])
        return y, backward(args[-1])

    return call


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("few", [False, True], ids=["as many", "one block"])
def test_activations(backend, monkeypatch, dtype, few):
    if few:  # whose threads have more than they ask for at once
        monkeypatch.setattr(cupy_compile, "_BLOCKS", 1)
    for size in SIZES if not few else (4_095, 4_097, 8_195):
        x, dy = normal(dtype, size, size)
        y, dx = everywhere(backend, with_gradient(functional.relu), x, dy)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(dx, dy * (x > 0))


@pytest.mark.parametrize(("call", "dtype"), [(cupy_bf16.bits, "uint16"), (cupy_bf16.rounded, "float32")])
def test_factors_in_bfloat16(backend, monkeypatch, call, dtype):
    monkeypatch.setattr(cupy_compile, "_BLOCKS", 1)
    for size in (*SIZES[1:], 8_191, 8_193):
        (x,) = normal("float32", (1, size))
        bits = x.view(np.uint32).astype(np.uint64)
        upper = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        expected = upper.astype(np.uint16) if dtype == "uint16" else (upper << 16).astype(np.uint32).view(np.float32)
        np.testing.assert_array_equal(everywhere(backend, call, x), expected)


@pytest.mark.parametrize("dtype", REALS)
def test_rows_of_a_bias(backend, monkeypatch, dtype):
    monkeypatch.setattr(cupy_compile, "_BUSY", 2)
    for n, m in SHAPES:
        y, b = normal(dtype, (n, m), m)
        np.testing.assert_array_equal(everywhere(backend, cupy_linear.add_row, y, b), y + b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("activation", [nn.ReLU(), pytest.param(nn.Tanh(), marks=pytest.mark.slow)], ids=str)
def test_affine_layers_with_an_activation(backend, monkeypatch, activation, dtype):
    monkeypatch.setattr(cupy_compile, "_BUSY", 2)
    monkeypatch.setattr(cupy_sums, "_ROWS", 2)

    def call(x, w, b, dy):
        made = cupy_affine_groups.Activated(activation, x, w, b)
        return made.y, made.backward(dy)

    for n, m in SHAPES:
        x, w, b, dy = arrays = normal(dtype, (n, 2), (2, m), m, (n, m))
        y, _, backward = activation.forward({}, (), x @ w + b)
        dp, _ = backward(dy)
        assert_close(everywhere(backend, call, *arrays), (y, (dp, np.sum(dp, axis=0))), dtype)


@pytest.mark.parametrize("dtype", REALS)
def test_sums_of_columns(backend, monkeypatch, dtype):
    monkeypatch.setattr(cupy_sums, "_ROWS", 2)  # slabs, and what is left of a slab
    for n, m in SHAPES:
        (x,) = normal(dtype, (n, m))
        total = everywhere(backend, cupy_sums.column_sums, x)
        assert_close(total, np.sum(x, axis=0, dtype=np.float64).astype(dtype), dtype)


def test_the_order_of_sums_depends_on_the_shape_alone(backend):
    """Each thread sums every 256th number where there is one column; the sums of the threads follow."""
    (x,) = normal("float64", 5_000)
    slabs = cupy_sums.slabs_of(5_000, 1)
    by_slab = []
    for slab in (x[:2_500], x[2_500:]):
        total = np.zeros(256)
        for k, value in enumerate(slab):
            total[k % 256] += value
        by_slab.append(total)
    expected = [sum(total[1:], total[0]) for total in by_slab]
    assert slabs == 2
    assert get(backend, cupy_sums.column_sums(backend.asarray(x.reshape(-1, 1)))) == [expected[0] + expected[1]]


@pytest.mark.parametrize("dtype", REALS)
def test_rows_of_pictures(backend, monkeypatch, dtype):
    monkeypatch.setattr(cupy_compile, "_BUSY", 2)
    for n, m in SHAPES:
        x = np.random.default_rng(0).integers(0, 256, (12, m), np.uint8)
        index = np.random.default_rng(1).integers(-12, 12, n)
        taken = everywhere(backend, lambda a, i: functional.take_rows(a, i, backend.dtype(dtype)), x, index)
        np.testing.assert_array_equal(taken, x[index] / np.dtype(dtype).type(255.0))


@pytest.mark.parametrize("dtype", REALS)
def test_batch_normalisation(backend, monkeypatch, dtype):
    monkeypatch.setattr(cupy_compile, "_BUSY", 2)
    monkeypatch.setattr(cupy_sums, "_ROWS", 2)
    eps = 0.1  # so that rows that hardly differ are well-conditioned, too
    for n, m in SHAPES:
        x, gamma, beta, dy = arrays = normal(dtype, (n, m), m, m, (n, m))
        found = everywhere(backend, with_gradient(lambda *a: functional.batch_norm(*a, eps=eps)), *arrays)
        y, backward = functional.batch_norm.portable(x, gamma, beta, eps=eps)
        assert_close(found, (y, backward(dy)), dtype)


@pytest.mark.parametrize("dtype", REALS)
def test_classes(backend, monkeypatch, dtype):
    monkeypatch.setattr(cupy_compile, "_BUSY", 2)
    for n, k in SHAPES:
        logits, dvalues = normal(dtype, (n, k), n)
        target = np.random.default_rng(1).integers(0, k, n)
        call = with_gradient(lambda a, t: functional.softmax_cross_entropy(a, t, label_smoothing=0.1))
        found = everywhere(backend, call, logits, target, dvalues)
        values, backward = functional.softmax_cross_entropy.portable(logits, target, label_smoothing=0.1)
        assert_close(found, (values, backward(dvalues)), dtype)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("place", [2**31, pytest.param(0, marks=pytest.mark.slow)], ids=["32 bits", "64 bits"])
def test_images(backend, monkeypatch, dtype, place):
    """With fewer and more channels than a thread takes at once; windows that overlap, and padding."""
    monkeypatch.setattr(cupy_windows, "_NARROW", place)
    for channels in (1, 3, 4, 6, 8):
        x, dy, w, b = normal(dtype, (2, 5, 6, channels), (2, 3, 3, channels), (3, 3, channels, 4), 4)
        x[0, 1, 1, 0] = np.nan
        for function in (functional.max_pool2d, functional.average_pool2d):
            options = {"size": 3, "stride": 2, "padding": 1}
            call = functools.partial(function, **options)
            y, backward = function.portable(x, **options)
            assert_close(everywhere(backend, with_gradient(call), x, dy), (y, backward(dy)), dtype)
        x[0, 1, 1, 0] = 0.0
        (slopes,) = normal(dtype, (2, 5, 6, 4))
        call = functools.partial(functional.conv2d, padding=1)
        y, backward = functional.conv2d.portable(x, w, b, padding=1)
        assert_close(everywhere(backend, with_gradient(call), x, w, b, slopes), (y, backward(slopes)), dtype)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_update_rules(backend, rule, dtype):
    opt = RULES[rule]
    hyper = vars(opt) | opt.hyper(3)

    def updated(p, g, *slots):
        return kernels.update_leaves(kernels.registry[rule], [(p, g, *slots)], hyper)[0]

    for size in (*range(1, 10), 1_023, 1_024, 1_027):
        arrays = [abs(a) for a in normal(dtype, *[size] * (2 + opt.slot_count))]
        found = everywhere(backend, updated, *arrays)
        expected = kernels.registry[rule].portable(*put(backend, tuple(arrays), dtype), **hyper)
        assert_close(found, get(backend, expected), dtype)


@pytest.mark.parametrize("dtype", REALS)
def test_uniform_numbers(backend, dtype):
    stream, in_block = Stream(7), 8 if dtype == "float32" else 4
    fill = cupy_compile.kernel("noise", f"uniform{8 * np.dtype(dtype).itemsize}")

    def filled(out):
        fill((3,), (2,), (out, out.size, *stream.key, cupy_compile.counter(0)))
        return out

    for size in (*range(1, 2 * in_block + 2), 255, 256, 257):
        made = everywhere(backend, filled, np.zeros(size, dtype))
        np.testing.assert_array_equal(made, stream.generator().random(size, dtype))


def test_an_address_that_is_not_looked_at_is_found(backend, monkeypatch):
    changed = []

    def change(text):
        found = re.subn(r"aligned\(dy, y, dx\)", "aligned(dy, dx)", text)
        changed.append(found[1])
        return found[0]

    with_source(monkeypatch, change)
    with pytest.raises(AssertionError, match="relu_slopes: an access to several bytes at an address that is no mult"):
        everywhere(backend, lambda y, dy: relu_slopes(y, dy), *normal("float32", 9, 9))
    assert any(changed)


def relu_slopes(y, dy):
    """The kernel alone, on a y that begins anywhere."""
    dx = cupy_compile.empty(y.shape, y.dtype)
    cupy_compile.kernel("activations", "relu_slopes", REAL=y.dtype)((1,), (32,), (dy, y, y.size, dx))
    return dx


def test_words_are_as_long_here_as_there():
    text = cupy_compile.source("activations")
    assert f"#define FLIGHT {cupy_compile._FLIGHT}\n" in text
