"""The convolutions of the networks of train_mnist.py, with what the CuPy backend computes together with them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from places import ROOT
from portnn_backends.on_cupy import direct_plan
from portnn_backends.on_cupy.direct import GROUPS, _kernels, convolution_of
from portnn_backends.on_cupy.direct_convolution import Convolution

from portnn import nn
from portnn.functional.windows import Axis
from portnn.random import ShapeStream


def recipes() -> dict[str, Any]:
    """Those of scripts/models.py, by name."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        found: dict[str, Any] = importlib.import_module("models").RECIPES
    finally:
        sys.path.pop(0)
    return found


def convolutions(name: str, dtype: Any, image: tuple[int, int] = (28, 28)) -> Iterator[Convolution]:
    """Of a network, from the first layer on."""
    recipe = recipes()[name]
    layers, shape = recipe.network(image, 10, recipe.hidden).layers, image
    for i, layer in enumerate(layers):
        if type(layer) is nn.Conv2D:
            rows = [layers[i : i + len(group.members)] for group in GROUPS]
            longest = max((row for row, group in zip(rows, GROUPS, strict=True) if group.takes(row)), key=len)
            yield convolution_of(longest, shape, np.dtype(dtype))
        shape = layer.init(ShapeStream(), shape)[2]


def plans(name: str, names: tuple[str, ...], dtype: Any) -> list[dict[str, Any]]:
    """What is put into a source for these networks: "values", "slopes" or "weights"."""
    found = [_kernels(conv) for model in names for conv in convolutions(model, dtype)]
    return [{"REAL": np.dtype(dtype), **kernels.sources[name]} for kernels in found if kernels is not None]


def random_convolutions(count: int) -> Iterator[Convolution]:
    """Of any shapes that somebody may ask for."""
    rng = np.random.default_rng(5)
    made = 0
    while made < count:
        kernel, stride, before, after = (rng.integers(low, high, 2) for low, high in ((1, 6), (1, 4), (0, 3), (0, 3)))
        size = rng.integers(1, 40, 2)
        rows, columns = (
            Axis(*(int(numbers[k]) for numbers in (size, kernel, stride)), 1, int(before[k]), int(after[k]))
            for k in range(2)
        )
        pool = tuple(int(n) for n in rng.integers(1, 4, 2))
        channels, filters = (int(n) for n in rng.integers(1, 65, 2))
        relu, first = (bool(n) for n in rng.integers(0, 2, 2))
        conv = Convolution(rows, columns, channels, filters, pool, relu, first)
        if min(rows.count, columns.count) > 0 and direct_plan.fits(conv):
            made += 1
            yield conv
