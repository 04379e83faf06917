"""Which convolutions are computed directly on CuPy, how the work is shared out, and how the kernels are compiled."""

import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from convolutions import convolutions, random_convolutions, recipes
from cupy_on_host import COMPILER, fake_cupy, launches, open_cupy_on_host
from helpers import put
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import direct as cupy_direct
from portnn_backends.on_cupy import direct_plan
from portnn_backends.on_cupy.direct import GROUPS, convolution_of, convolve

from portnn import nn
from portnn.random import Stream


@pytest.fixture
def backend():
    if COMPILER is None:
        pytest.skip("there is no g++ (on Linux) to compile the kernels with")
    with open_cupy_on_host() as backend:
        yield backend


def group_of(layers):
    (group,) = (group for group in GROUPS if group.takes(layers))
    return group


REFUSED = {
    "dilation": ((nn.Conv2D(4, dilation=2),), (9, 9, 2)),
    "many channels": ((nn.Conv2D(4),), (5, 5, 65)),
    "many filters": ((nn.Conv2D(65),), (5, 5, 1)),
    "a long kernel": ((nn.Conv2D(4, (1, 200)),), (1, 200, 64)),
    "a wide image": ((nn.Conv2D(64), nn.ReLU()), (3, 5000, 64)),
    "many places of a window": ((nn.Conv2D(4), nn.MaxPool2D(3)), (6, 6, 2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_left_to_the_members(backend, name):
    layers, shape = REFUSED[name]
    params = [layer.init(Stream(0), shape)[0] for layer in layers[:1]] + [{} for _ in layers[1:]]
    params, x = put(backend, (tuple(params), np.ones((1, *shape))), "float32")
    with launches() as launched:
        made = group_of(layers).function(layers, params, ((),) * len(layers), x, train=True, rngs=())
    assert made is NotImplemented
    assert launched == []


def test_more_blocks_than_a_grid_has(backend, monkeypatch):
    conv = convolution_of((nn.Conv2D(3, 1),), (7, 5, 4), np.dtype("float32"))
    arrays = put(backend, (np.ones((9, 7, 5, 4)), np.ones((1, 1, 4, 3)), np.ones(3)), "float32")
    monkeypatch.setattr(cupy_direct, "_BLOCKS", 8)
    assert convolve(conv, *arrays) is NotImplemented


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2D(4, groups=2),),
        (nn.ConvTranspose2D(4),),
        (nn.Conv2D(4), nn.MaxPool2D(2, stride=1)),
        (nn.Conv2D(4), nn.ReLU(), nn.MaxPool2D(padding=1)),
        (nn.Conv2D(4), nn.AveragePool2D()),
        (nn.Conv2D(4), nn.Tanh()),
    ],
    ids=str,
)
def test_no_group_of_other_layers(layers):
    assert not [group for group in GROUPS if group.takes(layers)]


def test_plans_fit_into_a_block():
    found = 0
    for conv in random_convolutions(150):
        for plan in (direct_plan.values(conv), direct_plan.inputs(conv), direct_plan.weights(conv)):
            if plan is not None:
                found += 1
                assert 0 < plan.block <= 256
                assert plan.blocks > 0
                assert plan.shared * 4 <= 48 * 1024
    assert found > 300


def test_every_convolution_of_our_networks_fits():
    for name in recipes():
        for conv in convolutions(name, "float32"):
            assert direct_plan.values(conv)
            assert direct_plan.inputs(conv)
            assert direct_plan.weights(conv)


# How they are compiled.


def test_what_will_be_needed_is_compiled_at_the_same_time(backend, monkeypatch):
    """All three wait for each other: none could be compiled alone. In prediction, there is no way back."""
    meeting, begun, done = threading.Barrier(3), [], []

    class Module:
        def __init__(self, *, code, options):
            (self.name,) = re.findall(r"^KERNEL (\w+)", code, re.MULTILINE)

        def compile(self):
            begun.append(self.name)
            meeting.wait(timeout=30)
            done.append(self.name)

        def get_function(self, name):
            assert done == [] or name in done or name == "column_sums"
            return lambda grid, block, arguments: None

    library = SimpleNamespace(**vars(fake_cupy) | {"RawModule": Module})
    monkeypatch.setattr(cupy_compile, "library", lambda: library)
    conv = convolution_of((nn.Conv2D(3, 1), nn.ReLU()), (7, 5, 4), np.dtype("float32"))
    arrays = put(backend, (np.ones((2, 7, 5, 4)), np.ones((1, 1, 4, 3)), np.ones(3)), "float32")
    convolve(conv, *arrays, train=False)
    assert begun == []
    cupy_compile.kernel.cache_clear()
    cupy_compile._module.cache_clear()
    y, backward = convolve(conv, *arrays)
    backward(y)
    assert sorted(done) == ["convolved_slopes", "convolved_values", "convolved_weights"]


def test_an_error_ahead_is_told_where_the_kernel_is_needed(backend, monkeypatch):
    class Module:
        def __init__(self, *, code, options):
            pass

        def compile(self):
            raise RuntimeError("in a thread, where nobody listens")

        def get_function(self, name):
            raise RuntimeError("told")

    library = SimpleNamespace(**vars(fake_cupy) | {"RawModule": Module})
    monkeypatch.setattr(cupy_compile, "library", lambda: library)
    cupy_compile.ahead("sums", REAL=np.dtype("float32"))
    with pytest.raises(RuntimeError, match="told"):
        cupy_compile.kernel("sums", "column_sums", REAL=np.dtype("float32"))
