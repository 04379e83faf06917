"""Generic tests over the table of optimizers."""

import dataclasses

import numpy as np
import pytest
from families import OPTIMIZERS
from helpers import assert_close, assert_here, get, put
from lanes import host_closed, open_lane

from portnn import get_backend, optim
from portnn.errors import ConfigError, ShapeError

all_optimizers = pytest.mark.parametrize("opt", OPTIMIZERS.values(), ids=OPTIMIZERS)

START = ({"w": np.asarray([[3.0, -2.0], [0.5, 1.0]]), "b": np.asarray([1.0, -1.0])}, {})
SCALE = {"w": np.asarray([[1.0, 2.0], [3.0, 0.5]]), "b": np.asarray([1.0, 4.0])}


def gradient(params, scale):
    """Of the bowl ``1/2 sum scale * p^2``, whose minimum is at 0."""
    return ({key: scale[key] * params[0][key] for key in scale}, {})


def descend(opt, backend, dtype, steps):
    params, scale = put(backend, (START, SCALE), dtype)
    params = ({key: backend.copy(value) for key, value in params[0].items()}, {})
    state = opt.init(params)
    for _ in range(steps):
        params, state = opt.step(params, gradient(params, scale), state)
    return params, state


@all_optimizers
def test_finds_the_minimum(opt):
    params, state = descend(opt, get_backend("numpy"), "float64", 300)
    assert state["step"] == 300
    assert max(abs(p).max() for p in params[0].values()) < 1e-3


@all_optimizers
def test_same_steps_on_every_backend_in_its_dtype(opt, typed):
    backend, dtype = typed
    params, state = descend(opt, backend, dtype, 5)
    assert_here(backend, dtype, (params, state["slots"]))
    assert_close(get(backend, params), descend(opt, get_backend("numpy"), "float64", 5)[0], dtype)


@all_optimizers
def test_nothing_leaves_the_device(opt):
    with open_lane("strict:device1") as backend:
        params, scale = put(backend, (START, SCALE), "float32")
        with host_closed(backend):
            opt.step(params, gradient(params, scale), opt.init(params))


@all_optimizers
def test_gradients_are_not_changed(opt, backend):
    params, scale = put(backend, (START, SCALE), "float32")
    params = ({key: backend.copy(value) for key, value in params[0].items()}, {})
    before = {key: np.array(value) for key, value in get(backend, scale).items()}
    opt.step(params, (scale, {}), opt.init(params))
    for key, value in get(backend, scale).items():
        np.testing.assert_array_equal(value, before[key])


@all_optimizers
def test_equals_torch(opt):
    torch = pytest.importorskip("torch")
    theirs = {
        "SGD": lambda p: torch.optim.SGD(p, lr=opt.lr),
        "Momentum": lambda p: torch.optim.SGD(p, lr=opt.lr, momentum=opt.alpha),
        "Adam": lambda p: torch.optim.Adam(p, lr=opt.lr, betas=(opt.beta1, opt.beta2), eps=opt.eps),
    }[type(opt).__name__]
    leaves = {key: torch.tensor(value, requires_grad=True) for key, value in START[0].items()}
    optimizer = theirs(list(leaves.values()))
    for _ in range(50):
        for key, leaf in leaves.items():
            leaf.grad = torch.tensor(SCALE[key]) * leaf.detach()
        optimizer.step()
    params, _ = descend(opt, get_backend("numpy"), "float64", 50)
    for key, leaf in leaves.items():
        np.testing.assert_allclose(params[0][key], leaf.detach().numpy(), rtol=1e-10, atol=1e-12)


@all_optimizers
def test_trees_must_match(opt):
    params = {"w": np.ones(2), "b": np.ones(1)}
    with pytest.raises(ShapeError, match=r"trees differ at the top: a dict with keys \['b', 'w'\] against .*\['w'\]"):
        opt.step(params, {"w": np.ones(2)}, opt.init(params))


@all_optimizers
def test_is_frozen_and_its_repr_says_all(opt):
    assert eval(repr(opt), vars(optim)) == opt
    with pytest.raises(dataclasses.FrozenInstanceError):
        opt.lr = 1.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: optim.SGD(lr=-0.1), r"lr must be a number in \(0, inf\), not -0.1"),
        (lambda: optim.SGD(lr=0), "lr must be"),
        (lambda: optim.SGD(lr=float("nan")), "lr must be"),
        (lambda: optim.SGD(lr="fast"), "lr must be"),
        (lambda: optim.Momentum(alpha=1.0), r"alpha must be a number in \[0, 1\), not 1.0"),
        (lambda: optim.Adam(beta2=1.0), r"beta2 must be a number in \[0, 1\), not 1.0"),
        (lambda: optim.Adam(eps=-1e-8), "eps must be"),
    ],
)
def test_bad_hyper_parameters_fail_at_construction(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_bias_correction_of_adam_is_in_double_precision():
    hyper = optim.Adam().hyper(1)
    assert hyper["bias2"] == 1 - 0.999
    assert all(isinstance(value, float) for value in hyper.values())
