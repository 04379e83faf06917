"""Groups of convolution with the pooling and the ReLU behind it: one launch, and two for the way back.

No windows are laid out: the image and the kernel lie in shared memory, and what is pooled never reaches memory. The
sources are compiled for the shapes of a network. Where they do not fit, the members compute, one after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from portnn import nn
from portnn.functional.windows import axes, pair
from portnn.groups import Group

from . import direct_plan
from .compile import FLOATS, ahead, dense, empty, is_array, kernel
from .direct_convolution import Convolution
from .direct_plan import Plan
from .sums import column_sums

__all__ = ["GROUPS", "convolution_of", "convolve"]

_CODE = np.dtype(np.uint8)

#: Bytes that are read at once: where the arrays of these kernels have to begin.
_VECTOR = 16

#: Blocks of a grid along its first axis, at most.
_BLOCKS = 2**31 - 1


class _Kernels(NamedTuple):
    """The plans of a convolution, and what is put into the three sources: the values, all slopes, those of weights."""

    values: Plan
    inputs: Plan
    weights: Plan
    sources: dict[str, dict[str, int]]


@functools.cache
def _kernels(conv: Convolution) -> _Kernels | None:
    """None where one of them does not fit."""
    if not direct_plan.fits(conv):
        return None
    values, inputs, weights = direct_plan.values(conv), direct_plan.inputs(conv), direct_plan.weights(conv)
    if values is None or inputs is None or weights is None:
        return None
    parts = {"values": (values,), "slopes": (inputs, weights), "weights": (weights,)}
    sources = {name: direct_plan.options_of(*plans) for name, plans in parts.items()}
    return _Kernels(values, inputs, weights, sources)


def convolve(conv: Convolution, x: Any, w: Any, b: Any, train: bool = True) -> Any:
    """What a convolution makes of images (n, h, w, c), and the way back; NotImplemented where they do not fit.

    Parameters
    ----------
    conv : Convolution
    x, w, b : array of float32 or float64
        Images, kernel and bias, of one dtype and the shapes that ``conv`` says.
    train : bool, default True
        Whether the way back will be gone.

    Returns
    -------
    y : array, shape (n, *conv.shape)
    backward : callable
        ``backward(dy, input_grad=True) -> (dx, dw, db)``; dx is None where it is not wanted.
    """
    found, real, n = _kernels(conv), x.dtype, len(x)
    if found is None or not x.size:
        return NotImplemented
    values, inputs, weights, sources = found
    bands = n * weights.bands
    rows = min(bands, direct_plan.ROWS)
    if n * max(values.blocks, inputs.blocks) + rows * weights.blocks > _BLOCKS:
        return NotImplemented
    if train:
        for name, options in sources.items():
            ahead(f"direct_{name}", REAL=real, **options)

    def launch(name: str, blocks: int, *arguments: Any) -> None:
        options = sources[name]
        launched = kernel(f"direct_{name}", f"convolved_{name}", REAL=real, **options)
        launched((blocks,), (options["BLOCK"],), arguments)

    x, w, b = _aligned(x), _aligned(w), _aligned(b)
    y = empty((n, *conv.shape), real)
    codes = empty((n, *conv.cells, conv.filters) if conv.coded else (0,), _CODE)
    launch("values", n * values.blocks, x, w, b, y, codes)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dy, dx = _aligned(dy), None
        sums = empty((rows, w.size + conv.filters), real)
        if input_grad:
            dx = empty(x.shape, real)
            blocks = n * inputs.blocks + rows * weights.blocks
            launch("slopes", blocks, x, dy, codes, w, n, bands, rows, dx, sums)
        else:
            launch("weights", rows * weights.blocks, x, dy, codes, bands, rows, sums)
        total = column_sums(sums)
        return dx, total[: w.size].reshape(w.shape), total[w.size :]

    return y, backward


def _aligned(x: Any) -> Any:
    """The array in C order, and where vectors of it may be read: itself, if it is."""
    x = dense(x)
    return x if x.data.ptr % _VECTOR == 0 else x.copy()


def convolution_of(layers: Sequence[Any], image: tuple[int, ...], dtype: Any) -> Convolution:
    """What the layers of a group make of images (h, w, c).

    Raises
    ------
    ShapeError
        As `nn.Conv2D`, where a padded image is smaller than a window.
    """
    conv, *behind = layers
    rows, columns = axes(image[:2], conv.kernel, conv.stride, conv.padding, conv.dilation)
    pools = [pair("size", layer.size) for layer in behind if type(layer) is nn.MaxPool2D]
    return Convolution(
        rows,
        columns,
        image[2],
        conv.channels,
        pool=pools[0] if pools else (1, 1),
        relu=any(type(layer) is nn.ReLU for layer in behind),
        relu_first=bool(behind) and type(behind[0]) is nn.ReLU,
        bytes=dtype.itemsize,
    )


def _fits(layers: Sequence[Any]) -> bool:
    """Whether the pooling goes side by side, and the convolution is one of all channels."""
    return layers[0].groups == 1 and all(
        layer.stride in (None, layer.size) and layer.padding in ("valid", ((0, 0), (0, 0)))
        for layer in layers
        if type(layer) is nn.MaxPool2D
    )


def _group(layers: Any, params: Any, states: Any, x: Any, *, train: bool, rngs: Any) -> Any:
    w, b = params[0]["w"], params[0]["b"]
    if not all(is_array(a) and a.dtype == x.dtype for a in (x, w, b)) or x.dtype not in FLOATS:
        return NotImplemented
    shape = *layers[0].kernel, x.shape[-1], layers[0].channels
    if x.ndim != 4 or w.shape != shape or b.shape != shape[3:]:
        return NotImplemented
    made = convolve(convolution_of(layers, x.shape[1:], x.dtype), x, w, b, train)
    if made is NotImplemented:
        return NotImplemented
    y, pullback = made

    def backward(dy: Any, input_grad: bool = True) -> Any:
        dx, dw, db = pullback(dy, input_grad)
        return dx, [{"w": dw, "b": db}, *({} for _ in layers[1:])]

    return y, states, backward


GROUPS = tuple(
    Group((nn.Conv2D, *behind), _group, _fits)
    for behind in ((), (nn.ReLU,), (nn.MaxPool2D,), (nn.ReLU, nn.MaxPool2D), (nn.MaxPool2D, nn.ReLU))
)
