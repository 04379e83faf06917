"""Convolution and pooling against torch, and what their layers refuse."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import assert_close, get, put
from portnn_backends.on_numpy import convolution as numpy_convolution

from portnn import Network, functional, get_backend, nn
from portnn.errors import ConfigError, ShapeError
from portnn.functional import windows

#: n, height, width, channels, outputs, kernel, stride, padding, dilation, groups.
SHAPES = [
    # every kernel with every stride, odd and even sizes
    *((2, 9, 12, 3, 4, k, s, 0, 1, 1) for k, s in itertools.product((1, 2, 3, 5, 7), (1, 2, 3))),
    # padding, dilation
    *((1, 8, 11, 2, 3, k, s, p, d, 1) for k, s, p, d in itertools.product((2, 3), (1, 2, 3), (1, 2), (1, 2))),
    # groups and depthwise, with and without several outputs a channel
    *((2, 7, 7, c, f, 3, s, 1, 1, g) for (c, f, g), s in itertools.product(
        ((4, 6, 2), (4, 4, 4), (4, 8, 4), (6, 9, 3), (33, 33, 33)), (1, 2))),
    # single channels, many channels, single pixels, kernels as large as the image
    (1, 5, 5, 1, 1, 3, 1, 1, 1, 1), (3, 28, 28, 1, 8, 5, 1, 2, 1, 1), (2, 6, 6, 33, 17, 3, 1, 1, 1, 1),
    (1, 1, 1, 5, 2, 1, 1, 0, 1, 1), (2, 1, 1, 2, 3, 3, 1, 1, 1, 1), (2, 7, 7, 2, 3, 7, 1, 0, 1, 1),
    (2, 7, 7, 2, 3, 7, 2, 2, 1, 1), (1, 13, 4, 3, 5, 3, 3, 2, 2, 1), (129, 4, 4, 2, 2, 3, 1, 1, 1, 1),
    (2, 8, 8, 3, 1, 3, 1, 1, 1, 1), (1, 8, 8, 3, 1, 3, 1, 1, 1, 1),
    (2, 10, 9, 3, 4, (2, 5), (3, 1), (0, 2), (1, 2), 1), (2, 9, 10, 4, 6, (5, 1), (1, 2), (2, 0), (2, 1), 2),
]  # fmt: skip
assert len(SHAPES) >= 60


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def to_torch(torch, *arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def compare(function, ours, theirs, tolerance=1e-10):
    """Value and gradients of a function of ours, and of a function of torch tensors, on the same arguments."""
    import torch

    y, backward = function(*ours)
    given = to_torch(torch, *ours)
    expected = theirs(*given)
    assert tuple(expected.shape) == y.shape
    dy = np.random.default_rng(1).normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    grads = backward(dy)
    for a, e in zip(
        (y, *(grads if isinstance(grads, tuple) else (grads,))),
        (expected.detach(), *(t.grad for t in given)),
        strict=True,
    ):
        np.testing.assert_allclose(a, e.numpy(), rtol=tolerance, atol=tolerance)


def channels_last(function):
    """A function of torch over images with their channels last and kernels with their outputs last."""

    def last(x, *rest):
        rest = (rest[0].permute(3, 2, 0, 1).contiguous(), *rest[1:]) if rest else ()
        return function(x.permute(0, 3, 1, 2), *rest).permute(0, 2, 3, 1)

    return last


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_twins_equal_the_portable_forms(shape, dtype, torch):
    n, h, w, c, f, kernel, stride, padding, dilation, groups = shape
    rng, put = np.random.default_rng(0), get_backend("torch").asarray
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for function, channels in ((functional.conv2d, (c // groups, f)), (functional.conv_transpose2d, (f // groups, c))):
        args = [put(rng.normal(size=s), dtype) for s in ((n, h, w, c), (*pair(kernel), *channels), (f,))]
        try:
            y, backward = function.portable(*args, **options)
        except ShapeError:
            with pytest.raises(ShapeError):
                function(*args, **options)
            continue
        found, found_backward = function(*args, **options)
        dy = put(rng.normal(size=tuple(y.shape)), dtype)
        for a, e in zip((found, *found_backward(dy)), (y, *backward(dy)), strict=True):
            assert_close(a.numpy(), e.numpy(), dtype)


forms = pytest.mark.parametrize("form", ["twin", "portable"])


@pytest.mark.parametrize("shape", SHAPES[::3], ids=str)
def test_without_compiled_loops(shape, monkeypatch):
    """The twin of NumPy where Numba is not installed."""
    monkeypatch.setattr(numpy_convolution, "loops", lambda subject: None)
    n, h, w, c, f, kernel, stride, padding, dilation, groups = shape
    rng = np.random.default_rng(0)
    x, k, b = rng.normal(size=(n, h, w, c)), rng.normal(size=(*pair(kernel), c // groups, f)), rng.normal(size=f)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y, backward = functional.conv2d(x, k, b, **options)
    expected, expected_backward = functional.conv2d.portable(x, k, b, **options)
    for a, e in zip((y, *backward(y)), (expected, *expected_backward(y)), strict=True):
        assert_close(a, e, "float64")


def in_form(function, form, **options):
    return lambda *args: (function if form == "twin" else function.portable)(*args, **options)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv2d_equals_torch(shape, form, torch):
    n, h, w, c, f, kernel, stride, padding, dilation, groups = shape
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(n, h, w, c)), rng.normal(size=(*pair(kernel), c // groups, f))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    ours = in_form(functional.conv2d, form, memory=20_000, **options)
    theirs = channels_last(lambda *a: torch.nn.functional.conv2d(*a, **options))
    compare(ours, (x, k, rng.normal(size=f)), theirs)


@forms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv_transpose2d_equals_torch(shape, form, torch):
    n, h, w, c, f, kernel, stride, padding, dilation, groups = shape
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(n, h, w, c)), rng.normal(size=(*pair(kernel), f // groups, c))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    ours = in_form(functional.conv_transpose2d, form, **options)
    size = [(m - 1) * s + (q - 1) * d + 1 - 2 * p for m, s, q, d, p in zip(
        (h, w), pair(stride), pair(kernel), pair(dilation), pair(padding), strict=True)]  # fmt: skip
    if min(size) < 1:
        with pytest.raises(ShapeError, match="nothing is left of the"):
            ours(x, k, np.zeros(f))
        return
    theirs = channels_last(lambda *a: torch.nn.functional.conv_transpose2d(*a, **options))
    compare(ours, (x, k, rng.normal(size=f)), theirs)


@forms
@pytest.mark.parametrize("stride", [None, 1, 2, 3, (2, 1)])
@pytest.mark.parametrize(("size", "padding"), [(1, 0), (2, 0), (2, 1), (3, 1), ((2, 3), 0), ((3, 2), (1, 0))])
@pytest.mark.parametrize("name", ["max_pool2d", "average_pool2d"])
def test_pooling_equals_torch(name, size, padding, stride, form, torch):
    x = np.random.default_rng(0).integers(0, 4, size=(2, 9, 11, 3)).astype(float)  # with many equal values
    theirs = getattr(torch.nn.functional, name.replace("average", "avg"))
    ours = in_form(getattr(functional, name), form, size=size, stride=stride, padding=padding)
    compare(ours, (x,), channels_last(lambda a: theirs(a, size, stride=stride, padding=padding)))


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, ((1, 0), (1, 0))), (3, ((0, 2), (1, 1)))])
def test_what_no_window_reaches_has_no_gradient(size, padding):
    """Also where new memory is not zero."""
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2))
    y, backward = functional.max_pool2d(x, size=size, padding=padding)
    _, expected = functional.max_pool2d.portable(x, size=size, padding=padding)
    dirt = [np.full(x.shape, 7.7) for _ in range(50)]
    del dirt
    np.testing.assert_array_equal(backward(np.ones_like(y)), expected(np.ones_like(y)))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("ends", [(0, 0), (2, 0), (-1, 2), (-3, 5), (4, -6), (-1, -1), (-2, 3)])
def test_extend_has_the_length_that_it_should(n, ends):
    if n + sum(ends) < 0:
        return
    x = np.arange(1.0, n + 1).reshape(1, n, 1, 1)
    before, after = ends
    places = np.arange(-before, n + after)
    expected = [x[0, p, 0, 0] if 0 <= p < n else 0.0 for p in places]
    assert windows.extend(x, ends, (0, 0))[0, :, 0, 0].tolist() == expected


def test_windows_that_hold_little_but_padding(backend):
    x = put(backend, np.ones((2, 2, 2, 1)), "float32")
    y, backward = functional.average_pool2d(x, size=(3, 1), stride=(4, 1), padding=(2, 0))
    np.testing.assert_allclose(get(backend, backward(y))[:, :, :, 0], [[[1 / 9] * 2, [0.0] * 2]] * 2, rtol=1e-6)


def test_numba_that_cannot_be_imported(tmp_path):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(
        'raise ImportError("Numba needs NumPy 2.3 or less")', encoding="utf-8"
    )
    code = "import numpy as np; from portnn import functional as f; print(f.max_pool2d(np.ones((1, 2, 2, 1)))[0].sum())"
    env = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "nothing is kept")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "1.0\n"
    assert "Numba cannot be used, so training is slower: ImportError: Numba needs NumPy" in done.stderr


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 2), ((2, 5), 1)])
def test_same_padding_is_that_of_torch(kernel, dilation, torch):
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=(2, 6, 7, 2)), rng.normal(size=(*pair(kernel), 2, 3))
    ours = in_form(functional.conv2d, "twin", padding="same", dilation=dilation)
    theirs = channels_last(lambda *a: torch.nn.functional.conv2d(*a, padding="same", dilation=dilation))
    compare(ours, (x, k, np.zeros(3)), theirs)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 6, 7])
def test_same_padding_with_strides(size, stride):
    layer = nn.Conv2D(2, 3, stride=stride)
    assert layer.init(Network(nn.Identity(), 1).rng, (size, size, 1))[2][:2] == (-(-size // stride),) * 2
    back = nn.ConvTranspose2D(2, 3, stride=stride)
    assert back.init(Network(nn.Identity(), 1).rng, (size, size, 1))[2][:2] == (size * stride,) * 2


def test_slabs_change_nothing(typed):
    backend, dtype = typed
    rng = np.random.default_rng(0)
    x, w, b = put(backend, (rng.normal(size=(7, 6, 5, 3)), rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)), dtype)
    ends = []
    for memory in (1, 3 * 30 * 27 * 4, 2**26):
        y, backward = functional.conv2d.portable(x, w, b, padding=1, memory=memory)
        ends.append(get(backend, (y, *backward(y))))
    for end in ends[1:]:
        assert_close(end, ends[0], dtype)


@pytest.mark.slow
def test_compiled_loops_where_nothing_can_be_written(tmp_path):
    pytest.importorskip("numba")
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    code = """
import numpy as np
from portnn import functional
for _ in range(2):
    print(functional.max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1))[0].ravel().tolist())
