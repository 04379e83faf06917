"""scikit-learn: affine layers with one activation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import Recipe
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from portnn import Network, nn, optim
from portnn.errors import ConfigError

from . import described


class WithSklearn:
    """Trained through ``partial_fit``, which takes rows in the order given, a batch at a time."""

    def __init__(self, net: Network, recipe: Recipe, images: Any, labels: Any) -> None:
        layers = described(net)
        if any(not isinstance(layer, nn.Affine | nn.ReLU | nn.Flatten) for layer, _, _ in layers):
            raise ConfigError("scikit-learn has affine layers only")
        params = [p for layer, p, _ in layers if isinstance(layer, nn.Affine)]
        self.images, self.labels = self._rows(images), labels
        hidden, classes = [len(p["b"]) for p in params[:-1]], np.arange(len(params[-1]["b"]))
        rule = recipe.make_optimizer(1, recipe.optimizer, None)
        if not isinstance(rule, optim.Adam | optim.SGD):
            raise ConfigError(f"scikit-learn has no {rule}")
        solver, rate = "adam" if isinstance(rule, optim.Adam) else "sgd", rule.hyper(1)["lr"]
        self.model = MLPClassifier(
            hidden, solver=solver, learning_rate_init=rate, alpha=0.0, shuffle=False, momentum=0.0
        )
        self.model.partial_fit(self.images[:1], labels[:1], classes=classes)
        self.model.coefs_, self.model.intercepts_ = [p["w"] for p in params], [p["b"] for p in params]
        leaves = self.model.coefs_ + self.model.intercepts_
        # Made anew for these weights, of which the one at hand knows nothing.
        self.model._optimizer = (  # noqa: SLF001
            AdamOptimizer(leaves, rate) if solver == "adam" else SGDOptimizer(leaves, rate, momentum=0.0)
        )

    def _rows(self, images: NDArray[Any]) -> NDArray[Any]:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    def train(self, batches: NDArray[Any]) -> list[float]:
        self.model.batch_size = batches.shape[1]
        order = batches.reshape(-1)
        self.model.partial_fit(self.images[order], self.labels[order])
        return [float(self.model.loss_)]

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        predicted: NDArray[Any] = self.model.predict(self._rows(images))
        return predicted
