"""Twins of pooling for torch: its own, on the memory as it lies; see `portnn_backends.on_torch.images`."""

from __future__ import annotations

from typing import Any

import torch

from portnn.functional.windows import Axis, extend
from portnn.kernels import Kernel

from .images import channels_first, channels_last

__all__ = ["KERNELS"]


def _max_pool2d(x: Any, *, rows: Axis, columns: Axis) -> Any:
    known = all(axis.before == axis.after <= axis.kernel // 2 for axis in (rows, columns))
    ends = ((0, 0), (0, 0)) if known else (rows.ends, columns.ends)
    pads = (rows.before, columns.before) if known else (0, 0)
    window = (rows.kernel, columns.kernel), (rows.stride, columns.stride), pads, (1, 1), False
    if known:
        given = channels_first(x)
        y, index = torch.ops.aten.max_pool2d_with_indices(given, *window)
    else:
        # Minus infinity in the image is more than what padding adds, so that padding never takes the gradient.
        raised = torch.where(x == -torch.inf, torch.finfo(x.dtype).min, x)
        given = channels_first(extend(raised, *ends, value=-torch.inf))
        _, index = torch.ops.aten.max_pool2d_with_indices(given, *window)
        values = channels_first(extend(x, *ends)).flatten(2)
        y = values.gather(2, index.flatten(2)).unflatten(2, index.shape[2:])

    def backward(dy: Any) -> Any:
        dx = torch.ops.aten.max_pool2d_with_indices_backward(channels_first(dy), given, *window, index)
        return extend(channels_last(dx), *((-p, -q) for p, q in ends))

    return channels_last(y), backward


KERNELS = {"max_pool2d": Kernel(_max_pool2d)}