"""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "folder")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == ["[5.0, 7.0, 13.0, 15.0]"] * 2
    assert done.stderr.count("compiled code can be kept nowhere") == 1


def test_memory_is_bounded():
    """The peak does not grow with the batch but for images, outputs and gradients themselves."""
    import tracemalloc

    def peak(n):
        x, w, b = np.ones((n, 32, 32, 16), np.float32), np.ones((3, 3, 16, 16), np.float32), np.ones(16, np.float32)
        tracemalloc.start()
        y, backward = functional.conv2d(x, w, b, padding=1, memory=2**22)
        grads = backward(y)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found - y.nbytes - sum(g.nbytes for g in grads)

    peak(1)  # compiles loops, where there are any
    image = 32 * 32 * 16 * 4
    assert peak(64) < peak(8) + 2.5 * 56 * image  # all windows of 56 images more would take 9 images each


def test_residual_block_learns(backend):
    block = nn.Sequential([nn.Conv2D(4), nn.BatchNorm(), nn.ReLU(), nn.Conv2D(4), nn.BatchNorm()])
    net = Network(
        nn.Sequential([nn.Conv2D(4), nn.Residual(block), nn.ReLU(), nn.GlobalAveragePool()]), (6, 6, 1), device=backend
    )
    assert net.output_shape == (4,)
    assert get(backend, net(put(backend, np.ones((2, 6, 6, 1)), "float32"))).shape == (2, 4)


def sizes(*args):
    return [axis.count for axis in windows.axes(*args)]


def test_sizes():
    assert sizes((28, 28), 3, 1, 0, 1) == [26, 26]
    assert sizes((28, 28), 3, 1, "same", 1) == [28, 28]
    assert sizes((28, 27), (3, 5), (2, 1), ((1, 0), (2, 2)), (1, 2)) == [14, 23]


@pytest.mark.parametrize(
    ("layer", "shape", "error", "sentence"),
    [
        (nn.Conv2D(4, 5, padding="valid"), (4, 9, 1), ShapeError,
         r"the window does not fit into the height: 4 \+ 0 \+ 0 \(padding\) < \(5 - 1\) \* 1 \+ 1 = 5"),
        (nn.Conv2D(4, 3, padding=(0, 1), dilation=4), (9, 5, 1), ShapeError,
         r"into the width: 5 \+ 1 \+ 1 \(padding\) < \(3 - 1\) \* 4 \+ 1 = 9"),
        (nn.MaxPool2D(4), (3, 8, 1), ShapeError, r"into the height: 3 \+ 0 \+ 0 \(padding\) < \(4 - 1\) \* 1 \+ 1 = 4"),
        (nn.Conv2D(4), (28, 28), ShapeError, r"takes images \(h, w, c\), .*: put Reshape\(\(28, 28, 1\)\) before it"),
        (nn.GlobalAveragePool(), (9,), ShapeError, r"GlobalAveragePool takes images \(h, w, c\), not .*shape \(9,\)"),
        (nn.ChannelDropout(0.5), (9,), ShapeError, "ChannelDropout takes images"),
        (nn.Conv2D(4, groups=2), (5, 5, 3), ShapeError, "3 channels in 2 groups need a kernel of 3 / 2 channels"),
        (nn.ConvTranspose2D(4, padding=2), (1, 5, 3), ShapeError, r"nothing is left of the height: 3 - 2 - 2"),
        (nn.Reshape((3, 3)), (8,), ShapeError, r"examples of shape \(8,\) hold 8 numbers, those of shape \(3, 3\) 9"),
        (nn.ChannelsLast(), (28, 28), ShapeError, r"ChannelsLast takes images \(c, h, w\)"),
        (nn.Residual(nn.Affine(3)), (4,), ShapeError, r"makes \(3,\) of \(4,\), and the shortcut \(4,\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Layer) else None,
)  # fmt: skip
def test_shapes_are_refused_with_their_arithmetic(layer, shape, error, sentence):
    with pytest.raises(error, match=sentence):
        Network(layer, shape)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2D(0),
        lambda: nn.Conv2D(4, kernel=0),
        lambda: nn.Conv2D(4, kernel=(3, 3, 3)),
        lambda: nn.Conv2D(4, stride=1.5),
        lambda: nn.Conv2D(4, dilation=True),
        lambda: nn.Conv2D(4, groups=3),
        lambda: nn.Conv2D(4, memory=0),
        lambda: nn.Conv2D(4, padding="full"),
        lambda: nn.Conv2D(4, padding=-1),
        lambda: nn.Conv2D(4, padding=((1, 1),)),
        lambda: nn.MaxPool2D(2, padding=(1, 2, 3)),
        lambda: Network(nn.MaxPool2D(2, padding=2), (5, 5, 1)),
        lambda: nn.MaxPool2D(0),
        lambda: nn.MaxPool2D(2, stride=0),
        lambda: nn.Reshape(9),
        lambda: nn.Reshape((3, 0)),
    ],
)
def test_bad_hyper_parameters(make):
    with pytest.raises(ConfigError):
        make()


def test_channels_first_data(backend):
    """Images (c, h, w) through the layer that says so."""
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
    first = Network(nn.Sequential([nn.ChannelsLast(), nn.Conv2D(4)]), (3, 5, 6), device=backend, rng=0)
    last = Network(nn.Sequential([nn.Identity(), nn.Conv2D(4)]), (5, 6, 3), device=backend, rng=0)
    assert_close(get(backend, first(x)), get(backend, last(x.transpose(0, 2, 3, 1))), "float32")


def test_whole_channels_are_dropped(backend):
    net = Network(nn.ChannelDropout(0.5), (4, 3, 8), device=backend)
    x = put(backend, np.ones((6, 4, 3, 8)), "float32")
    y, _, _ = net.layer.forward({}, (), x, train=True, rng=net.rng)
    y = get(backend, y)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1, :1, :]).all()


def test_saved_and_loaded(tmp_path):
    layer = nn.Sequential([nn.Conv2D(4, (3, 2), padding=((1, 1), (0, 1))), nn.MaxPool2D(), nn.Residual(nn.BatchNorm())])
    net = Network(layer, (6, 6, 1), rng=0)
    net.save(tmp_path / "net.safetensors")
    loaded = Network.load(tmp_path / "net.safetensors")
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 1)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), net(x))
