"""What a step on NumPy arrays cannot do without: its matrix products and its update."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import Recipe

from portnn import Network, nn, tree
from portnn.errors import ConfigError
from portnn.random import Stream

from . import described


class Floor:
    """The products of the affine layers by BLAS with its own threads, then as many updates: it learns nothing."""

    def __init__(self, net: Network, recipe: Recipe, images: Any, labels: Any) -> None:
        layers = described(net)
        if any(params and not isinstance(layer, nn.Affine) for layer, params, _ in layers):
            raise ConfigError("the floor is that of networks whose only parameters are those of affine layers")
        self.backend, self.weights = net.backend, [params["w"] for _, params, _ in layers if params]
        self.optimizer = recipe.make_optimizer(1, recipe.optimizer, None)
        self.params = net.params
        self.slots = self.optimizer.slots(net.params)
        self.grads = tree.map(lambda p: np.full_like(p, 1e-3), net.params)

    def train(self, batches: NDArray[Any]) -> list[float]:
        steps, size = batches.shape
        made = [_arrays(size, w.shape) for w in self.weights]
        for _ in range(steps):
            for i, (w, (x, dx, dw, dy)) in enumerate(zip(self.weights, made, strict=True)):
                np.matmul(x, w, out=dy)
                np.matmul(x.T, dy, out=dw)
                if i:
                    np.matmul(dy, w.T, out=dx)
        with self.backend.context():
            for i in range(steps):
                self.params, self.slots = self.optimizer.update(
                    self.params, self.grads, self.slots, self.optimizer.hyper(i + 1)
                )
        return []

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        raise ConfigError("the floor learns nothing")


def _arrays(size: int, shape: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Input, its gradient, that of the weights, and the output of an affine layer."""
    x = Stream(0).uniform((size, shape[0])).astype(np.float32)
    return x, np.empty_like(x), np.empty(shape, np.float32), np.empty((size, shape[1]), np.float32)
