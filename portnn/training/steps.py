"""What is computed for one batch: pure functions of arrays, which a backend may compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, DType, Tree
from portnn.backend import Backend
from portnn.data.augmentation import Augment
from portnn.errors import ShapeError
from portnn.functional import take_rows
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import Optimizer
from portnn.random import Stream
from portnn.regularizers import Regularizer

__all__ = ["Batch", "Data", "adding_step", "augmented", "gather", "skipping_step", "training_step"]

#: Examples, targets and weights (or None) on the device.
Data: TypeAlias = tuple[Array, Array, Array | None]

#: All data, and the numbers of the examples that make up a batch.
Batch: TypeAlias = tuple[Array, Array, Array | None, Array]


def gather(batch: Batch, dtype: DType) -> Data:
    """The examples of a batch as floats, their targets, and their weights."""
    x, y, weight, index = batch
    take = array_namespace(y).take
    return take_rows(x, index, dtype), take(y, index, axis=0), None if weight is None else take(weight, index, axis=0)


def training_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    augment: Augment | None,
    regularizer: Regularizer | None,
    rng: Stream,
) -> Callable[..., Any]:
    """The whole step as a pure function, which a backend may compile; its first three arguments are given up."""
    layer, dtype, noise = network.layer, network.backend.dtype(network.dtype), rng.child("noise")

    def step(
        params: Tree, state: Tree, slots: tuple[Tree, ...], batch: Batch, hyper: Any
    ) -> tuple[Tree, Tree, tuple[Tree, ...], Array]:
        rows, target, weight = gather(batch, dtype)
        rows = augmented(augment, rows, rng, hyper["step"])
        prediction, state, backward = layer.forward(params, state, rows, train=True, rng=noise.at(hyper["step"]))
        value, loss_backward = loss(prediction, target, weight)
        _, grads = backward(loss_backward(), input_grad=False)
        if regularizer is not None:
            penalty, grads = regularizer(params, grads, _share(rows, weight))
            value = value + penalty
        params, slots = optimizer.update(params, grads, slots, hyper["optimizer"])
        return params, state, slots, value

    return step


def adding_step(network: Network, loss: Loss, noise: Stream) -> Callable[..., Any]:
    """Adds the loss and the gradients of a batch to the sums so far; its first three arguments are given up."""
    layer, dtype = network.layer, network.backend.dtype(network.dtype)

    def add(
        total: Tree, sums: tuple[Array, Array], state: Tree, params: Tree, batch: Batch, number: int
    ) -> tuple[Tree, tuple[Array, Array], Tree]:
        rows, target, weight = gather(batch, dtype)
        prediction, state, backward = layer.forward(params, state, rows, train=True, rng=noise.at(number))
        value, loss_backward = loss(prediction, target, weight)
        _, here = loss.totals(prediction, target, weight)
        _, grads = backward(loss_backward(here), input_grad=False)
        return tree.map(lambda t, g: t + g, total, grads), (sums[0] + value * here, sums[1] + here), state

    return add


def skipping_step(step: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """A step that changes nothing, and gives NaN for its loss, where its loss or anything that it makes is not finite.

    This is decided on the device: the host does not wait.
    """

    def skipping(
        params: Tree, state: Tree, slots: tuple[Tree, ...], batch: Batch, hyper: Any
    ) -> tuple[Tree, Tree, tuple[Tree, ...], Array]:
        old = params, state, slots
        *new, loss = step(*tree.map(backend.copy, old), batch, hyper)  # copied: the step may overwrite what it is given
        xp = array_namespace(loss)
        fine = xp.isfinite(loss)
        for leaf in tree.leaves(tuple(new)):
            fine = fine & xp.all(xp.isfinite(leaf))
        params, state, slots = tree.map(lambda a, b: xp.where(fine, a, b), tuple(new), old)
        return params, state, slots, xp.where(fine, loss, math.nan)

    return skipping


def augmented(augment: Augment | None, rows: Array, rng: Stream, step: int) -> Array:
    """What an augmentation makes of the batch of a step; ShapeError where it does not keep shape and dtype."""
    if augment is None:
        return rows
    made = augment(rows, rng.child("augment").at(step))
    if made.shape != rows.shape or made.dtype != rows.dtype:
        raise ShapeError(
            f"augment must keep shape and dtype: of {tuple(rows.shape)}, {rows.dtype}, it made {tuple(made.shape)}, "
            f"{made.dtype}"
        )
    return made


def _share(rows: Array, weight: Array | None) -> Any:
    """What one example of weight 1 has of a penalty that all examples of a batch share."""
    if weight is None:
        return 1.0 / rows.shape[0]
    xp = array_namespace(weight)
    total = xp.sum(weight)
    return 1.0 / xp.where(total > 0, total, 1.0)
