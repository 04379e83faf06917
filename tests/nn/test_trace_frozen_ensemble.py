"""What looks at networks, keeps parts of them as they are, and joins several."""

import numpy as np
import pytest
from helpers import assert_close, assert_equal, assert_here, get, put

from portnn import Network, Trainer, functional, losses, nn, optim, tree
from portnn.errors import ConfigError, DataError, ShapeError
from portnn.nn.trace import walk
from portnn.random import Stream

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3
BODY = nn.Sequential([nn.Affine(6), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.5)])


def test_trace(backend):
    net = Network(nn.Sequential([nn.Affine(6), nn.Sequential([nn.Tanh(), nn.Affine(2)])]), 4, device=backend, rng=0)
    found = nn.trace(net, X, bins=7)
    assert [t.path for t in found] == ["0", "1.0", "1.1"]
    assert [type(t.layer) for t in found] == [nn.Affine, nn.Tanh, nn.Affine]
    for t in found:
        assert_here(backend, "float32", t.output)
        y = get(backend, t.output)
        counts, edges = np.histogram(y, bins=7)
        assert t.counts == counts.tolist()
        np.testing.assert_allclose(t.edges, edges, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose([t.mean, t.std], [y.mean(), y.std()], rtol=1e-4, atol=1e-6)
    assert_equal(get(backend, found[-1].output), get(backend, net(X)))


def test_trace_lists_what_is_no_sequence_as_a_whole():
    layer = nn.Sequential([nn.Affine(4), nn.Residual(nn.Sequential([nn.Tanh(), nn.Affine(4)])), nn.Frozen(BODY)])
    net = Network(layer, 4, rng=0)
    assert [(t.path, type(t.layer)) for t in nn.trace(net, X)] == [
        ("0", nn.Affine),
        ("1", nn.Residual),
        ("2", nn.Frozen),
    ]


@pytest.mark.parametrize("train", [False, True])
def test_a_walk_sees_what_a_step_computes(backend, train):
    noisy = nn.Residual(BODY, nn.Sequential([nn.Dropout(0.5), nn.Affine(6)]))
    net = Network(nn.Sequential([nn.Frozen(noisy), noisy]), 4, device=backend, rng=0)
    x, rng = put(backend, X, "float32"), Stream(3)
    with backend.context():
        visits = walk(net.layer, net.params, net.state, x, train=train, rng=rng)
        y, _, _ = net.layer.forward(net.params, net.state, x, train=train, rng=rng)
    assert visits[-1].path == ""
    assert [len(visit.within) for visit in visits[-2:]] == [1, 0]
    for last in visits[-2:]:
        np.testing.assert_array_equal(get(backend, last.output), get(backend, y))
    paths = [visit.path for visit in visits]
    parts = [*(f"layer.{i}" for i in range(4)), "layer", "shortcut.0", "shortcut.1", "shortcut"]
    inside = [f"0.layer.{part}" for part in parts]
    assert paths == [*inside, "0.layer", "0", *(f"1.{part}" for part in parts), "1", ""]
    frozen = visits[0]
    assert frozen.params is net.state[0]["params"]["layer"][0]
    assert frozen.within == (net.layer, net.layer.layers[0], noisy, BODY)


def test_trace_of_equal_and_of_infinite_values():
    net = Network(nn.Affine(2, weight_init=nn.Zeros()), 4)
    (found,) = nn.trace(net, X, bins=2)
    assert (found.mean, found.std, found.edges, found.counts) == (0.0, 0.0, [-0.5, 0.0, 0.5], [0, 24])
    net.params = {"w": np.full((4, 2), np.inf, dtype=np.float32), "b": net.params["b"]}
    with np.errstate(invalid="ignore"):
        (found,) = nn.trace(net, X, bins=2)
    assert found.counts == [0, 0]
    assert np.isnan(found.edges).all()


def test_trace_refuses():
    net = Network(nn.Affine(2), 4)
    with pytest.raises(ShapeError, match="the network takes"):
        nn.trace(net, X[:, :3])
    with pytest.raises(DataError, match="NaN"):
        nn.trace(net, X * np.nan)
    with pytest.raises(ConfigError, match="bins must be a positive int"):
        nn.trace(net, X, bins=0)


def transfer(backend):
    """A trained network, and a new one that has its first layers, frozen."""
    old = Network(nn.Sequential([*BODY.layers, nn.Affine(3)]), 4, device=backend, rng=0)
    Trainer(old, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(X, LABELS, epochs=2, batch_size=4)
    new = Network(nn.Sequential([nn.Frozen(BODY), nn.Affine(2)]), 4, device=backend, rng=1)
    new.state = (nn.Frozen.hold(old.params[:-1], old.state[:-1]), new.state[-1])
    return old, new


def test_frozen_layers_stay_and_the_others_learn(backend):
    old, new = transfer(backend)
    frozen, head = tree.map(np.array, get(backend, (new.state, new.params)))
    assert new.parameter_count == 6 * 2 + 2
    Trainer(new, losses.SoftmaxCrossEntropy(), optim.WeightDecay(0.1, optim.Adam()), rng=0).fit(X, LABELS % 2, epochs=2)
    assert_equal(get(backend, new.state), frozen)
    assert np.abs(get(backend, new.params)[1]["w"] - head[1]["w"]).max() > 1e-4
    # Statistics, too, and dropout is off: the body gives what it gave at inference.
    body = Network(BODY, 4, device=backend)
    body.params, body.state = old.params[:-1], old.state[:-1]
    assert_close(get(backend, nn.trace(new, X)[0].output), get(backend, body(X)), "float32")


def test_frozen_is_saved_and_loaded(tmp_path):
    _, new = transfer("cpu")
    new.save(tmp_path / "new.safetensors")
    loaded = Network.load(tmp_path / "new.safetensors")
    assert loaded.layer == new.layer
    assert_equal(loaded(X), new(X))


def test_frozen_takes_a_layer():
    with pytest.raises(ConfigError, match=r"Frozen's layer must be a Layer, not .*; write ReLU\(\)"):
        nn.Frozen(nn.ReLU)


def test_ensemble(backend):
    nets = [Network(nn.Affine(3), 4, device=backend, rng=seed) for seed in range(4)]
    here = put(backend, X, "float32")
    together = nn.Ensemble(nets, activation=nn.Softmax())
    assert_here(backend, "float32", together.predict(here))
    expected = np.mean([functional.softmax(net.predict(X))[0] for net in nets], axis=0)
    assert_close(get(backend, together.predict(here, batch_size=5)), expected, "float32")
    scores = nn.Ensemble(nets).predict(X)
    assert isinstance(scores, np.ndarray)
    assert_close(scores, np.mean([net.predict(X) for net in nets], axis=0), "float32")


def test_an_ensemble_over_devices(backend):
    nets = [Network(nn.Affine(3), 4, device=device, rng=0) for device in ("cpu", backend)]
    assert_close(nn.Ensemble(nets).predict(X), nets[0].predict(X), "float32")


def test_ensemble_refuses():
    with pytest.raises(ConfigError, match="at least one network"):
        nn.Ensemble([])
    with pytest.raises(ConfigError, match="made of networks"):
        nn.Ensemble([nn.Affine(3)])
    with pytest.raises(ShapeError, match="must be of equal shape"):
        nn.Ensemble([Network(nn.Affine(3), 4), Network(nn.Affine(2), 4)])
    with pytest.raises(ConfigError, match="activation must be a layer without parameters"):
        nn.Ensemble([Network(nn.Affine(3), 4)], activation=nn.Affine(2))
    with pytest.raises(ConfigError, match="activation must be a layer"):
        nn.Ensemble([Network(nn.Affine(3), 4)], activation=functional.softmax)
