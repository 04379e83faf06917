"""Keras, on whichever backend KERAS_BACKEND names."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from shared import Recipe

from portnn import Network, losses, nn, optim
from portnn.errors import ConfigError

from . import described


class WithKeras:
    """Trained through ``fit``, which takes rows in the order given, a batch at a time."""

    def __init__(self, net: Network, recipe: Recipe, images: Any, labels: Any) -> None:
        layers, weights = [keras.Input(net.input_shape), keras.layers.Rescaling(1 / 255)], []
        for layer, p, shape in described(net):
            if isinstance(layer, nn.Flatten):
                layers.append(keras.layers.Flatten())
            elif isinstance(layer, nn.Reshape):
                layers.append(keras.layers.Reshape(layer.init(net.rng, shape)[2]))
            elif isinstance(layer, nn.Affine):
                layers.append(keras.layers.Dense(layer.units))
                weights += [p["w"], p["b"]]
            elif isinstance(layer, nn.Conv2D) and layer.padding == "same":
                layers.append(keras.layers.Conv2D(layer.channels, layer.kernel, layer.stride, "same"))
                weights += [p["w"], p["b"]]
            elif isinstance(layer, nn.MaxPool2D):
                layers.append(keras.layers.MaxPool2D(layer.size))
            elif isinstance(layer, nn.ReLU):
                layers.append(keras.layers.ReLU())
            elif isinstance(layer, nn.Dropout):
                layers.append(keras.layers.Dropout(layer.rate))
            elif isinstance(layer, nn.BatchNorm):
                layers.append(keras.layers.BatchNormalization(momentum=layer.decay, epsilon=layer.eps))
                weights += [p["gamma"], p["beta"], np.zeros_like(p["beta"]), np.ones_like(p["beta"])]
            else:
                raise ConfigError(f"Keras is not told about {layer!r} yet")
        rule = recipe.make_optimizer(1, recipe.optimizer, None)
        if recipe.loss != losses.SoftmaxCrossEntropy() or not isinstance(rule, optim.Adam | optim.SGD):
            raise ConfigError(f"Keras is not told about {rule} with {recipe.loss} yet")
        make: Any = keras.optimizers.Adam if isinstance(rule, optim.Adam) else keras.optimizers.SGD
        epsilon = {"epsilon": 1e-8} if isinstance(rule, optim.Adam) else {}
        self.model = keras.Sequential(layers)
        self.model.set_weights(weights)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(make(rule.hyper(1)["lr"], **epsilon), loss)
        self.images, self.labels = images, labels

    def train(self, batches: NDArray[Any]) -> list[float]:
        order = batches.reshape(-1)
        x, y = self.images[order], self.labels[order]
        history = self.model.fit(x, y, batch_size=batches.shape[1], epochs=1, shuffle=False, verbose=0)
        return [float(history.history["loss"][0])]

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        predicted: NDArray[Any] = self.model.predict(images, batch_size=1024, verbose=0).argmax(axis=1)
        return predicted
