"""Loss and metrics of a network on some data, at inference."""

from __future__ import annotations

import inspect
import math
from contextlib import closing
from typing import Any

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.backend import Backend, as_host
from portnn.door import memory_named
from portnn.errors import DataError, PortnnError, ShapeError
from portnn.metrics import Sums
from portnn.training.feeds import Feed
from portnn.training.recipe import Metric, Recipe
from portnn.training.steps import gather

__all__ = ["measure"]


def measure(recipe: Recipe, feed: Feed) -> dict[str, float]:
    """The loss and the metrics of a recipe on the data of a feed: ``{"loss": ..., "<metric>": ...}``."""
    net, loss, backend = recipe.network, recipe.loss, recipe.network.backend
    dtype, totals, kept = backend.dtype(net.dtype), [], []
    adding = {name: metric for name, metric in recipe.metrics.items() if isinstance(metric, Sums)}
    sums: dict[str, list[tuple[Array, ...]]] = {name: [] for name in adding}
    whole = {name: metric for name, metric in recipe.metrics.items() if name not in adding}
    with closing(feed.epoch()) as pieces, net.trees.reading() as trees:
        for piece in pieces:
            with memory_named(backend, piece.size):
                x, target, weight = gather(piece.examples.batch(backend.asarray(piece.index)), dtype)
                prediction = net.forward(*trees, x)
            totals.append(loss.totals(prediction, target, weight))
            for name, adder in adding.items():
                sums[name].append(_all_numbers(backend, name, adder.sums(prediction, target, weight)))
            if whole:
                kept.append((prediction, target, weight))
    total, counted = _added(backend, totals)
    values = {name: _result(adder, _added(backend, sums[name])) for name, adder in adding.items()}
    if whole:
        concat = array_namespace(kept[0][0]).concat
        prediction, target = concat([part[0] for part in kept]), concat([part[1] for part in kept])
        weight = None if kept[0][2] is None else concat([part[2] for part in kept])
        for name, metric in whole.items():
            values[name] = _number(backend, name, _called(metric, prediction, target, weight))
    return {"loss": total / (counted or 1.0)} | {name: values[name] for name in recipe.metrics}


def _called(metric: Metric, prediction: Array, target: Array, weight: Array | None) -> Any:
    """What a metric says, with the weights if it has a parameter for them."""
    if weight is None or not _takes_weights(metric):
        return metric(prediction, target)
    return metric(prediction, target, sample_weight=weight)


def _takes_weights(metric: Metric) -> bool:
    try:
        return "sample_weight" in inspect.signature(metric).parameters
    except (TypeError, ValueError):  # of another language
        return False


def _added(backend: Backend, parts: list[tuple[Array, ...]]) -> list[float]:
    """Sums over batches of 0-d arrays, in float64 on the host."""
    columns = [backend.to_floats(list(column)) for column in zip(*parts, strict=True)]
    return [math.fsum(column) if all(map(math.isfinite, column)) else sum(column) for column in columns]


def _result(metric: Sums, sums: list[float]) -> float:
    try:
        return float(metric.result(*sums))
    except ZeroDivisionError:  # arrays give NaN
        return math.nan


def _all_numbers(backend: Backend, name: str, values: Any) -> tuple[Array, ...]:
    if not isinstance(values, tuple):
        raise DataError(f"metric {name!r}: its sums must be a tuple of numbers, not {_described(values)}")
    dtype = "float64" if backend.supports("float64") else "float32"
    return tuple(
        v if backend.owns(v) and v.ndim == 0 else backend.asarray(_number(backend, name, v), dtype) for v in values
    )


def _number(backend: Backend, name: str, value: Any) -> float:
    """What a metric returned: a Python number, or a 0-d array of any library."""
    try:
        ours = backend.owns(value) and backend.xp.isdtype(value.dtype, ("bool", "integral", "real floating"))
        array = value if ours else as_host(value, f"what metric {name!r} returned")
    except PortnnError as error:
        raise DataError(f"metric {name!r} must return one number, not {_described(value)}: {error}") from None
    if array.ndim != 0:
        raise ShapeError(f"metric {name!r} must return one number, not an array of shape {tuple(array.shape)}")
    return backend.to_floats([array])[0] if ours else float(array)


def _described(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
