"""scikit-learn's log loss: probabilities are kept from 0 and 1, and the gradient is that of what is not kept.

So an example costs at most -log(eps), 36 in float64; and the curve of the losses, the rules for the end and the line
searches of L-BFGS, which look at it, are those of scikit-learn also where outputs are large, as on data that are not
scaled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from portnn import functional, losses
from portnn._typing import Array, Backward

__all__ = ["ClippedSigmoidCrossEntropy", "ClippedSoftmaxCrossEntropy"]


def _clipped_softmax(logits: Array, target: Array, label_smoothing: float = 0.0) -> tuple[Array, Backward]:
    eps = float(array_namespace(logits).finfo(logits.dtype).eps)
    values, backward = functional.softmax_cross_entropy(logits, target, label_smoothing)
    # The target is one class, and the logarithm of its probability kept in [eps, 1 - eps] is this.
    return _kept(values, -math.log1p(-eps), -math.log(eps)), backward


def _clipped_sigmoid(logits: Array, target: Array) -> tuple[Array, Backward]:
    xp = array_namespace(logits)
    eps = float(xp.finfo(logits.dtype).eps)
    probability, _ = functional.sigmoid(logits)
    # By 1 - p, rounded as it is: for large logits scikit-learn's loss is one of few values, and so is this.
    kept = _kept(probability, eps, 1.0 - eps)
    values = -xp.sum(target * xp.log(kept) + (1.0 - target) * xp.log(1.0 - kept), axis=1)

    def backward(dvalues: Array) -> Array:
        return (probability - target) * dvalues[:, None]

    return values, backward


def _kept(values: Array, low: float, high: float) -> Array:
    """Values in [low, high]; NaN stays NaN. As ``clip`` of array_api_compat, which takes ten times as long."""
    xp = array_namespace(values)
    return xp.minimum(xp.maximum(values, low), high)


@dataclass(frozen=True)
class ClippedSoftmaxCrossEntropy(losses.SoftmaxCrossEntropy):
    """Cross-entropy of softmax(logits) for class numbers, of probabilities in [eps, 1 - eps]."""

    function = staticmethod(_clipped_softmax)


@dataclass(frozen=True)
class ClippedSigmoidCrossEntropy(losses.SigmoidCrossEntropy):
    """Cross-entropy of sigmoid(logits) for columns of 0 and 1, of probabilities in [eps, 1 - eps]."""

    function = staticmethod(_clipped_sigmoid)
