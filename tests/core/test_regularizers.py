"""Regularizers, by themselves and in training."""

import numpy as np
import pytest
from helpers import assert_close, assert_here, get, put

from portnn import Network, Trainer, losses, nn, optim, regularizers, tree
from portnn.errors import ConfigError
from portnn.gradcheck import gradcheck

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
PARAMS = (
    {"w": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)},
    {},
    {"gamma": np.ones(4)},
    {"w": RNG.normal(size=(4, 2))},
)


def test_value_and_gradient(typed):
    backend, dtype = typed
    params = put(backend, PARAMS, dtype)
    zeros = tree.map(lambda p: 0.0 * p, params)
    value, grads = regularizers.ElasticNet(0.5, l1_ratio=0.3)(params, zeros, 0.1)
    assert_here(backend, dtype, (value, grads))
    weights = [PARAMS[0]["w"], PARAMS[3]["w"]]
    expected = 0.1 * sum(0.5 * (0.35 * (w**2).sum() + 0.3 * np.abs(w).sum()) for w in weights)
    np.testing.assert_allclose(get(backend, value), expected, rtol=1e-5 if dtype == "float32" else 1e-12)
    own = [0.1 * 0.5 * (0.7 * w + 0.3 * np.sign(w)) for w in weights]
    assert_close(
        get(backend, grads), ({"w": own[0], "b": 0 * PARAMS[0]["b"]}, {}, {"gamma": np.zeros(4)}, {"w": own[1]}), dtype
    )


def test_the_gradient_is_the_derivative(backend64):
    net = regularizers.ElasticNet(0.5, l1_ratio=0.3)

    def penalty(w):
        value, grads = net({"w": w}, {"w": 0.0 * w}, 1.0)
        return value, lambda dvalue=1.0: grads["w"] * dvalue

    gradcheck(penalty, backend64.asarray(PARAMS[0]["w"]))


def test_nothing_to_penalize():
    value, grads = regularizers.ElasticNet(0.5)(({"b": np.ones(2)},), ({"b": np.ones(2)},), 1.0)
    assert value == 0
    np.testing.assert_array_equal(grads[0]["b"], 1.0)


@pytest.mark.parametrize(("rate", "ratio"), [(-1.0, 0.0), (1.0, -0.1), (1.0, 1.1)])
def test_bad_hyper_parameters(rate, ratio):
    with pytest.raises(ConfigError, match="must be a number in"):
        regularizers.ElasticNet(rate, ratio)


def make(optimizer, regularizer, **options):
    net = Network(nn.Sequential([nn.Affine(4), nn.Tanh(), nn.Affine(2)]), 3, rng=0, dtype="float64", **options)
    return Trainer(net, losses.HalfSquaredError(), optimizer, regularizer=regularizer, rng=0)


def test_the_examples_of_a_batch_share_it(backend64):
    net = Network(nn.Affine(2), 3, device=backend64, rng=0, dtype="float64")
    trainer = Trainer(net, losses.HalfSquaredError(), optim.SGD(1.0), regularizer=regularizers.ElasticNet(3.0), rng=0)
    w, b = (backend64.to_numpy(net.params[name]).copy() for name in ("w", "b"))
    weights = RNG.uniform(size=50)
    loss = trainer.partial_fit(X, Y, sample_weight=weights)
    error = X @ w + b - Y
    total = weights.sum()
    assert loss == pytest.approx((0.5 * weights @ (error**2).sum(axis=1) + 1.5 * (w**2).sum()) / total)
    gradient = (X.T @ (weights[:, None] * error) + 3.0 * w) / total
    np.testing.assert_allclose(backend64.to_numpy(net.params["w"]), w - gradient)


def test_it_is_that_of_a_full_batch_method():
    inside = make(optim.LBFGS(penalty=optim.L2(0.4)), None)
    inside.fit(X, Y, epochs=30, batch_size=7)
    outside = make(optim.LBFGS(), regularizers.ElasticNet(0.4 * 50))
    history = outside.fit(X, Y, epochs=30, batch_size=7)
    assert_close(outside.network.params, inside.network.params, "float64")
    assert history.minimum == pytest.approx(inside.history.minimum)
    assert history["loss"][-1] == pytest.approx(history.minimum)


def test_a_full_batch_method_needs_a_derivative():
    with pytest.raises(ConfigError, match="LBFGS needs a penalty with a derivative everywhere, not ElasticNet"):
        make(optim.LBFGS(), regularizers.ElasticNet(1.0, 0.5)).fit(X, Y)
