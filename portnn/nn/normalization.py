"""Batch and layer normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from portnn import functional
from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import hold_number
from portnn.errors import ShapeError
from portnn.functional.normalization import batch_norm_with_moments
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["BatchNorm", "LayerNorm"]


def _scale_and_shift(rng: Stream, input_shape: Shape, name: str) -> dict[str, Array]:
    if not input_shape:
        raise ShapeError(f"{name} normalises along the last axis; these examples are single numbers")
    return {"gamma": rng.full(input_shape[-1:], 1.0), "beta": rng.full(input_shape[-1:], 0.0)}


def _named(pullback: Backward) -> Backward:
    """A layer's backward from the pullback of a function with scale and shift."""

    def backward(dy: Array, input_grad: bool = True) -> tuple[Array, Tree]:
        dx, dgamma, dbeta = pullback(dy)
        return dx, {"gamma": dgamma, "beta": dbeta}

    return backward


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Every channel with mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe and Szegedy 2015).

    The channel is the last axis: (n, k), or (n, ..., k) with statistics over all axes but the last. At inference the
    running statistics take the place of the batch's: ``new = decay old + (1 - decay) batch``, from mean 0 and
    variance 1; an empty batch leaves them as they are. Both the batch and the running variance are the biased ones
    (torch keeps the unbiased one, and calls ``1 - decay`` momentum).

    Parameters
    ----------
    decay : float, default 0.9
        Share of the old running statistics that is kept, in [0, 1).
    eps : float, default 1e-5
        Added to the variance, > 0.

    Raises
    ------
    ShapeError
        In training, if a channel has a single value in the batch: its variance would say nothing.
    """

    decay: float = 0.9
    eps: float = 1e-5

    def __post_init__(self) -> None:
        hold_number(self, "decay", 0, 1)
        hold_number(self, "eps", 0, open_low=True)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        params = _scale_and_shift(rng, input_shape, "BatchNorm")
        state = {"mean": rng.full(input_shape[-1:], 0.0), "var": rng.full(input_shape[-1:], 1.0)}
        return params, state, input_shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        if train:
            return self._train(params, state, x)
        y, pullback = functional.batch_norm_inference(
            x, params["gamma"], params["beta"], state["mean"], state["var"], self.eps
        )
        return y, state, _named(pullback)

    def _train(self, params: Tree, state: Tree, x: Array) -> tuple[Array, Tree, Backward]:
        count = math.prod(x.shape[:-1])
        if count == 1:
            raise ShapeError(
                "BatchNorm cannot train on a batch of one value a channel: use larger batches, or LayerNorm"
            )
        (y, mean, var), pullback = batch_norm_with_moments(x, params["gamma"], params["beta"], self.eps)
        if count == 0:  # nothing has no mean
            return y, state, _named(pullback)
        batch = {"mean": mean, "var": var}
        for key, now in batch.items():
            if state[key].shape != now.shape:
                raise ShapeError(f"BatchNorm's state {key} has shape {tuple(state[key].shape)}, not {tuple(now.shape)}")
        new_state = {key: self.decay * state[key] + (1.0 - self.decay) * batch[key] for key in batch}
        return y, new_state, _named(pullback)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Every example with mean 0 and variance 1 along the last axis, then scaled and shifted (Ba et al. 2016).

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance, > 0.
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        hold_number(self, "eps", 0, open_low=True)

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return _scale_and_shift(rng, input_shape, "LayerNorm"), (), input_shape

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, pullback = functional.layer_norm(x, params["gamma"], params["beta"], self.eps)

        return y, state, _named(pullback)
