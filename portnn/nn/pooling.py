"""Pooling layers. Images are (n, h, w, c): channels last."""

from __future__ import annotations

from dataclasses import dataclass

from portnn import functional
from portnn._typing import Shape
from portnn.functional.pooling import pool_axes
from portnn.functional.windows import Padding, Pair, pair, sides
from portnn.nn.convolution import check_image
from portnn.nn.layer import Parameterless

__all__ = ["AveragePool2D", "GlobalAveragePool", "MaxPool2D"]


@dataclass(frozen=True)
class MaxPool2D(Parameterless):
    """The largest value of each window, channel by channel: `functional.max_pool2d`.

    Parameters
    ----------
    size : int or two ints, default 2
        Of the windows.
    stride : int or two ints, optional
        Steps between the windows; by default their size.
    padding : default "valid"
        "same", "valid", or numbers: see ``portnn.functional.windows.Padding``. Rows and columns that fill no window are
        left out.
    """

    size: Pair = 2
    stride: Pair | None = None
    padding: Padding = "valid"

    function = staticmethod(functional.max_pool2d)

    def __post_init__(self) -> None:
        for name in ("size", "stride"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, pair(f"{type(self).__name__}'s {name}", getattr(self, name)))
        object.__setattr__(self, "padding", sides(self.padding))

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image(type(self).__name__, input_shape)
        rows, columns = pool_axes(input_shape[:2], self.size, self.stride, self.padding)
        return (rows.count, columns.count, input_shape[2])


@dataclass(frozen=True)
class AveragePool2D(MaxPool2D):
    """The mean of each window, channel by channel: `functional.average_pool2d`. Parameters as `MaxPool2D`."""

    function = staticmethod(functional.average_pool2d)


@dataclass(frozen=True)
class GlobalAveragePool(Parameterless):
    """The mean of each channel over the whole image: (n, h, w, c) to (n, c)."""

    function = staticmethod(functional.global_average_pool)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image("GlobalAveragePool", input_shape)
        return input_shape[2:]
