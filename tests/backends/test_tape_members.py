"""Every member of the families is recorded on NumPy, and its training has the bits of the plain loop."""

import augmentations
import numpy as np
import pytest
from families import LAYERS, LOSSES, MLP, OPTIMIZERS
from tapes import Losses, assert_by_tapes, assert_same_bits, by_both, needs_numba

from portnn import Network, Trainer, losses, nn, optim, regularizers

pytestmark = needs_numba

N = 20
DTYPES = ["float32", "float64"]
IMAGES, CONV = (6, 7, 2), nn.Sequential([nn.Conv2D(2), nn.ReLU(), nn.Flatten(), nn.Affine(3)])
DENSE = nn.Sequential([nn.Affine(5), nn.Tanh(), nn.Affine(3)])
LABELS, ACCUMULATED = losses.SoftmaxCrossEntropy(), optim.Accumulate(3, optim.Adam(lr=0.01))

#: What is not recorded, and why: the beginning of the name of its test, and what the loop says.
NOT_RECORDED = {
    # Normal numbers come from NumPy's generator on the host, which no instruction of a tape is.
    "layer GaussianNoise": "portnn.random.Stream",
    "augment Noise": "portnn.random.Stream",
    "augment all": "portnn.random.Stream",
    # With weights, the share of a batch in the penalty is an array; the twin of `sgd` takes it as a number.
    "regularizer with weights": "portnn_backends.on_numpy.updates",
    "regularizer with sums of batches": "portnn_backends.on_numpy.updates",
}


def case(layer, shape, loss=LABELS, optimizer=None, *, y=None, weighted=False, **options):
    """A training as keywords of `trained`."""
    optimizer = optim.Adam(lr=0.01) if optimizer is None else optimizer
    return {
        "layer": layer, "shape": shape, "loss": loss, "optimizer": optimizer, "y": y, "weighted": weighted, **options
    }  # fmt: skip


def given_by(loss):
    """A case in whose network the loss is given what its table says."""
    rng = np.random.default_rng(3)
    prediction, target = loss.prediction(rng, N)[0], loss.target(rng, N)[0]
    shape = prediction.shape[1:]
    layers = [nn.Flatten(), nn.Affine(int(np.prod(shape))), nn.Reshape(shape)]
    if np.all(prediction > 0):
        layers.append(nn.Softmax())  # probabilities
    return case(nn.Sequential(layers), (4,), loss.loss, optim.SGD(lr=1e-3), y=target)


CASES = {f"layer {name}": case(c.layer, c.input_shape, losses.MeanSquaredError()) for name, c in LAYERS.items()}
CASES |= {f"loss {name}": given_by(c) for name, c in LOSSES.items()}
CASES |= {f"optimizer {name}": case(DENSE, (4,), optimizer=o) for name, o in OPTIMIZERS.items()}
CASES |= {
    f"augment {name}": case(CONV, IMAGES, augment=a) for name, a in augmentations.MEMBERS.items() if "Crop" not in name
}
CASES |= {
    # These two keep the shape of images of their own size only.
    "augment RandomCrop": case(CONV, (7, 5, 2), augment=augmentations.MEMBERS["RandomCrop"]),
    "augment RandomCrop-smaller": case(CONV, (4, 4, 2), augment=augmentations.MEMBERS["RandomCrop-smaller"]),
    "augment all": case(CONV, IMAGES, augment=augmentations.ALL),
    "regularizer L2": case(DENSE, (4,), regularizer=regularizers.ElasticNet(0.1)),
    "regularizer L1": case(DENSE, (4,), regularizer=regularizers.ElasticNet(0.01, l1_ratio=1.0)),
    "regularizer ElasticNet": case(DENSE, (4,), regularizer=regularizers.ElasticNet(0.1, l1_ratio=0.3)),
    "regularizer with weights": case(DENSE, (4,), regularizer=regularizers.ElasticNet(0.1), weighted=True),
    "regularizer with sums of batches": case(
        DENSE, (4,), optimizer=ACCUMULATED, regularizer=regularizers.ElasticNet(0.1), weighted=True
    ),
    "clip by value": case(DENSE, (4,), optimizer=optim.chain(optim.ClipByValue(0.01), optim.SGD(lr=0.1))),
    "clip by norm": case(DENSE, (4,), optimizer=optim.chain(optim.ClipByNorm(0.01), optim.Adam())),
    "penalty L1": case(DENSE, (4,), optimizer=optim.chain(optim.L1(0.01), optim.SGD(lr=0.1))),
    "penalty L2": case(DENSE, (4,), optimizer=optim.chain(optim.L2(0.01), optim.SGD(lr=0.1))),
    "weights of examples": case(DENSE, (4,), weighted=True),
    "weights and classes": case(
        DENSE, (4,), losses.SoftmaxCrossEntropy(class_weight=(1.0, 0.0, 2.0), label_smoothing=0.1), weighted=True
    ),
    "weights and noise": case(LAYERS["BatchNorm"].layer, (4,), losses.MeanSquaredError(), weighted=True),
    "sums of batches": case(DENSE, (4,), optimizer=ACCUMULATED, weighted=True),
    "a step that skips": case(DENSE, (4,), on_nonfinite="skip"),
    "a step that skips with state": case(
        nn.Sequential([nn.Affine(4), nn.BatchNorm(), nn.Dropout(0.2), nn.Affine(3)]), (4,), on_nonfinite="skip"
    ),
    "frozen": case(nn.Sequential([nn.Frozen(MLP), nn.ReLU(), nn.Affine(3)]), (2, 2)),
}  # fmt: skip


def trained(dtype, layer, shape, loss, optimizer, y, weighted, epochs=4, **options):
    """16 steps: 8 of them go by before the first tape is made."""
    rng = np.random.default_rng(1)
    network = Network(layer, shape, device="cpu", rng=0, dtype=dtype)
    x = rng.uniform(0.1, 1.0, size=(N, *shape)).astype(dtype)
    if y is None:
        labels = loss.__class__ is losses.SoftmaxCrossEntropy
        y = rng.integers(0, 3, N) if labels else rng.normal(size=(N, *network.output_shape)).astype(dtype)
    weight = rng.choice([0.0, 0.5, 1.0, 2.0], size=N) if weighted else None
    trainer = Trainer(network, loss, optimizer, rng=0, callbacks=[Losses()], **options)
    trainer.fit(x, y, sample_weight=weight, epochs=epochs, batch_size=5)
    return trainer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_RECORDED])
def test_bits_of_the_plain_loop(name, dtype):
    taped, plain = by_both(lambda: trained(dtype, **CASES[name]))
    assert_by_tapes(taped)
    assert_same_bits(taped, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NOT_RECORDED)
def test_what_is_not_recorded_says_why(name, dtype):
    """An exception that has become recordable fails here, and then goes into the test above."""
    taped, plain = by_both(lambda: trained(dtype, **CASES[name]))
    loop = taped.stepper.loop
    assert (loop.reason or "").startswith(NOT_RECORDED[name])
    assert not loop.tapes
    assert_same_bits(taped, plain)


def test_every_exception_is_of_a_case():
    assert NOT_RECORDED.keys() <= CASES.keys()
