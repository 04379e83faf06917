"""Losses: ``value, backward = loss(prediction, target)``, the mean over the batch, and ``backward() -> dprediction``.

A loss object wraps one function of `portnn.functional`, which gives a value for each example.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace, device

from portnn import functional
from portnn._typing import Array, Backward
from portnn.checks import TargetKind

__all__ = ["HalfSquaredError", "Loss", "SigmoidCrossEntropy", "SoftmaxCrossEntropy"]


class Loss(ABC):
    """The mean over the batch of a function of prediction and target.

    Attributes
    ----------
    function : callable
        ``function(prediction, target) -> (values of shape (n,), backward)``: the loss of each example.
    targets : {"classes", "probabilities", "numbers"}
        What `portnn.checks.check_target` lets through.
    """

    function: ClassVar[Any]
    targets: ClassVar[TargetKind]

    def __call__(self, prediction: Array, target: Array) -> tuple[Array, Backward]:
        """The mean loss, a 0-d array, and its pullback ``backward(dloss=1.0) -> dprediction``."""
        xp = array_namespace(prediction)
        values, pullback = self.function(prediction, target)
        n = values.shape[0]

        def backward(dloss: float | Array = 1.0) -> Array:
            share = xp.full((n,), 1.0 / n, dtype=values.dtype, device=device(values))
            return pullback(share * dloss)

        return xp.mean(values), backward


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(logits), for classification: `functional.softmax_cross_entropy`.

    Targets are class numbers, shape (n,), or rows over the classes, shape (n, k), one-hot or soft.

    Examples
    --------
    >>> import numpy as np
    >>> value, backward = SoftmaxCrossEntropy()(np.zeros((4, 10)), np.arange(4))
    >>> round(float(value), 6)  # log(10)
    2.302585
    """

    function = staticmethod(functional.softmax_cross_entropy)
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
