"""Convolutional layers. Images are (n, h, w, c): channels last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from portnn import functional
from portnn._typing import Array, Backward, Shape, Tree
from portnn.checks import check_type, hold_count
from portnn.errors import ConfigError, ShapeError
from portnn.functional.convolution import MEMORY, check_groups, transposed_axes
from portnn.functional.windows import Padding, Pair, axes, pair, sides
from portnn.nn.initializers import HeNormal, Initializer, Zeros
from portnn.nn.layer import Layer
from portnn.random import Stream

__all__ = ["Conv2D", "ConvTranspose2D", "check_image"]


def check_image(name: str, shape: Shape) -> None:
    """Raise ShapeError unless examples are images (h, w, c); the sentence says how to make them."""
    if len(shape) == 3:
        return
    hint = f": put Reshape({(*shape, 1)}) before it" if len(shape) == 2 else ""
    raise ShapeError(f"{name} takes images (h, w, c), not examples of shape {shape}{hint}")


@dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution: (n, h, w, c) to (n, rows, columns, channels); see `functional.conv2d`.

    Parameters
    ----------
    channels : int
        Number of outputs at each place.
    kernel : int or two ints, default 3
        Height and width of the window.
    stride, dilation : int or two ints, default 1
        Steps between windows, and within them.
    padding : default "same"
        "same", "valid", or numbers of zeros: see ``portnn.functional.windows.Padding``.
    groups : int, default 1
        Groups that channels and outputs are parted into; as many as input channels for a depthwise convolution.
    weight_init : Initializer, default HeNormal()
        First values of ``w``, shape (kh, kw, c / groups, channels).
    bias_init : Initializer, default Zeros()
        First values of ``b``, shape (channels,).
    memory : int, default 64 MiB
        Bytes that the windows laid out at a time may take.
    """

    channels: int
    kernel: Pair = 3
    stride: Pair = 1
    padding: Padding = "same"
    dilation: Pair = 1
    groups: int = 1
    weight_init: Initializer = HeNormal()
    bias_init: Initializer = Zeros()
    memory: int = MEMORY

    function: ClassVar[Any] = staticmethod(functional.conv2d)

    def __post_init__(self) -> None:
        hold_count(self, "channels")
        hold_count(self, "groups")
        hold_count(self, "memory")
        check_type(self, "weight_init", Initializer)
        check_type(self, "bias_init", Initializer)
        for name in ("kernel", "stride", "dilation"):
            object.__setattr__(self, name, pair(f"{type(self).__name__}'s {name}", getattr(self, name)))
        object.__setattr__(self, "padding", sides(self.padding))
        if self.channels % self.groups:
            raise ConfigError(f"{self.channels} channels cannot be parted into {self.groups} groups")

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        check_image(type(self).__name__, input_shape)
        kernel, output_shape = self._shapes(input_shape)
        params = {"w": self.weight_init(rng.child("w"), kernel), "b": self.bias_init(rng.child("b"), (self.channels,))}
        return params, (), output_shape

    def _shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        """Of the kernel and of the output."""
        c, size = input_shape[2], pair("kernel", self.kernel)
        check_groups(c, c // self.groups, self.channels, self.groups)
        windows = axes(input_shape[:2], size, self.stride, self.padding, self.dilation)
        return (*size, c // self.groups, self.channels), (windows[0].count, windows[1].count, self.channels)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, pullback = self.function(
            x,
            params["w"],
            params["b"],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            memory=self.memory,
        )

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            dx, dw, db = pullback(dy, input_grad)
            return dx, {"w": dw, "b": db}

        return y, state, backward


@dataclass(frozen=True)
class ConvTranspose2D(Conv2D):
    """The adjoint of a convolution, which makes images larger where that makes them smaller.

    See `functional.conv_transpose2d`. Parameters as `Conv2D`, and of the convolution that it is the adjoint of: with
    ``padding="same"``, images grow by the stride. ``w`` has shape (kh, kw, channels / groups, c).
    """

    function = staticmethod(functional.conv_transpose2d)

    def _shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        c, size = input_shape[2], pair("kernel", self.kernel)
        check_groups(self.channels, self.channels // self.groups, c, self.groups)
        windows = transposed_axes(input_shape[:2], size, self.stride, self.padding, self.dilation)
        return (*size, self.channels // self.groups, c), (windows[0].size, windows[1].size, self.channels)
