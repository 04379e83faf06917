"""How many operations a training step needs, and how many a second a device reaches at best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from portnn import Network, nn
from portnn._typing import Shape
from portnn.backend import Backend
from portnn.functional import matmul
from portnn.random import Stream

#: Sides of the matrices whose product is the ceiling: larger ones until a product takes a millisecond.
_SIDES = (1024, 2048, 4096, 8192)


def products(layer: nn.Layer, shape: Shape, out: Shape) -> int:
    """Multiplications of one forward pass for one example."""
    if isinstance(layer, nn.Affine):
        return shape[0] * layer.units
    if isinstance(layer, nn.Conv2D):
        (height, width), channels = np.broadcast_to(layer.kernel, 2), shape[2] // layer.groups
        return int(height * width) * channels * math.prod(out)
    return 0


def by_layer(net: Network, size: int) -> Iterator[int]:
    """Operations of a training step on ``size`` examples, by layer: two for each multiplication."""
    shape, trained = net.input_shape, False
    for layer, params in zip(net.layer.children(), net.params, strict=True):
        out = layer.init(net.rng, shape)[2]
        # Forward, and backward to the parameters; the first layer that has some hands nothing further back.
        yield 2 * products(layer, shape, out) * size * (3 if trained else 2)
        shape, trained = out, trained or bool(params)


def ceiling(backend: Backend) -> tuple[float, int]:
    """Operations a second of a large matrix product, in units of 10^9 (the best of twenty), and the matrices' side."""
    best, side = math.inf, 0
    with backend.context():
        for side in _SIDES:
            a = backend.asarray(Stream(0).normal((side, side)), "float32")
            best = math.inf
            for _ in range(20):
                begin = time.perf_counter()
                product = matmul(a, a)  # kept until it is there: a library may wait for nothing that nobody holds
                backend.synchronize()
                best = min(best, time.perf_counter() - begin)
                del product
            if best > 1e-3:
                break
    return 2 * side**3 / best / 1e9, side
