"""Loss and metrics of a network on some data, at inference."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from portnn._typing import Array
from portnn.checks import memory_named
from portnn.errors import ShapeError
from portnn.training.feeds import Feed
from portnn.training.steps import gather

if TYPE_CHECKING:
    from portnn.training.trainer import Trainer

__all__ = ["measure"]

#: ``metric(prediction, target)`` gives a 0-d array.
Metric: TypeAlias = Callable[[Array, Array], Array]


def measure(trainer: Trainer, feed: Feed) -> dict[str, float]:
    """The loss and the trainer's metrics on the data of a feed: ``{"loss": ..., "<metric>": ...}``."""
    net, loss, backend = trainer.network, trainer.loss, trainer.network.backend
    dtype = backend.dtype(net.dtype)
    totals, weights, sizes = [], [], []
    values: dict[str, list[Any]] = {name: [] for name in trainer.metrics}
    with closing(feed.epoch()) as pieces, net.trees.reading() as trees:
        for data, index, count in pieces:
            with memory_named(backend, count):
                examples, target, _ = gather((*data, index), dtype)
                prediction = net.layer.apply(*trees, examples)
            sizes.append(count)
            total, weight = loss.totals(prediction, target)
            totals.append(total)
            weights.append(weight)
            for name, metric in trainer.metrics.items():
                values[name].append(_scalar(trainer, name, metric(prediction, target)))
    n = sum(sizes)
    columns = {name: backend.to_floats(scalars) for name, scalars in values.items()}
    means = {name: sum(v * k for v, k in zip(column, sizes, strict=True)) / n for name, column in columns.items()}
    return {"loss": sum(backend.to_floats(totals)) / (sum(backend.to_floats(weights)) or 1.0)} | means


def _scalar(trainer: Trainer, name: str, value: Any) -> Array:
    """What a metric returned, as a 0-d array of the backend; a Python or NumPy number will do."""
    backend = trainer.network.backend
    array = value if backend.owns(value) else backend.asarray(value, trainer.network.dtype)
    if array.ndim != 0:
        raise ShapeError(f"metric {name!r} must return one number, not an array of shape {tuple(array.shape)}")
    return array
