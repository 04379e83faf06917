"""Augmentation in training: of what the steps see, and of nothing else."""

import numpy as np
import pytest
from augmentations import ALL
from helpers import assert_equal, prepared_piece
from lanes import USABLE, host_closed, open_lane

from portnn import Network, Trainer, functional, losses, nn, optim
from portnn.data.augmentation import Brightness, Compose, Noise, RandomCrop, Rotate, Shift
from portnn.errors import ConfigError, ShapeError
from portnn.random import Stream

PIXELS = (np.random.default_rng(1).uniform(size=(20, 6, 6)) * 255).astype(np.uint8)
LABELS = np.arange(20) % 3
MLP = nn.Sequential([nn.Flatten(), nn.Affine(8), nn.Tanh(), nn.Affine(3)])


def make(device="cpu", augment=None, optimizer=None, dtype="float32"):
    net = Network(MLP, (6, 6), device=device, rng=0, dtype=dtype)
    return Trainer(net, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(lr=0.01), augment=augment, rng=0)


def curve(device, dtype):
    trainer = make(device, Compose([Rotate(15), Brightness(0.1), Noise(0.1)]), optim.SGD(lr=0.1), dtype)
    return [trainer.partial_fit(PIXELS, LABELS) for _ in range(8)]


def test_same_curve_on_every_backend(typed):
    backend, dtype = typed
    np.testing.assert_allclose(curve(backend, dtype), curve("cpu", dtype), rtol=1e-4 if dtype == "float32" else 1e-10)


def test_nothing_leaves_the_device_in_a_step():
    with open_lane("strict:device1") as backend:
        trainer = make(backend, ALL)
        piece = prepared_piece(trainer, PIXELS, LABELS, 8)
        with host_closed(backend):
            trainer.stepper.advance((piece,))


def test_what_the_network_sees():
    """Floats that are new in every step, by a stream of their own; and the images themselves outside training."""
    seen, streams = [], []

    def spy(x, rng):
        seen.append(x)
        streams.append(rng)
        return x * 0.0

    trainer = make(augment=spy)
    trainer.fit(PIXELS, LABELS, epochs=2, batch_size=10, validation_data=(PIXELS, LABELS))
    trainer.partial_fit(PIXELS, LABELS)
    assert streams == [Stream(0).child("augment").at(step) for step in range(1, 6)]
    assert_equal(seen[-1], functional.as_float(PIXELS, np.dtype("float32")))
    weights = np.array(trainer.network.params[1]["w"])
    trainer.evaluate(PIXELS, LABELS)
    trainer.network.predict(PIXELS)
    assert len(seen) == 5
    # No gradient reaches weights of inputs that are 0.
    assert_equal(weights, make().network.params[1]["w"])


def test_training_goes_on_without_it():
    plain, none = make(), make(augment=lambda x, rng: x)
    assert plain.partial_fit(PIXELS, LABELS) == none.partial_fit(PIXELS, LABELS)


@pytest.mark.parametrize("lane", [name for name in ("numpy", "jax") if name in USABLE])
def test_another_augmentation_is_used_from_the_next_call_on(lane):
    """Also where a compiled step is at hand."""
    with open_lane(lane) as backend:
        trainer = make(backend, lambda x, rng: x * 0.0, optim.SGD(lr=1e-9))
        dark = trainer.partial_fit(PIXELS, LABELS)
        trainer.augment = None
        plain = trainer.partial_fit(PIXELS, LABELS)
    assert plain == pytest.approx(make().partial_fit(PIXELS, LABELS), rel=1e-5)
    assert plain != pytest.approx(dark, rel=1e-3)


def test_full_batch_methods_refuse_it():
    sentence = "LBFGS compares losses of the same examples, and augmentation changes them in each step"
    with pytest.raises(ConfigError, match=sentence):
        make(augment=Shift(1), optimizer=optim.LBFGS())
    trainer = make(optimizer=optim.LBFGS())
    trainer.augment = Shift(1)
    with pytest.raises(ConfigError, match=sentence):
        trainer.fit(PIXELS, LABELS)


def test_augmentations_that_cannot_be_used():
    with pytest.raises(ConfigError, match=r"Trainer's augment must be callable, not <class .*; write Shift\(...\)"):
        make(augment=Shift)
    trainer = make(augment=RandomCrop(4))
    with pytest.raises(
        ShapeError, match=r"augment must keep shape and dtype: of \(20, 6, 6\), .*, it made \(20, 4, 4\)"
    ):
        trainer.fit(PIXELS, LABELS)
    assert trainer.step == 0
