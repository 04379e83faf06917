"""Groups of the last affine layer and the loss, for CuPy: scores, values and all their gradients in two launches.

The first one goes from row to row, and the second one sums over the rows, in an order that depends on the shapes
alone. With the affine layer and the activation before them, the gradient of that is theirs, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from portnn import losses, nn
from portnn.functional.reductions import of_all
from portnn.groups import Group

from .affine_groups import ACTIVATIONS, Activated, is_affine
from .bf16 import in_bf16
from .compile import THREADS, by_columns, dense, empty, is_array, kernel
from .sums import slabs_of

__all__ = ["GROUPS", "LOSSES", "MOST_SCORES"]

#: Losses that are structures of losses.cuh, and the field that is their smoothing.
LOSSES: dict[type, str | None] = {
    losses.SoftmaxCrossEntropy: "label_smoothing",
    losses.SigmoidCrossEntropy: None,
    losses.HalfSquaredError: None,
    losses.MeanSquaredError: None,
}

#: The widest last layer.
MOST_SCORES = 16

#: Threads of a block at most; weights that a thread holds, and values of a row that it takes, at most: it has registers
#: for no more. And as many values as gain by it.
_THREADS, _WEIGHTS, _MOST_VALUES, _VALUES = 512, 64, 16, 4

#: Blocks that keep any GPU busy.
_BLOCKS = 512

#: Columns of a block where there are few rows: neighbouring threads still read the 32 bytes that memory gives at once.
_NARROW = 8


def _values_of_thread(k: int, scores: int) -> int | None:
    """How many values of a row of k a thread takes; None where it cannot hold the weights of so many."""
    most = min(_WEIGHTS // scores, _MOST_VALUES)
    per = min(_VALUES, most)
    if k > per * _THREADS:
        per = math.ceil(k / _THREADS)
    return per if per <= most else None


class _Head:
    """The loss of ``h @ w + b``, and the gradients of all of it but the scores, which nobody needs.

    Attributes
    ----------
    value : array, shape ()
    dw, db : array
    dp, dp_sums : array or None
        The gradient of what the activation made ``h`` of, or of ``h`` where there is no activation; and its sums over
        the rows. None unless wanted.
    """

    def __init__(
        self, h: Any, params: Any, loss: Any, target: Any, weight: Any, before: Activated | None, wanted: bool
    ) -> None:
        h, w, b, target, real = dense(h), dense(params["w"]), dense(params["b"]), dense(target), h.dtype
        (n, k), scores = h.shape, w.shape[1]
        per = _values_of_thread(k, scores)
        assert per is not None
        field = LOSSES[type(loss)]
        smoothing = 0.0 if field is None else float(getattr(loss, field))
        each = loss.weights(target, weight, scores, real)
        weights = (h, h) if each is None else (dense(each), of_all(each, "sum"))
        kept = (h, b, 0.0) if before is None else (before.kept, before.b, before.parameter)
        options = {"REAL": real, "SCORES": scores, "PER": per, "LOSS": type(loss).__name__, "TARGET": target.dtype}
        options |= {"ROUNDED": int(in_bf16(h))} | ({"ACTIVATION": "None"} if before is None else before.options)
        values, dz = empty((n,), real), empty((n, scores), real)
        # Nobody writes to what is not wanted.
        dp, dp_sums = empty((n if wanted else 0, k), real), empty((k if wanted else 0,), real)
        rows = kernel("loss_groups", "head_rows", **options)
        flags = int(each is not None), int(loss.may_leave_out(weight))
        threads = 32 * math.ceil(k / (32 * per))
        given = (h, w, b, target, smoothing, *flags, *weights, int(wanted), *kept)
        rows((min(n, _BLOCKS),), (threads,), (*given, n, k, values, dz, dp))
        self.dp: Any
        self.dp_sums: Any
        self.dw, self.db, self.value = empty(w.shape, real), empty(b.shape, real), empty((), real)
        self.dp, self.dp_sums = (dp, dp_sums) if wanted else (None, None)
        slabs, scale, made = (
            slabs_of(n, k + 1),
            1.0 / n if each is None else 1.0,
            (self.dw, self.db, self.value, dp_sums),
        )
        sums = empty((slabs if slabs > 1 else 0, k + 1, scores + 1), np.dtype(np.float64))
        columns = kernel("loss_groups", "head_columns", **options)
        columns(*_by_columns(n, k + 1, slabs), (h, dz, values, dp, int(wanted), n, k, scale, sums, *made))
        if slabs > 1:
            totals = kernel("loss_groups", "head_totals", **options)
            totals(*by_columns(slabs, (k + 1) * (scores + 1), 1), (sums, slabs, int(wanted), k, scale, *made))

    @property
    def grads(self) -> dict[str, Any]:
        return {"w": self.dw, "b": self.db}


def _by_columns(n: int, m: int, slabs: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block for the sums over n rows: of few rows, a thread has fewer, so that all of them wait less."""
    if slabs > 1 or m <= _NARROW:
        return by_columns(n, m, slabs)
    return (math.ceil(m / _NARROW), 1), (_NARROW, THREADS // _NARROW)


def _takes(loss: Any, params: Any, like: Any, n: int, target: Any, weight: Any) -> bool:
    """Whether the kernels can compute the loss of an affine layer's scores for n rows, in floats as ``like``."""
    scores = params["w"].shape[1]
    if not is_array(target) or (weight is not None and not is_array(weight)):
        return False
    if weight is not None and (weight.shape != (n,) or weight.dtype != like.dtype):
        return False
    if target.shape == (n,) and isinstance(loss, losses.SoftmaxCrossEntropy):
        return bool(target.dtype.kind in "iu")
    return bool(target.shape == (n, scores) and target.dtype == like.dtype)


def _head(
    layers: Sequence[Any],
    loss: Any,
    params: Sequence[Any],
    states: Sequence[Any],
    x: Any,
    target: Any,
    weight: Any,
    *,
    train: bool,
    rngs: Sequence[Any],
    input_grad: bool,
) -> Any:
    (own,) = params
    if not is_affine(own, x) or not _takes(loss, own, x, len(x), target, weight):
        return NotImplemented
    if _values_of_thread(*own["w"].shape) is None:
        return NotImplemented
    made = _Head(x, own, loss, target, weight, None, input_grad)
    return made.value, states, lambda: (made.dp, [made.grads])


def _layer_and_head(
    layers: Sequence[Any],
    loss: Any,
    params: Sequence[Any],
    states: Sequence[Any],
    x: Any,
    target: Any,
    weight: Any,
    *,
    train: bool,
    rngs: Sequence[Any],
    input_grad: bool,
) -> Any:
    first, none, last = params
    if not is_affine(first, x) or not _follows(last, first) or not _takes(loss, last, x, len(x), target, weight):
        return NotImplemented
    before = Activated(layers[1], x, first["w"], first["b"])
    made = _Head(before.y, last, loss, target, weight, before, True)

    def backward() -> tuple[Any, list[Any]]:
        dx, grads = before.gradients(made.dp, made.dp_sums, input_grad)
        return dx, [grads, none, made.grads]

    return made.value, states, backward


def _follows(last: Any, first: Any) -> bool:
    """Whether the kernels can compute one affine layer behind another one."""
    return is_affine(last, first["w"]) and _values_of_thread(*last["w"].shape) is not None


def _is_narrow(members: Sequence[Any]) -> bool:
    *before, last, _ = members
    if last.units > MOST_SCORES:
        return False
    return not before or _values_of_thread(before[0].units, last.units) is not None


_LOSSES = tuple(LOSSES)

GROUPS = (
    Group((nn.Affine, tuple(ACTIVATIONS), nn.Affine, _LOSSES), _layer_and_head, _is_narrow),
    Group((nn.Affine, _LOSSES), _head, _is_narrow),
)
