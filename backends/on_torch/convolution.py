"""Twins of convolution for torch: its own, on the memory as it lies; see `portnn_backends.on_torch.images`."""

from __future__ import annotations

from typing import Any

import torch

from portnn.functional.windows import Axis, extend
from portnn.kernels import Kernel

from .images import channels_first, channels_last

__all__ = ["KERNELS"]


def _oihw(w: Any) -> Any:
    return w.permute(3, 2, 0, 1)


def _hwio(w: Any) -> Any:
    return w.permute(2, 3, 1, 0)


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    if rows.kernel == columns.kernel == 1 and (rows.stride, columns.stride) != (1, 1):
        # On the CPU, torch 2.13 now and then gets the gradient of such a kernel wrong: in 59 of 3,000 runs, for
        # (2, 9, 12, 3) and stride 3. With the channels first it does not.
        return NotImplemented
    even = all(before == after for before, after in (rows.ends, columns.ends))
    pads = (rows.before, columns.before) if even else (0, 0)
    ends = ((0, 0), (0, 0)) if even else (rows.ends, columns.ends)
    steps = (rows.stride, columns.stride), pads, (rows.dilation, columns.dilation)
    given, kernel = channels_first(extend(x, *ends)), _oihw(w).contiguous()  # torch refuses others, for a single output
    y = channels_last(torch.conv2d(given, kernel, b, *steps, groups))

    def backward(dy: Any, input_grad: bool = True) -> Any:
        wanted = [input_grad, True, False]  # the sums of oneDNN, for the biases, are less exact than torch's own
        dx, dw, _ = torch.ops.aten.convolution_backward(
            channels_first(dy), given, kernel, None, *steps, False, [0, 0], groups, wanted
        )
        dx = extend(channels_last(dx), *((-p, -q) for p, q in ends)) if input_grad else None
        return dx, _hwio(dw), dy.sum(dim=(0, 1, 2))

    return y, backward


def _conv_transpose2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    # The whole image, of which padding cuts the edges off, and to which rows that no window reaches are added.
    cut = tuple((-axis.before, axis.unused - axis.after) for axis in (rows, columns))
    steps, dilations = (rows.stride, columns.stride), (rows.dilation, columns.dilation)
    given, kernel = channels_first(x), _oihw(w).contiguous()  # torch refuses others, if they have one channel
    whole = torch.conv_transpose2d(given, kernel, None, steps, (0, 0), (0, 0), groups, dilations)
    y = extend(channels_last(whole), *cut) + b

    def backward(dy: Any, input_grad: bool = True) -> Any:
        slope = channels_first(extend(dy, *((-p, -q) for p, q in cut)))
        dx, dw, _ = torch.ops.aten.convolution_backward(
            slope, given, kernel, None, steps, (0, 0), dilations, True, (0, 0), groups, [input_grad, True, False]
        )
        return (channels_last(dx) if input_grad else None), _hwio(dw), dy.sum(dim=(0, 1, 2))

    return y, backward


KERNELS = {"conv2d": Kernel(_conv2d), "conv_transpose2d": Kernel(_conv_transpose2d)}
