"""Networks whose arrays steps overwrite, and trainers of them."""

from __future__ import annotations

import numpy as np

from portnn import Network, Trainer, losses, nn, optim, tree

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = np.arange(96) % 3

WIDE = nn.Sequential([nn.Affine(192), nn.BatchNorm(), nn.ReLU(), nn.Affine(3)])
X_WIDE = RNG.normal(size=(1600, 48)).astype(np.float32)
Y_WIDE = np.arange(1600) % 3


def network(backend="cpu", seed=0, *layers):
    layer = nn.Sequential([nn.Affine(8), nn.BatchNorm(), nn.Tanh(), nn.Affine(3)])
    return Network(layer, 6, rng=seed, device=backend)


def trainer_of(net, *callbacks, optimizer=None):
    return Trainer(net, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(0.01), callbacks=callbacks, rng=0)


def fit(trainer, epochs=2):
    trainer.fit(X, Y, epochs=epochs, batch_size=32, validation_data=(X, Y))
    return trainer


def values(backend, trees):
    return tree.map(lambda a: np.array(backend.to_numpy(a)), trees)
