"""The registry of portable functions, its guard and fallback; and the parity of every twin with its portable form."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from families import ARRAY_FUNCTIONS, NOT_DIFFERENTIABLE
from lanes import USABLE, open_lane
from parity import CASES, RULES, compare_array_function, compare_differentiable, compare_rule

from portnn import functional, get_backend, kernels, optim
from portnn.backend import backend_class_of
from portnn.errors import KernelError
from portnn.functional import convolution
from portnn.functional.windows import Axis, axes
from portnn.kernels import Kernel


def twins():
    """Every twin of every usable backend, as (lane, name)."""
    for lane in USABLE:
        if lane in ("numpy-readonly", "cupy-on-host"):  # whose twins `test_cupy_on_host` compares
            continue
        with open_lane(lane) as backend:
            yield from ((lane, name) for name in backend.kernels())


TWINS = list(twins())


def test_every_registered_function_has_a_case():
    differentiable = {name for name, f in kernels.registry.items() if f.kind == "differentiable"}
    assert differentiable - NOT_DIFFERENTIABLE == CASES.keys()
    assert {name for name, f in kernels.registry.items() if f.kind == "update_rule"} == RULES.keys()
    assert {name for name, f in kernels.registry.items() if f.kind == "array_function"} == ARRAY_FUNCTIONS.keys()


@pytest.mark.parametrize(("lane", "name"), TWINS)
def test_signature(lane, name):
    with open_lane(lane) as backend:
        kernels.check_twin(name, backend.kernels()[name])


@pytest.mark.parametrize(("lane", "name"), TWINS)
def test_a_twin_lies_in_the_file_of_its_family(lane, name):
    """Who knows `portnn.functional.pooling` finds its twins in a ``pooling.py``."""
    portable = kernels.registry[name].portable.__module__
    family = "updates" if portable.startswith("portnn.optim.") else portable.removeprefix("portnn.functional.")
    with open_lane(lane) as backend:
        package, _, file = backend.kernels()[name].function.__module__.rpartition(".")
    # These are made of a function of each library.
    everywhere = family in ("gamma", "special")
    assert package == "portnn_backends" if everywhere else package.startswith("portnn_backends.on_")
    assert file == ("blas" if (package, name) == ("portnn_backends.on_cupy", "matmul") else family)


@pytest.mark.parametrize("n", [0, 1, 7, 70_001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("lane", "name"), TWINS)
def test_parity(lane, name, dtype, n):
    with open_lane(lane) as backend:
        if not backend.supports(dtype):
            pytest.skip(f"{backend} has no {dtype}")
        compare = {"differentiable": compare_differentiable, "array_function": compare_array_function}.get(
            kernels.registry[name].kind, compare_rule
        )
        # A twin may go other ways where it has the device for itself.
        with nullcontext() if n == 7 else backend.context():
            compare(backend, name, dtype, n)


@pytest.fixture
def fake_twin(monkeypatch):
    """Offer a twin on NumPy for the time of a test."""

    def offer(name, kernel):
        backend_class = backend_class_of(np.ndarray)
        monkeypatch.setattr(backend_class, "kernels", classmethod(lambda cls: MappingProxyType({name: kernel})))
        kernels._twin.cache_clear()

    yield offer
    kernels._twin.cache_clear()


def wrong_tanh(x):
    y = np.tanh(x)
    return y, lambda dy: dy * (1.0 - y)  # the square is missing


def test_parity_finds_a_wrong_gradient(fake_twin):
    fake_twin("tanh", Kernel(wrong_tanh))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_differentiable(get_backend("numpy"), "tanh", "float64", 7)


def test_parity_finds_a_rule_that_writes_into_the_gradient(fake_twin):
    def greedy(p, g, *, lr):
        g *= lr
        return (p - g,)

    fake_twin("sgd", Kernel(greedy))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_rule(get_backend("numpy"), "sgd", "float64", 7)


def test_guard_by_dtype_dimensions_and_layout(fake_twin):
    def marked(x):
        return "twin", None

    x = np.ones((4, 4), dtype=np.float32)
    kernel = Kernel(marked, dtypes=frozenset({np.dtype("float32")}), ndims=(2,), layout=lambda a: a.flags.c_contiguous)
    fake_twin("tanh", kernel)
    assert functional.tanh(x)[0] == "twin"
    for rejected in (x.astype(np.float64), x[0], x[:, ::2], x.astype(np.longdouble)):
        np.testing.assert_allclose(functional.tanh(rejected)[0], np.tanh(rejected))


def test_guard_wants_one_dtype(fake_twin):
    def marked(x, w, b):
        return "twin", None

    x, w, b = np.ones((2, 3), np.float32), np.ones((3, 1), np.float32), np.ones(1, np.float32)
    fake_twin("affine", Kernel(marked, dtypes=frozenset({np.dtype("float32")})))
    assert functional.affine(x, w, b)[0] == "twin"
    assert functional.affine(x, w, b.astype(np.float64))[0].dtype == np.float64


def test_a_twin_that_cannot_take_its_arguments_leaves_them_to_the_portable_form(fake_twin):
    asked = []

    def only_long_ones(x):
        asked.append(x.shape)
        return ("twin", None) if len(x) > 2 else NotImplemented

    fake_twin("tanh", Kernel(only_long_ones))
    assert functional.tanh(np.ones(3))[0] == "twin"
    y, backward = functional.tanh(np.ones(2, np.float32))
    np.testing.assert_array_equal(y, np.tanh(np.ones(2, np.float32)))
    # It is no twin's, which would have dy cast before it reads it.
    assert backward(np.ones(2)).dtype == np.float64
    assert asked == [(3,), (2,)]


IMAGES = np.ones((2, 5, 4, 3)), np.ones((3, 3, 3, 2)), np.ones(2)


def test_a_twin_is_given_what_was_made_of_the_options(fake_twin):
    """Windows, in the place of stride, padding and dilation."""
    given = []

    def twin(x, w, b, *, rows, columns, groups, memory):
        given.append((rows, columns, groups))
        return NotImplemented

    fake_twin("conv2d", Kernel(twin))
    y, _ = functional.conv2d(*IMAGES, stride=2, padding="same")
    np.testing.assert_array_equal(y, functional.conv2d.portable(*IMAGES, stride=2, padding="same")[0])
    assert given == [(Axis(5, 3, 2, 1, 1, 1), Axis(4, 3, 2, 1, 0, 1), 1)]


@pytest.mark.parametrize("form", [functional.conv2d, functional.conv2d.portable], ids=["twin", "portable"])
def test_options_are_resolved_once(form, monkeypatch):
    resolved = []
    monkeypatch.setattr(convolution, "axes", lambda *given: resolved.append(given) or axes(*given))
    y, backward = form(*IMAGES[:2], b=IMAGES[2], dilation=1)
    backward(y)
    assert resolved == [((5, 4), (3, 3), 1, 0, 1)]
    for wrong in ({"rows": Axis(5, 3, 1, 1, 0, 0)}, {"strides": 2}):
        with pytest.raises(TypeError, match=r"^conv2d\(\) got an unexpected keyword argument"):
            form(*IMAGES, **wrong)


def test_callers_see_the_options():
    names = ["x", "w", "b", "stride", "padding", "dilation", "groups", "memory"]
    assert [*inspect.signature(functional.conv2d).parameters] == names
    assert [*inspect.signature(functional.conv2d.resolved).parameters] == ["x", "w", "b", "rows", "columns", *names[6:]]
    assert functional.affine.resolved is functional.affine.portable


def test_rows_that_a_twin_cannot_take(fake_twin):
    """Of a function without a backward."""
    fake_twin("channel_moments", Kernel(lambda x: NotImplemented))
    mean, variance = functional.channel_moments(np.asarray([[1.0], [3.0]]))
    assert (mean.tolist(), variance.tolist()) == ([2.0], [1.0])


@pytest.mark.parametrize("one", [False, True])
def test_leaves_that_a_twin_cannot_take_go_one_by_one(fake_twin, one):
    """Each to the twin again, which may take it alone, and else to the portable rule."""
    asked = []

    def alone(p, g, *, lr):
        asked.append(p.shape)
        return (p - 2.0 * lr * g,) if one else NotImplemented

    def together(leaves, *, lr):
        asked.append(len(leaves))
        return NotImplemented

    fake_twin("sgd", Kernel(alone, many=together))
    leaves = [(np.zeros(n), np.ones(n)) for n in (1, 2)]
    updated = kernels.update_leaves(optim.SGD().rule, leaves, {"lr": 0.5})
    assert asked == [2, (1,), (2,)]
    assert [p.tolist() for (p,) in updated] == ([[-1.0], [-1.0, -1.0]] if one else [[-0.5], [-0.5, -0.5]])


def test_no_twin_falls_back_by_itself():
    """What a twin calls of the portable forms would pass by the guard and the switch."""
    import portnn_backends

    folder = Path(portnn_backends.__file__).parent
    calls = {path.name: path.read_text(encoding="utf-8").count(".portable(") for path in folder.rglob("*.py")}
    assert [name for name, count in calls.items() if count] == []


def test_portable_turns_twins_off(fake_twin):
    fake_twin("tanh", Kernel(lambda x: ("twin", None)))
    assert functional.tanh(np.ones(2))[0] == "twin"
    with kernels.portable():
        np.testing.assert_array_equal(functional.tanh(np.ones(2))[0], np.tanh(np.ones(2)))
    assert functional.tanh(np.ones(2))[0] == "twin"


def test_a_twin_with_another_signature_is_refused(fake_twin):
    fake_twin("tanh", Kernel(lambda x, fast=True: (x, None)))
    with pytest.raises(KernelError, match=r"the twin of 'tanh' takes \(x, fast=True\), the portable form \(x"):
        functional.tanh(np.ones(2))


def test_a_twin_of_nothing_is_refused():
    with pytest.raises(KernelError, match="no portable function 'warp'"):
        kernels.check_twin("warp", Kernel(lambda x: x))


def test_a_name_is_registered_once():
    with pytest.raises(KernelError, match="'tanh' is registered already"):

        @kernels.differentiable(shapes="... -> ...")
        def tanh(x):
            return x, None


def test_foreign_arrays_use_the_portable_form():
    """A type that no backend knows still works, as long as it follows the standard."""
    import array_api_compat.numpy as xp

    class Foreign(np.ndarray):
        __module__ = "elsewhere"

        def __array_namespace__(self, api_version=None):
            return xp

    y, _ = functional.relu(np.asarray([-1.0, 2.0]).view(Foreign))
    assert y.tolist() == [0.0, 2.0]
