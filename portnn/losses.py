"""Losses: ``value, backward = loss(prediction, target)``, the mean over the batch, and ``backward() -> dprediction``.

A loss object wraps one function of `portnn.functional`, which gives a value for each example, and weighs the examples.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from array_api_compat import array_namespace, device

from portnn import functional
from portnn._typing import Array, Backward, DType, Shape
from portnn.checks import check_number, hold_number
from portnn.door import TargetKind
from portnn.errors import ConfigError, ShapeError
from portnn.functional.losses import class_numbers
from portnn.functional.reductions import along_last, of_all

__all__ = [
    "HalfPoissonDeviance",
    "HalfSquaredError",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "NegativeLogLikelihood",
    "Poisson",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
]


@dataclass(frozen=True)
class Loss(ABC):
    """The weighted mean over the batch of a function of prediction and target.

    The mean is over the examples: ``sum_i w_i loss_i / sum_i w_i``, without weights ``sum_i loss_i / n``, so a batch of
    twice as many equal examples has the same loss and the same gradient. What one example costs, ``loss_i``, is the
    sum over its outputs for some losses, and the mean over them for others; each says which.

    Parameters
    ----------
    class_weight : sequence of float, optional
        A weight >= 0 for each column of the target, keyword only: an example weighs ``sum_j t_j class_weight_j``, which
        is the weight of its class. For a single column of zeros and ones give two, of the zeros and of the ones.

    Attributes
    ----------
    function : callable
        ``function(prediction, target, **fields) -> (values of shape (n,), backward)``: the loss of each example. Fields
        are those of the dataclass but ``class_weight``.
    targets : {"classes", "probabilities", "numbers", "counts"}
        What ``portnn.door.check_target`` lets through.
    """

    class_weight: tuple[float, ...] | None = field(default=None, kw_only=True)

    function: ClassVar[Any]
    targets: ClassVar[TargetKind]

    def __post_init__(self) -> None:
        if self.class_weight is not None:
            if isinstance(self.class_weight, Mapping) or not isinstance(self.class_weight, Iterable):
                raise ConfigError(f"class_weight is a list with a weight for each class, not {self.class_weight!r}")
            weights = tuple(check_number("each class_weight", weight, 0) for weight in self.class_weight)
            object.__setattr__(self, "class_weight", weights)

    def __call__(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> tuple[Array, Backward]:
        """The mean loss, a 0-d array, and its pullback ``backward(dloss=1.0) -> dprediction``.

        ``sample_weight``, shape (n,), weighs the examples: ``sum w_i loss_i / sum w_i``. An example of weight 0, its
        own or that of its class, is not there: neither value nor gradient depends on it, be its loss infinite or NaN.
        Where nothing counts, both are 0.
        """
        values, pullback, weight = self._by_example(prediction, target, sample_weight)
        xp = array_namespace(values)
        if weight is None:
            each = 1.0 / max(values.shape[0], 1)
            share = xp.full_like(values, each)
        else:
            total = of_all(weight, "sum")
            share = weight / xp.where(total > 0, total, 1.0)  # a batch in which nothing counts costs nothing

        def backward(dloss: float | Array = 1.0) -> Array:
            shape = getattr(dloss, "shape", ())
            if shape != ():
                raise ShapeError(f"dloss is one number, as the loss is, not of shape {tuple(shape)}")
            dprediction = pullback(share * dloss)
            if weight is None or not self.may_leave_out(sample_weight):
                return dprediction
            gone = xp.reshape(weight == 0, (weight.shape[0], *[1] * (dprediction.ndim - 1)))
            return xp.where(gone, 0.0, dprediction)  # 0 times infinity is NaN

        return (of_all(values, "sum") * each if weight is None else _weighted_sum(share, values)), backward

    def totals(self, prediction: Array, target: Array, sample_weight: Array | None = None) -> tuple[Array, Array]:
        """The weighted sum over the batch, and the sum of the weights: 0-d arrays that can be added up over batches."""
        values, _, weight = self._by_example(prediction, target, sample_weight)
        xp = array_namespace(values)
        if weight is None:
            return of_all(values, "sum"), of_all(xp.ones_like(values), "sum")
        return _weighted_sum(weight, values), of_all(weight, "sum")

    def _by_example(
        self, prediction: Array, target: Array, sample_weight: Array | None
    ) -> tuple[Array, Backward, Array | None]:
        """Loss, pullback and weight of each example; None if all weigh the same."""
        fields = {name: value for name, value in vars(self).items() if name != "class_weight"}
        values, pullback = self.function(prediction, target, **fields)
        n = prediction.shape[:1]
        if values.shape != n:
            raise ShapeError(self._not_by_example("loss", values, n))
        if sample_weight is not None and sample_weight.shape != n:
            raise ShapeError(self._not_by_example("sample_weight", sample_weight, n))
        return values, pullback, self.weights(target, sample_weight, prediction.shape[-1], prediction.dtype)

    def _not_by_example(self, what: str, given: Array, n: Shape) -> str:
        return f"{type(self).__name__}'s {what} is one number an example, {tuple(n)}, not {tuple(given.shape)}"

    def may_leave_out(self, sample_weight: Array | None) -> bool:
        """Whether the weights, whose values are not looked at, may be 0 for an example."""
        return sample_weight is not None or (self.class_weight is not None and 0.0 in self.class_weight)

    def weights(self, target: Array, sample_weight: Array | None, classes: int, dtype: DType) -> Array | None:
        """What each example counts: the weight of its class times its own, shape (n,); None if all count the same.

        Parameters
        ----------
        target : array, shape (n,) or (n, ...)
        sample_weight : array, shape (n,), or None
        classes : int
            Length of the last axis of the predictions.
        dtype : dtype
            Of the predictions.
        """
        if self.class_weight is None:
            return sample_weight
        xp = array_namespace(target)
        columns, given = target.shape[-1] if target.ndim > 1 else classes, len(self.class_weight)
        if self.targets == "probabilities" and columns > 1:
            raise ShapeError("class_weight is for one of several classes; these outputs are independent of each other")
        if given != columns and (columns, given) != (1, 2):
            raise ShapeError(f"class_weight has {given} weights, for {columns} classes")
        weights = xp.asarray(self.class_weight, dtype=dtype, device=device(target))
        if target.ndim == 1:
            number, known = class_numbers(target, columns)
            own = xp.where(known, functional.take_rows(weights, xp.where(known, number, 0), dtype), math.nan)
        elif (columns, given) == (1, 2):
            own = weights[0] + target[:, 0] * (weights[1] - weights[0])
        else:
            rows = xp.reshape(target * weights, (target.shape[0], math.prod(target.shape[1:])))
            own = along_last(rows, "sum")[:, 0]
        return own if sample_weight is None else own * sample_weight


def _weighted_sum(weight: Array, values: Array) -> Array:
    xp = array_namespace(values)
    # What does not count may be infinite.
    return of_all(weight * xp.where(weight == 0, 0.0, values), "sum")


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(logits), for classification: `functional.softmax_cross_entropy`.

    Targets are class numbers, shape (n,), or rows over the classes, shape (n, k), one-hot or soft.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        Share of the target that is spread over all classes, in [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> value, backward = SoftmaxCrossEntropy()(np.zeros((4, 10)), np.arange(4))
    >>> round(float(value), 6)  # log(10)
    2.302585
    """

    label_smoothing: float = 0.0

    function = staticmethod(functional.softmax_cross_entropy)
    targets = "classes"

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "label_smoothing", 0, 1)


