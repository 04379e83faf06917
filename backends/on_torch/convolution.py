"""Twins of convolution for torch: its own, on the memory as it lies; see `portnn_backends.on_torch.images`.

In precision bf16 they take float32 arrays whose numbers are rounded to bfloat16: convolutions of bfloat16 arrays would
round their sums, too. On CUDA these numbers may pass through TF32, which has 3 bits more, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from portnn.functional.windows import Axis, extend
from portnn.kernels import Kernel

from .images import channels_first, channels_last
from .linear import in_bf16, rounded

__all__ = ["KERNELS"]


def _oihw(w: Any) -> Any:
    return w.permute(3, 2, 0, 1)


def _hwio(w: Any) -> Any:
    return w.permute(2, 3, 1, 0)


@contextmanager
def _in_tf32() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, True
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def _convolving(x: Any, rounding: bool) -> AbstractContextManager[None]:
    return _in_tf32() if rounding and x.device.type == "cuda" else nullcontext()


def _conv2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    if rows.kernel == columns.kernel == 1 and (rows.stride, columns.stride) != (1, 1):
        # On the CPU, torch 2.13 now and then gets the gradient of such a kernel wrong: in 59 of 3,000 runs, for
        # (2, 9, 12, 3) and stride 3. With the channels first it does not.
        return NotImplemented
    rounding = in_bf16(x, w)
    x, w = (rounded(x), rounded(w)) if rounding else (x, w)
    even = all(before == after for before, after in (rows.ends, columns.ends))
    pads = (rows.before, columns.before) if even else (0, 0)
    ends = ((0, 0), (0, 0)) if even else (rows.ends, columns.ends)
    steps = (rows.stride, columns.stride), pads, (rows.dilation, columns.dilation)
    given, kernel = channels_first(extend(x, *ends)), _oihw(w).contiguous()  # torch refuses others, for a single output
    with _convolving(given, rounding):
        y = channels_last(torch.conv2d(given, kernel, b, *steps, groups))

    def backward(dy: Any, input_grad: bool = True) -> Any:
        wanted = [input_grad, True, False]  # the sums of oneDNN, for the biases, are less exact than torch's own
        slope = channels_first(rounded(dy) if rounding else dy)
        with _convolving(given, rounding):
            dx, dw, _ = torch.ops.aten.convolution_backward(
                slope, given, kernel, None, *steps, False, [0, 0], groups, wanted
            )
        dx = extend(channels_last(dx), *((-p, -q) for p, q in ends)) if input_grad else None
        return dx, _hwio(dw), dy.sum(dim=(0, 1, 2))

    return y, backward


def _conv_transpose2d(x: Any, w: Any, b: Any, *, rows: Axis, columns: Axis, groups: int, memory: int) -> Any:
    # The whole image, of which padding cuts the edges off, and to which rows that no window reaches are added.
    rounding = in_bf16(x, w)
    x, w = (rounded(x), rounded(w)) if rounding else (x, w)
    cut = tuple((-axis.before, axis.unused - axis.after) for axis in (rows, columns))
    steps, dilations = (rows.stride, columns.stride), (rows.dilation, columns.dilation)
    given, kernel = channels_first(x), _oihw(w).contiguous()  # torch refuses others, if they have one channel
    with _convolving(given, rounding):
        whole = torch.conv_transpose2d(given, kernel, None, steps, (0, 0), (0, 0), groups, dilations)
    y = extend(channels_last(whole), *cut) + b

    def backward(dy: Any, input_grad: bool = True) -> Any:
        slope = channels_first(extend(rounded(dy) if rounding else dy, *((-p, -q) for p, q in cut)))
        with _convolving(given, rounding):
            dx, dw, _ = torch.ops.aten.convolution_backward(
                slope, given, kernel, None, steps, (0, 0), dilations, True, (0, 0), groups, [input_grad, True, False]
            )
        return (channels_last(dx) if input_grad else None), _hwio(dw), dy.sum(dim=(0, 1, 2))

    return y, backward


KERNELS = {"conv2d": Kernel(_conv2d), "conv_transpose2d": Kernel(_conv_transpose2d)}
