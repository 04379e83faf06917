"""What is computed for one batch: pure functions of arrays, which a backend may compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from portnn import tree
from portnn._deprecated import moved
from portnn._typing import Array, DType, Tree
from portnn.backend import Backend
from portnn.data.augmentation import Augment
from portnn.errors import ShapeError
from portnn.functional import take_rows
from portnn.functional.reductions import of_all
from portnn.losses import Loss
from portnn.nn.grouping import grouped, joined
from portnn.nn.network import Network
from portnn.optim import Optimizer
from portnn.random import Stream
from portnn.regularizers import Regularizer
from portnn.training.batch import Batch, Examples

__all__ = ["adding_step", "augmented", "gather", "gather_counted", "skipping_step", "training_step"]

if not TYPE_CHECKING:
    __getattr__ = moved(__name__, {"Data": "portnn.training.batch:Examples"}, since="0.2", until="0.4")


def gather(batch: Batch, dtype: DType) -> Examples:
    """The examples of a batch as floats, their targets, and their weights."""
    x, y, weight, index = batch
    take = array_namespace(y).take
    weight = None if weight is None else take(weight, index, axis=0)
    return Examples(take_rows(x, index, dtype), take(y, index, axis=0), weight)


def gather_counted(network: Network, loss: Loss, batch: Batch) -> tuple[Array, Array, Array | None, Array | None]:
    """`gather`, and what each example counts, by its own weight and that of its class; None if all count the same.

    In the place of an example of weight 0 stands another one of the batch, which counts: its own activations may
    overflow, and 0 times infinity is NaN in the gradient of a layer. So layers that look at a whole batch, such as
    BatchNorm, do not see it either; they see the other one once more.
    """
    x, y, weight, index = batch
    xp, dtype = array_namespace(y), network.backend.dtype(network.dtype)
    target, weight = xp.take(y, index, axis=0), None if weight is None else xp.take(weight, index, axis=0)
    each = loss.weights(target, weight, (network.output_shape or (1,))[-1], dtype)
    if each is not None and loss.may_leave_out(weight):
        counted = xp.where(each > 0, index, -1)
        latest = of_all(counted, "max")
        index = xp.where((counted < 0) & (latest >= 0), latest, index)
    return take_rows(x, index, dtype), target, weight, each


def _if_any_counts(
    loss: Loss, weight: Array | None, each: Array | None, grads: Tree, new_state: Tree, state: Tree
) -> tuple[Tree, Tree]:
    """Gradients and new state; zeros and the old state where nothing in the batch counts."""
    if each is None or not loss.may_leave_out(weight):
        return grads, new_state
    xp = array_namespace(each)
    there = xp.any(each > 0)
    return (
        tree.map(lambda g: xp.where(there, g, 0.0), grads),
        tree.map(lambda new, old: xp.where(there, new, old), new_state, state),
    )


def training_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    augment: Augment | None,
    regularizer: Regularizer | None,
    rng: Stream,
) -> Callable[..., Any]:
    """The whole step as a pure function, which a backend may compile; its first three arguments are given up."""
    forward, noise = joined(network.layer, loss, network.backend.groups()), rng.child("noise")

    def step(
        params: Tree, state: Tree, slots: tuple[Tree, ...], batch: Batch, hyper: Any
    ) -> tuple[Tree, Tree, tuple[Tree, ...], Array]:
        rows, target, weight, each = gather_counted(network, loss, batch)
        rows = augmented(augment, rows, rng, hyper["step"])
        value, new_state, backward = forward(params, state, rows, target, weight, rng=noise.at(hyper["step"]))
        grads = backward()
        grads, state = _if_any_counts(loss, weight, each, grads, new_state, state)
        total, usual = _totals(rows, each, hyper.get("usual_weight", 1.0))
        if regularizer is not None and optimizer.role != "collect":
            penalty, grads = regularizer(params, grads, 1.0 / usual)
            value = value + penalty
        numbers = hyper["optimizer"] | ({} if optimizer.role == "step" else {"weight": (total, usual)})
        params, slots = optimizer.update(params, grads, slots, numbers)
        return params, state, slots, value

    return step


def adding_step(network: Network, loss: Loss, noise: Stream) -> Callable[..., Any]:
    """A step that changes no parameters: its slots are the sums of gradients, losses and weights of the batches so far.

    Its first three arguments are given up.
    """
    layer = grouped(network.layer, network.backend.groups())

    def add(
        params: Tree, state: Tree, sums: tuple[Tree, Array, Array], batch: Batch, hyper: Any
    ) -> tuple[Tree, Tree, tuple[Tree, Array, Array], Array]:
        gradient, losses, weights = sums
        rows, target, weight, each = gather_counted(network, loss, batch)
        rng = noise.at(hyper["step"])
        prediction, new_state, backward = layer.forward(params, state, rows, train=True, rng=rng)
        value, loss_backward = loss(prediction, target, weight)
        _, here = loss.totals(prediction, target, weight)
        _, grads = backward(loss_backward(here), input_grad=False)
        grads, state = _if_any_counts(loss, weight, each, grads, new_state, state)
        gradient = tree.map(lambda t, g: t + g, gradient, grads)
        return params, state, (gradient, losses + value * here, weights + here), value

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


def _totals(rows: Array, each: Array | None, usual_weight: Any) -> tuple[Any, Any]:
    """What the examples of a batch weigh together; and that again, or what as many weigh usually if it is 0.

    A penalty is divided by the latter: a batch in which nothing counts has the share of any other.
    """
    n = float(rows.shape[0])
    if each is None:
        return n, n
    xp = array_namespace(each)
    total = of_all(each, "sum")
    return total, xp.where(total > 0, total, n * usual_weight)
