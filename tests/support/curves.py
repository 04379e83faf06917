"""The same training on the lane of CuPy and on the CPU: from pictures in bytes, with dropout and normalisation."""

from collections.abc import Set
from typing import Any

import numpy as np
from cupy_on_host import launches

from portnn import Network, Trainer, losses, nn

CURVES = {
    "mlp": (nn.Sequential([nn.Affine(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Affine(3)]), (12,)),
    "cnn": (
        nn.Sequential(
            [
                *(nn.Conv2D(6, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.ChannelDropout(0.2)),
                *(nn.ConvTranspose2D(4, 3, stride=2), nn.AveragePool2D(2), nn.Flatten(), nn.Dropout(0.5), nn.Affine(3)),
            ]
        ),
        (6, 6, 2),
    ),
}


def trained(
    case: str, device: Any, optimizer: Any, *, examples: int, epochs: int, label_smoothing: float = 0.0
) -> Trainer:
    layer, shape = CURVES[case]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (examples, *shape), np.uint8), rng.integers(0, 3, examples)
    net = Network(layer, shape, device=device, rng=0)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(label_smoothing=label_smoothing), optimizer, rng=0)
    trainer.fit(x, y, epochs=epochs, batch_size=16)
    return trainer


def trained_as_on_the_cpu(
    case: str, device: Any, optimizer: Any, kernels: Set[str], **run: Any
) -> tuple[Trainer, list[str]]:
    """A training whose losses are those of NumPy to rounding, and the kernels that it launched: these among them."""
    with launches() as launched:
        trainer = trained(case, device, optimizer, **run)
    assert {"relu_values", "head_columns", "divided_rows", "uniform32", "normalise", *kernels} <= set(launched)
    on_the_cpu = trained(case, "cpu", optimizer, **run).history["loss"]
    np.testing.assert_allclose(trainer.history["loss"], on_the_cpu, rtol=1e-4)
    return trainer, launched
