"""What flows through a network: the output of every layer, with its distribution."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from portnn._typing import Array, Backward, Shape, Tree
from portnn.backend import Backend
from portnn.checks import check_count
from portnn.door import check_finite, check_rows, enter
from portnn.functional import as_float
from portnn.nn.layer import Layer
from portnn.nn.network import Network
from portnn.random import Stream

__all__ = ["LayerTrace", "Visit", "trace", "walk"]


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

    Layers that run others one after the other, as `Sequential` does, are entered; their parts are listed instead of
    them.

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
            visits = walk(network.layer, *trees, x)
        return [
            LayerTrace(seen.path, seen.layer, seen.output, *_distribution(seen.output, bins, backend))
            for seen in visits
            if not seen.layer.children() and all(container.children() for container in seen.within)
        ]


class Visit(NamedTuple):
    """What `walk` has seen of a layer.

    Attributes
    ----------
    path : str
        Where it is: the number in a `Sequential`, else the name of the field, such as ``"1.layer.0"`` in a `Residual`.
    layer : Layer
    within : tuple of Layer
        The containers around it, the outermost first.
    params : tree
    output : array
    """

    path: str
    layer: Layer
    within: tuple[Layer, ...]
    params: Tree
    output: Array


def walk(
    layer: Layer, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
) -> list[Visit]:
    """The outputs of a layer and of all layers inside it, in the order of computation: containers after their parts.

    The containers run their parts themselves, with the parameters, the mode and the random numbers that they give
    them: what is seen is what a step computes. Parts are the layers among a container's attributes, alone or in tuples,
    lists and dicts.

    Parameters
    ----------
    layer, params, state, x, train, rng
        As for `Layer.forward`; without ``train`` as for `Layer.apply`.
    """
    visits: list[Visit] = []
    watched = _watched(layer, "", (), visits)
    if train:
        watched.forward(params, state, x, train=True, rng=rng)
    else:
        watched.apply(params, state, x)
    return visits


def _watched(layer: Layer, path: str, within: tuple[Layer, ...], visits: list[Visit]) -> Layer:
    """A layer that does the same, and notes in ``visits`` what its parts and itself have given."""
    around = (*within, layer)

    def parts(value: Any, place: str) -> Any:
        if isinstance(value, Layer):
            return _watched(value, place, around, visits)
        if isinstance(value, tuple | list):
            made = [parts(part, f"{place}.{i}") for i, part in enumerate(value)]
            return value if all(map(operator.is_, made, value)) else tuple(made)
        if isinstance(value, dict):
            named = {key: parts(part, f"{place}.{key}") for key, part in value.items()}
            return value if all(named[key] is part for key, part in value.items()) else named
        return value

    places = {name: path if layer.children() else f"{path}.{name}" for name in vars(layer)}
    found = {name: parts(value, places[name]) for name, value in vars(layer).items()}
    inside = copy.copy(layer)  # not built anew: its constructor might not take what is watched
    for name, part in found.items():
        object.__setattr__(inside, name, part)
    return _Watched(inside, Visit(path.lstrip("."), layer, within, (), None), visits)


class _Watched(Layer):
    """``inside``, under watch."""

    def __init__(self, inside: Layer, unseen: Visit, visits: list[Visit]) -> None:
        self.inside, self.unseen, self.visits = inside, unseen, visits

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)  # a container may look at the fields of its parts

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return self.inside.init(rng, input_shape)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, state, backward = self.inside.forward(params, state, x, train=train, rng=rng)
        self.visits.append(self.unseen._replace(params=params, output=y))
        return y, state, backward

    def apply(self, params: Tree, state: Tree, x: Array) -> Array:
        y = self.inside.apply(params, state, x)
        self.visits.append(self.unseen._replace(params=params, output=y))
        return y


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
