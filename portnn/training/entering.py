"""How examples come in: checked, on the device, and in batches."""

from __future__ import annotations

import functools
from typing import Any

from portnn._typing import Array
from portnn.checks import check_batch_size
from portnn.door import (
    check_batch_weight,
    check_finite,
    check_lengths,
    check_rows,
    check_sample_weight,
    check_target,
    enter,
    enter_target,
)
from portnn.errors import ConfigError
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.scale import kind_of_input, warn_of_other_scale
from portnn.training.batch import Examples
from portnn.training.feeds import Mapped, Resident, fits, is_on_disk

__all__ = ["enter_examples", "feed_of", "triple"]


def feed_of(
    network: Network,
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None,
    size: int,
    prefix: str = "",
    *,
    training: bool = False,
    needs_all: bool = False,
) -> Resident | Mapped:
    """Where the batches of some data come from: the device, or the host or disk where they do not fit.

    Parameters
    ----------
    network : Network
    loss : Loss
    x, y, weight : arrays
        As in `Trainer.fit`.
    size : int
        Of a batch.
    prefix : str
        Of the names of the arrays in sentences.
    training : bool
        Whether the network is trained on them: then it notes their scale, and is compared with it else.
    needs_all : bool
        Whether all of them are needed at once.
    """
    names = {f"{prefix}x": x, f"{prefix}y": y, f"{prefix}sample_weight": weight}
    if not needs_all and (is_on_disk(x, y) or not fits(network.backend, network.dtype, names)):
        door = functools.partial(enter_examples, network, loss, prefix=prefix, training=training)
        return Mapped(x, y, weight, size, network, door, prefix)
    known = network.trained_on is not None
    data = enter_examples(network, loss, x, y, weight, prefix=prefix, training=training)
    if data.weight is not None:
        check_sample_weight(data.weight, data.x, network.backend, f"{prefix}sample_weight")
    if training and known:  # all that there is, which tells more than the first batch of an earlier run
        network.trained_on = kind_of_input(data.x)
    return Resident(data, check_batch_size(size, data.x.shape[0]), network.backend)


def enter_examples(
    network: Network,
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None = None,
    *,
    prefix: str = "",
    training: bool = False,
) -> Examples:
    """Check some data, and bring them to the device; arguments as of `feed_of`."""
    backend, kind = network.backend, loss.targets
    if kind in ("numbers", "counts") and loss.class_weight is not None:
        kind = "probabilities"  # columns of classes: only for those do class weights mean anything
    x_name, y_name = f"{prefix}x", f"{prefix}y"
    x = enter(x, backend, network.dtype, x_name)
    y = enter_target(y, backend, network.dtype, kind, y_name)
    check_rows(x, network.input_shape, x_name)
    check_lengths(x, y, x_name, y_name)
    check_finite(x, backend, x_name)
    check_target(y, kind, network.output_shape, backend, y_name)
    if weight is not None:
        weight = enter_target(weight, backend, network.dtype, "numbers", f"{prefix}sample_weight")
        check_batch_weight(weight, x, backend, f"{prefix}sample_weight")
    if training and network.trained_on is None:
        network.trained_on = kind_of_input(x)
    else:
        warn_of_other_scale(x, network.trained_on, x_name)
    return Examples(x, y, weight)


def triple(data: Any) -> tuple[Any, Any, Any]:
    """Validation data as (x, y, sample_weight or None); ConfigError if they are anything else."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ConfigError("validation_data must be a pair (x, y), or (x, y, sample_weight)")
    return data[0], data[1], data[2] if len(data) == 3 else None
