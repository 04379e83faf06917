"""``python -m portnn compile``: small networks are trained, so that what others need is compiled, and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator

from portnn import losses, nn, optim
from portnn._typing import Shape
from portnn.nn.network import Network
from portnn.training.trainer import Trainer

__all__ = ["compile_ahead"]

#: Examples, and those of a batch: enough batches for a backend that records steps after a few of them.
_EXAMPLES, _BATCH = 60, 4


def compile_ahead() -> str:
    """Train small networks of the usual kinds on NumPy, in float32 and float64; a sentence on what was done."""
    import numpy as np

    began, number = time.perf_counter(), 0
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        for layers, shape, loss, optimizer in _kinds():
            net = Network(nn.Sequential(layers), shape, rng=0, dtype=dtype, device="cpu")
            outputs = (net.output_shape or (1,))[-1]
            classes = isinstance(loss, losses.SoftmaxCrossEntropy)
            y = np.arange(_EXAMPLES) % outputs if classes else rng.random((_EXAMPLES, outputs))
            x = (
                rng.integers(0, 256, (_EXAMPLES, *shape), np.uint8)
                if len(shape) == 3
                else rng.random((_EXAMPLES, *shape))
            )
            Trainer(net, loss, optimizer, rng=0).fit(x, y, batch_size=_BATCH)
            net.predict(x)
            number += 1
    return (
        f"trained {number} small networks on NumPy in {time.perf_counter() - began:.1f} s: what they need is compiled"
    )


def _kinds() -> Iterator[tuple[list[nn.Layer], Shape, losses.Loss, optim.Optimizer]]:
    for optimizer in (optim.SGD(), optim.Momentum(), optim.RMSProp(), optim.Adam(), optim.AdamW()):
        dense: list[nn.Layer] = [nn.Affine(300), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.5), nn.Affine(300), nn.Tanh()]
        yield [*dense, nn.Affine(3)], (20,), losses.SoftmaxCrossEntropy(), optimizer
    image: list[nn.Layer] = [nn.Conv2D(24), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.Conv2D(4), nn.Flatten()]
    yield [*image, nn.Affine(3)], (12, 12, 1), losses.SoftmaxCrossEntropy(), optim.Adam()
    yield [nn.Affine(30), nn.ReLU(), nn.Affine(1)], (20,), losses.HalfSquaredError(), optim.Adam()
