"""Products in precision bf16, written out in NumPy: factors are rounded to bfloat16, sums are of float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnn import Network, Trainer, losses, nn, optim
from portnn.backend import Backend

_RNG = np.random.default_rng(0)
X, Y = _RNG.standard_normal((160, 20), np.float32), _RNG.integers(0, 3, 160)

#: Of the largest number of a result: what other sums of float32 may change, as tensor cores cut off where others round;
#: and what rounded factors change at least.
_ORDER, _ROUNDED = 2e-5, 5e-4


def normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def rounded(x: Any) -> Any:
    """float32 numbers to the nearest ones of bfloat16, of two the even one; NaN stays NaN."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    even = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, even.view(np.float32))


def computed(backend: Backend, function: Callable[..., Any], *arrays: Any, dy: Any = None, **options: Any) -> list[Any]:
    """Value and gradients on a backend, of float32, on the host."""
    with backend.context():
        made = function(*[backend.asarray(a) for a in arrays], **options)
        found = made if dy is None else (made[0], *made[1](backend.asarray(dy)))
    found = found if isinstance(found, tuple) else (found,)
    assert all(a.dtype == backend.dtype("float32") for a in found)
    return [backend.to_numpy(a) for a in found]


def assert_of_rounded_factors(found: Sequence[Any], expected: Sequence[Any], exact: Sequence[Any]) -> None:
    """Results are what is expected of rounded factors, which is something else than what exact ones give."""
    for a, e, f in zip(found, expected, exact, strict=True):
        scale = np.abs(e).max()
        assert np.abs(a - e).max() < _ORDER * scale
        assert np.abs(f - e).max() > _ROUNDED * scale


def assert_trains_with_rounded_factors(backend: Backend) -> Trainer:
    """20 steps of gradient descent, of one batch each, have the losses of those that are written out here."""
    net = Network(nn.Sequential([nn.Affine(32), nn.Tanh(), nn.Affine(3)]), 20, device=backend, rng=0)
    weights = _weights(net)
    coarse, exact = (np.asarray(_steps(rounding, *weights)) for rounding in (rounded, np.asarray))
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(0.5), rng=0)
    trainer.fit(X, Y, epochs=20, batch_size=len(X))
    off = np.abs(np.asarray(trainer.history["loss"]) - coarse).max()
    assert off < 0.1 * np.abs(exact - coarse).max()
    return trainer


def assert_predicts_with_rounded_factors(trainer: Trainer) -> None:
    """So does the network of `assert_trains_with_rounded_factors`, whole, in batches, and as it is measured."""
    net = trainer.network
    expected, exact = (_outputs(rounding, *_weights(net)) for rounding in (rounded, np.asarray))
    assert np.abs(exact - expected).max() > 3e-3
    for found in (net.predict(X), net.predict(X, batch_size=64), net.backend.to_numpy(net(X))):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert abs(trainer.evaluate(X, Y)["loss"] - _loss(_probabilities(expected))) < 2e-5


def _weights(net: Network) -> list[Any]:
    return [net.backend.to_numpy(net.params[i][name]).copy() for i in (0, 2) for name in ("w", "b")]


def _outputs(rounding: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return rounding(np.tanh(rounding(X) @ rounding(w1) + b1)) @ rounding(w2) + b2


def _probabilities(z: Any) -> Any:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _loss(p: Any) -> float:
    return float(-np.mean(np.log(p[np.arange(len(X)), Y])))


def _steps(rounding: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> list[float]:
    found = []
    for _ in range(20):
        h = np.tanh(rounding(X) @ rounding(w1) + b1)
        p = _probabilities(rounding(h) @ rounding(w2) + b2)
        found.append(_loss(p))
        dz = (p - np.eye(3, dtype=np.float32)[Y]) / np.float32(len(X))
        da = rounding(dz) @ rounding(w2).T * (1 - h * h)
        w2, b2 = w2 - 0.5 * (rounding(h).T @ rounding(dz)), b2 - 0.5 * dz.sum(axis=0)
        w1, b1 = w1 - 0.5 * (rounding(X).T @ rounding(da)), b1 - 0.5 * da.sum(axis=0)
    return found
