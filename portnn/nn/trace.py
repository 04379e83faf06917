"""What flows through a network: the output of every layer, with its distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from array_api_compat import array_namespace

from portnn._typing import Array, Tree
from portnn.backend import Backend
from portnn.checks import check_count
from portnn.door import check_finite, check_rows, enter
from portnn.functional import as_float
from portnn.nn.layer import Layer
from portnn.nn.network import Network

__all__ = ["LayerTrace", "trace"]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """The output of one layer.

    Attributes
    ----------
    path : str
        Where the layer is, as in `Network.summary`, such as ``"0.2"``.
    layer : Layer
    output : array, shape ``(n, *output_shape)``, on the device of the network
    mean, std : float
        Over all of its values.
    counts : list of int
        How many values fall between two neighbours of ``edges``.
    edges : list of float
        One more than there are counts, evenly spaced from the smallest value to the largest.
    """

    path: str
    layer: Layer
    output: Array
    mean: float
    std: float
    counts: list[int]
    edges: list[float]


def trace(network: Network, x: Array, *, bins: int = 30) -> list[LayerTrace]:
    """The output of every layer for a batch, at inference, in the order of computation.

    Containers are entered; their parts are listed instead of them.

    Parameters
    ----------
    network : Network
    x : array, shape ``(n, *input_shape)``
        Of any library; one batch, so that all outputs are held at once.
    bins : int, default 30
        Number of bars of each histogram.

    Raises
    ------
    ShapeError, DataError
        If ``x`` has another shape, is empty, or holds NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import nn
    >>> net = nn.Network(nn.Sequential([nn.Affine(3), nn.ReLU()]), 2, rng=0)
    >>> [(t.path, t.output.shape, sum(t.counts)) for t in trace(net, np.ones((5, 2)), bins=4)]
    [('0', (5, 3), 15), ('1', (5, 3), 15)]
    """
    check_count("bins", bins)
    backend = network.backend
    with backend.context():
        x = enter(x, backend, network.dtype)
        check_rows(x, network.input_shape)
        check_finite(x, backend)
        x = as_float(x, backend.dtype(network.dtype))
        with network.trees.reading() as trees:
            outputs = list(_outputs(network.layer, *trees, x, ""))
        return [LayerTrace(path, layer, y, *_distribution(y, bins, backend)) for path, layer, y in outputs]


def _outputs(layer: Layer, params: Tree, state: Tree, x: Array, path: str) -> Iterator[tuple[str, Layer, Array]]:
    if not layer.children():
        yield path[:-1], layer, layer.apply(params, state, x)
        return
    for i, (child, p, s) in enumerate(zip(layer.children(), params, state, strict=True)):
        for found in _outputs(child, p, s, x, f"{path}{i}."):
            yield found
            x = found[2]


def _distribution(y: Array, bins: int, backend: Backend) -> tuple[float, float, list[int], list[float]]:
    xp, n = array_namespace(y), math.prod(y.shape)
    y = xp.reshape(y, (n,))
    mean, std, low, high = backend.to_floats([xp.mean(y), xp.std(y), xp.min(y), xp.max(y)])
    if not math.isfinite(high - low):  # a diverged network has no histogram
        return mean, std, [0] * bins, [math.nan] * (bins + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    below = xp.stack([xp.sum(xp.astype(y < edge, xp.int32), dtype=xp.int32) for edge in edges[:-1]])
    places = [*map(int, backend.to_numpy(below)), n]
    return mean, std, [b - a for a, b in itertools.pairwise(places)], edges