@dataclass(frozen=True)
class NegativeLogLikelihood(Loss):
    """``-log(p + eps)`` of the right class, for a network that ends in a softmax: `functional.negative_log_likelihood`.

    Targets as of `SoftmaxCrossEntropy`.

    Parameters
    ----------
    eps : float, default 1e-7
        Keeps the logarithm of 0 away; >= 0.
    """

    eps: float = 1e-7

    function = staticmethod(functional.negative_log_likelihood)
    targets = "classes"

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "eps", 0)


@dataclass(frozen=True)
class KLDivergence(Loss):
    """Divergence of softmax(logits) from rows that are distributions: `functional.kl_divergence`."""

    function = staticmethod(functional.kl_divergence)
    targets = "classes"


@dataclass(frozen=True)
class SigmoidCrossEntropy(Loss):
    """Binary cross-entropy of sigmoid(logits), summed over the outputs: `functional.sigmoid_cross_entropy`.

    Targets are numbers in [0, 1] of the shape of the logits.
    """

    function = staticmethod(functional.sigmoid_cross_entropy)
    targets = "probabilities"


@dataclass(frozen=True)
class HalfSquaredError(Loss):
    """``1/(2n) sum_i |y_i - t_i|^2``: summed over the outputs, mean over the batch: `functional.half_squared_error`.

    Targets are numbers of the shape of the predictions.
    """

    function = staticmethod(functional.half_squared_error)
    targets = "numbers"


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of ``(y - t)^2`` over batch and outputs: `functional.squared_error`."""

    function = staticmethod(functional.squared_error)
    targets = "numbers"


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean of ``|y - t|`` over batch and outputs: `functional.absolute_error`."""

    function = staticmethod(functional.absolute_error)
    targets = "numbers"


@dataclass(frozen=True)
class Huber(Loss):
    """Squared near the target, absolute far from it; mean over batch and outputs: `functional.huber`.

    Parameters
    ----------
    delta : float, default 1.0
        Where the one turns into the other, > 0.
    """

    delta: float = 1.0

    function = staticmethod(functional.huber)
    targets = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "delta", 0, math.inf, open_low=True)


@dataclass(frozen=True)
class Poisson(Loss):
    """For counts, from the logarithm of their rate; mean over batch and outputs: `functional.poisson`.

    Targets are numbers >= 0 of the shape of the predictions.
    """

    function = staticmethod(functional.poisson)
    targets = "counts"


@dataclass(frozen=True)
class HalfPoissonDeviance(Loss):
    """For counts, from the logarithm of their rate; summed over the outputs: `functional.half_poisson_deviance`.

    Targets are numbers >= 0 of the shape of the predictions.
    """

    function = staticmethod(functional.half_poisson_deviance)
    targets = "counts"
