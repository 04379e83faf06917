"""What somebody has decided on: all that a run needs besides data, and does not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeAlias

from portnn.checks import check_callable
from portnn.data.augmentation import Augment
from portnn.errors import ConfigError
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.random import Stream
from portnn.regularizers import Regularizer

__all__ = ["Metric", "Recipe"]

#: ``metric(prediction, target)``, or with ``sample_weight`` too, gives a 0-d array.
Metric: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Recipe:
    """The fields are as the parameters of `Trainer`.

    Raises
    ------
    ConfigError
        If a metric cannot be called, or is called as the loss is; or if ``on_nonfinite`` is not known.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer | FullBatch
    metrics: Mapping[str, Metric]
    augment: Augment | None
    regularizer: Regularizer | None
    order: Callable[[int, int], Any] | None
    rng: Stream
    on_nonfinite: Literal["stop", "skip"]

    def __post_init__(self) -> None:
        if "loss" in self.metrics:
            raise ConfigError('no metric can be called "loss": that is the name of the loss itself')
        for name, metric in self.metrics.items():
            check_callable(f"metric {name!r}", metric)
        if self.on_nonfinite not in ("stop", "skip"):
            raise ConfigError(f'on_nonfinite must be "stop" or "skip", not {self.on_nonfinite!r}')

    @classmethod
    def of(cls, holder: Any) -> Self:
        """What an object decides on by attributes of the names of the fields."""
        return cls(**{field.name: getattr(holder, field.name) for field in fields(cls)})
