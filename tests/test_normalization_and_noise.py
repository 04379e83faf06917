"""What the generic tests cannot know of the layers that behave differently in training."""

import numpy as np
import pytest
from helpers import assert_close, get, put

from portnn import Network, Trainer, functional, kernels, losses, nn, optim
from portnn.errors import ConfigError, ShapeError
from portnn.functional import normalization
from portnn.functional.normalization import batch_norm_with_moments
from portnn.random import Stream

X = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 4))


def test_batch_norm_by_hand(backend):
    layer = nn.BatchNorm(decay=0.75, eps=1e-3)
    params, state, _ = layer.init(Stream(0), (1,))
    params, state, x = put(backend, (params, state, np.asarray([[1.0], [3.0]])), "float32")
    y, state, _ = layer.forward(params, state, x, train=True)
    # mean 2, variance 1
    np.testing.assert_allclose(get(backend, y), [[-1 / np.sqrt(1.001)], [1 / np.sqrt(1.001)]], rtol=1e-6)
    assert get(backend, state) == {"mean": 0.25 * 2.0, "var": 0.75 + 0.25 * 1.0}
    y = layer.apply(params, state, x)
    np.testing.assert_allclose(get(backend, y), [[0.5 / np.sqrt(1.001)], [2.5 / np.sqrt(1.001)]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(200, 4), (10, 4, 5, 4)])
def test_batch_norm_equals_torch(shape):
    torch = pytest.importorskip("torch")
    x, dy = np.random.default_rng(0).normal(3.0, 2.0, size=shape), np.random.default_rng(1).normal(size=shape)
    gamma, beta = np.random.default_rng(2).normal(size=(2, 4))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    theirs = torch.nn.functional.batch_norm(leaves[0].movedim(-1, 1), None, None, *leaves[1:], training=True)
    theirs.backward(torch.tensor(dy).movedim(-1, 1))
    y, backward = functional.batch_norm(x, gamma, beta)
    np.testing.assert_allclose(y, theirs.movedim(1, -1).detach().numpy(), rtol=1e-10, atol=1e-12)
    for ours, leaf in zip(backward(dy), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(200, 4), (10, 4, 5, 4)])
def test_batch_norm_gives_the_moments_that_it_has_found(shape, backend):
    rng = np.random.default_rng(2)
    arrays = rng.normal(3.0, 2.0, size=shape), rng.normal(size=4), rng.normal(size=4), rng.normal(size=shape)
    x, gamma, beta, dy = put(backend, arrays, "float32")
    for form in (batch_norm_with_moments, batch_norm_with_moments.portable):
        (y, *moments), backward = form(x, gamma, beta)
        expected, expected_backward = functional.batch_norm.portable(x, gamma, beta)
        assert_close(get(backend, (y, backward(dy))), get(backend, (expected, expected_backward(dy))), "float32")
        assert_close(get(backend, tuple(moments)), get(backend, functional.channel_moments.portable(x)), "float32")
    with pytest.raises(ShapeError, match="the backward of batch_norm_with_moments takes dy of the shape of its y"):
        batch_norm_with_moments(x, gamma, beta)[1](dy[:1, ...])


def test_a_batch_is_read_once_for_its_moments(monkeypatch):
    """By the layer, the function that it calls, and the running statistics together."""
    found, moments = [], normalization._centred
    monkeypatch.setattr(normalization, "_centred", lambda x: found.append(x.shape) or moments(x))
    layer = nn.BatchNorm()
    params, state, _ = layer.init(Stream(0), (4,))
    with kernels.portable():
        layer.forward(params, state, X, train=True)
    assert found == [(200, 4)]


def test_layer_norm_equals_torch():
    torch = pytest.importorskip("torch")
    dy, (gamma, beta) = np.random.default_rng(1).normal(size=X.shape), np.random.default_rng(2).normal(size=(2, 4))
    leaves = [torch.tensor(a, requires_grad=True) for a in (X, gamma, beta)]
    theirs = torch.nn.functional.layer_norm(leaves[0], (4,), *leaves[1:])
    theirs.backward(torch.tensor(dy))
    y, backward = functional.layer_norm(X, gamma, beta)
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
    for ours, leaf in zip(backward(dy), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_running_statistics_find_those_of_the_data():
    net = Network(nn.Sequential([nn.BatchNorm(), nn.Affine(1)]), 4, rng=0)
    trainer = Trainer(net, losses.HalfSquaredError(), optim.SGD(lr=1e-3), rng=0)
    trainer.fit(X, X[:, :1], epochs=60, batch_size=200)
    np.testing.assert_allclose(net.state[0]["mean"], X.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(net.state[0]["var"], X.var(axis=0), rtol=0.01)


def test_batch_norm_needs_more_than_one_value(backend):
    layer = nn.BatchNorm()
    params, state, _ = layer.init(Stream(0), (4,))
    params, state, x = put(backend, (params, state, X[:1]), "float32")
    with pytest.raises(ShapeError, match="BatchNorm cannot train on a batch of one value a channel"):
        layer.forward(params, state, x, train=True)
    assert layer.apply(params, state, x).shape == (1, 4)


@pytest.mark.parametrize("scale", ["train", "predict"])
def test_dropout_keeps_the_mean(scale, backend):
    layer = nn.Dropout(0.3, scale=scale)
    x = put(backend, np.ones((200, 200)), "float32")
    dropped, _, backward = layer.forward({}, (), x, train=True, rng=Stream(0))
    dropped, gradient = get(backend, (dropped, backward(x)[0]))
    np.testing.assert_array_equal(gradient, dropped)
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean() == pytest.approx(get(backend, layer.apply({}, (), x)).mean(), abs=0.01)
    assert dropped.max() == pytest.approx(1 / 0.7 if scale == "train" else 1.0)


def test_noise_has_its_standard_deviation(backend):
    x = put(backend, np.zeros((200, 200)), "float32")
    noisy, _, _ = nn.GaussianNoise(0.5).forward({}, (), x, train=True, rng=Stream(0))
    assert get(backend, noisy).std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(get(backend, nn.GaussianNoise(0.5).apply({}, (), x)), 0.0)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.GaussianNoise(0.1)])
def test_training_needs_random_numbers(layer):
    with pytest.raises(ConfigError, match="draws random numbers in training: forward needs rng="):
        layer.forward({}, (), X, train=True)


def test_same_curve_with_everything_on(backend):
    """Dropout, noise and batch normalisation: the same masks and the same losses as on NumPy."""

    def curve(device):
        layers = [nn.GaussianNoise(0.1), nn.Affine(16), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.Affine(2)]
        net = Network(nn.Sequential(layers), 4, device=device, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01), rng=0)
        return trainer.fit(X, (X[:, 0] > 3).astype(int), epochs=8, batch_size=16)["loss"]

    np.testing.assert_allclose(curve(backend), curve("cpu"), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.Dropout(1.0), r"rate must be a number in \[0, 1\), not 1.0"),
        (lambda: nn.Dropout(-0.1), "rate must be"),
        (lambda: nn.Dropout(0.5, scale="sometimes"), 'scale must be "train" or "predict"'),
        (lambda: nn.GaussianNoise(-1), "std must be"),
        (lambda: nn.BatchNorm(decay=1), "decay must be"),
        (lambda: nn.BatchNorm(eps=0), "eps must be"),
        (lambda: nn.LayerNorm(eps=-1), "eps must be"),
    ],
)
def test_bad_hyper_parameters(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_examples_without_an_axis():
    with pytest.raises(ShapeError, match="BatchNorm normalises along the last axis"):
        nn.BatchNorm().init(Stream(0), ())
