"""Trainings whose steps are recorded as CUDA graphs, next to the same ones without; CuPy must be installed."""

import itertools

import numpy as np
from cupy_on_host.recorded import Plain, Portable

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.optim import schedules
from portnn.training import chunks, epochs

X = np.random.default_rng(0).integers(0, 256, (50, 6)).astype(np.uint8)
Y = np.random.default_rng(1).integers(0, 3, 50)

LAYERS = (nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3))


def make(backend=None, layers=LAYERS, optimizer=None, **options):
    layer = nn.Sequential([nn.Affine(8), *layers, nn.Affine(3)])
    backend = backend or Portable()
    optimizer = optimizer or optim.Adam(lr=schedules.Exponential(0.05, 0.95))
    return Trainer(Network(layer, 6, device=backend, rng=0), losses.SoftmaxCrossEntropy(), optimizer, rng=0, **options)


def bits(trainer):
    backend = trainer.network.backend
    slots = trainer.stepper.slots
    return {
        name: backend.to_numpy(a).tobytes()
        for name, a in tree.flatten((trainer.network.params, trainer.network.state, slots)).items()
    }


def timeless(trainer):
    return [{k: v for k, v in r.items() if k not in ("seconds", "samples_per_second")} for r in trainer.history.records]


def steps_of(trainer):
    return [trainer.stepper.loop]


def assert_same_run(captured, plain):
    assert timeless(captured) == timeless(plain)
    assert bits(captured) == bits(plain)


def both(run, **options):
    """A recorded run and a plain one, of which both are equal bit for bit."""
    captured, plain = make(**options), make(Plain(), **options)
    for trainer in (captured, plain):
        run(trainer)
    assert_same_run(captured, plain)
    return captured


def fit(trainer, epochs=4, **options):
    trainer.fit(X, Y, epochs=epochs, batch_size=16, validation_data=(X, Y), **options)


def in_chunks_of(monkeypatch, *sizes):
    """Chunks of these numbers of steps in turn, whatever they take."""

    class Fixed(chunks.Pace):
        def __init__(self, most):
            self.cycle = itertools.cycle(sizes)
            self.steps = next(self.cycle)

        def advance(self, stepper, chunk, usual_weight):
            stepper.advance(chunk, usual_weight)
            self.steps = next(self.cycle)

    monkeypatch.setattr(epochs, "Pace", Fixed)
