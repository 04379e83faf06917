"""What is offered for other people's tests: it passes for our own members, and finds what is planted."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
from families import FUNCTIONS, LAYERS
from lanes import STATUS, library_of

from portnn import functional, get_backend, kernels, nn
from portnn.backend import backend_class_of
from portnn.errors import GradientError
from portnn.testing import check_backend, check_layer, check_twin


@pytest.mark.parametrize("name", LAYERS)
def test_our_layers(name):
    case = LAYERS[name]
    check_layer(case.layer, case.input_shape, devices=["cpu", "strict"])


#: What those who have a twin on NumPy leave to the portable form.
LEFT = ("conv2d-groups", "softmax_cross_entropy-one_hot", "softmax_cross_entropy-soft")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_our_twins_on_numpy(name):
    case = FUNCTIONS[name]
    moving, fixed = case.arguments(5)
    left = name in LEFT and case.function.__name__ in get_backend("cpu").kernels()
    with pytest.raises(AssertionError, match="takes none of") if left else nullcontext():
        check_twin(case.function, *moving, *fixed, **case.options)


@pytest.mark.parametrize("device", ["numpy", "strict", "strict:no_x64", "torch", "jax"])
def test_our_backends(device):
    if not STATUS[library_of(device)].usable:
        pytest.skip(STATUS[library_of(device)].message)
    check_backend(device)


@dataclass(frozen=True)
class Wrong(nn.Tanh):
    """A layer with a fault of one kind."""

    fault: str = ""

    def init(self, rng, input_shape):
        return {"w": rng.child("w").normal(input_shape)}, (), (7,) if self.fault == "shape" else input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        w, calls, fault = params["w"], [], self.fault
        y = x * w if fault != "batch" else x * w + np.sum(x) * 0.1

        def backward(dy, input_grad=True):
            calls.append(1)
            if fault == "input":
                x[...] = 0.0
            dw = (dy * x).sum(axis=0)
            dw = dw * len(calls) if fault == "twice" else dw * (1 + input_grad) if fault == "skip" else dw
            if fault == "gradient":
                dw = 1.01 * dw
            if fault == "dtype":
                dw = dw.astype(np.longdouble)
            return dy * w, {"w": dw if fault != "leaf" else dw[:1]}

        return y, state, backward


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("shape", "makes .4, 5., and declares .4, 7."),
        ("batch", "one by one, apply differs"),
        ("input", "after backward, what it was given differs"),
        ("twice", "backward, called again, differs in 1.w"),
        ("skip", "without dx, differs in w"),
        ("gradient", "the analytic derivative is"),
        ("dtype", "result 2.w is of another kind"),
        ("leaf", "the gradients has shapes"),
    ],
)
def test_faults_of_layers_are_found(fault, sentence):
    check_layer(Wrong(), (5,))
    with pytest.raises((AssertionError, GradientError), match=sentence):
        check_layer(Wrong(fault=fault), (5,))


def test_a_wrong_twin_is_found(monkeypatch):
    backend_class = backend_class_of(np.ndarray)
    wrong = kernels.Kernel(lambda x: (np.tanh(x), lambda dy: dy * (1.0 - np.tanh(x))))
    monkeypatch.setattr(backend_class, "kernels", classmethod(lambda cls: {"tanh": wrong}))
    kernels._twin.cache_clear()
    try:
        with pytest.raises(AssertionError, match="the twin of tanh on numpy:cpu in float32"):
            check_twin(functional.tanh, np.linspace(-1, 1, 5))
    finally:
        kernels._twin.cache_clear()


def test_a_wrong_backend_is_found(monkeypatch):
    backend_class = type(get_backend("cpu"))
    right = backend_class.uniform
    monkeypatch.setattr(backend_class, "uniform", lambda self, *a: 1.0 - right(self, *a))
    with pytest.raises(AssertionError, match="uniform numbers of float32 differs"):
        check_backend("cpu")


@pytest.mark.parametrize(
    ("method", "wrong", "sentence"),
    [
        ("copy", lambda self, array: array, "a copy of uint8 shares its memory"),
        ("asarray", lambda self, x, dtype=None: np.asarray(x), "asarray of uint8 with dtype float32 makes uint8"),
    ],
)
def test_a_backend_that_shares_or_casts_nothing_is_found(monkeypatch, method, wrong, sentence):
    monkeypatch.setattr(type(get_backend("cpu")), method, wrong)
    with pytest.raises(AssertionError, match=sentence):
        check_backend("cpu")
