"""The geometry of windows that slide over images, shared by convolution and pooling.

Images are (n, h, w, c), channels last: then all windows of a batch are the rows of one matrix, and a convolution is one
matrix product.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypeAlias

import array_api_extra as xpx
from array_api_compat import array_namespace, device

from portnn._typing import Array, Shape
from portnn.errors import ConfigError, ShapeError

__all__ = ["Axis", "Pair", "Padding", "axes", "extend", "pair", "sides", "spread", "views"]

#: One number for both axes, or one for each.
Pair: TypeAlias = int | tuple[int, int]
#: Zeros before and after both axes: a number for all four sides, one for each axis, ``((top, bottom), (left, right))``,
#: "same" (as many windows as ``size / stride``, rounded up; an odd number of zeros has more of them after), or "valid".
Padding: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Literal["same", "valid"]


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of an image.

    Attributes
    ----------
    size, kernel, stride, dilation : int
        Length of the axis, of the window, steps between windows and within them.
    before, after : int
        Zeros added at the two ends.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def ends(self) -> tuple[int, int]:
        """Zeros added before and after, for `extend`."""
        return self.before, self.after

    @property
    def span(self) -> int:
        """From the first value of a window to its last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """How many windows there are: the length of the output."""
        return (self.size + self.before + self.after - self.span) // self.stride + 1

    @property
    def unused(self) -> int:
        """Values at the end of the padded axis that no window reaches."""
        return (self.size + self.before + self.after - self.span) % self.stride

    def part(self, k: int) -> slice:
        """Where the k-th value of every window is on the padded axis."""
        start = k * self.dilation
        return slice(start, start + (self.count - 1) * self.stride + 1, self.stride)


def pair(name: str, value: Any, lowest: int = 1) -> tuple[int, int]:
    """Two ints, from one or two. Raises ConfigError where they are less than ``lowest``, or no ints."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in both)
    if len(both) != 2 or not whole or min(both) < lowest:
        raise ConfigError(f"{name} must be an int of at least {lowest}, or two of them, not {value!r}")
    return int(both[0]), int(both[1])


def sides(padding: Any) -> tuple[tuple[int, int], tuple[int, int]] | Literal["same", "valid"]:
    """Padding as ``((top, bottom), (left, right))``, "same" or "valid". Raises ConfigError where it is neither."""
    if padding in ("same", "valid"):
        return padding  # type: ignore[no-any-return]
    if isinstance(padding, str):
        raise ConfigError(f'padding must be "same", "valid" or numbers, not {padding!r}')
    if isinstance(padding, tuple | list) and any(isinstance(side, tuple | list) for side in padding):
        if len(padding) != 2:
            raise ConfigError(f"padding must be ((top, bottom), (left, right)), not {padding!r}")
        return pair("padding", padding[0], 0), pair("padding", padding[1], 0)
    rows, columns = pair("padding", padding, 0)
    return (rows, rows), (columns, columns)


def axes(size: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair) -> tuple[Axis, Axis]:
    """The windows along both axes of images of ``size`` (h, w).

    Raises
    ------
    ShapeError
        If a padded image is smaller than a window; the sentence shows the arithmetic.
    """
    kernels, strides, dilations = pair("kernel", kernel), pair("stride", stride), pair("dilation", dilation)
    given = sides(padding)
    if given == "same":
        ends = [_same(*numbers) for numbers in zip(size, kernels, strides, dilations, strict=True)]
    else:
        ends = [(0, 0), (0, 0)] if given == "valid" else list(given)
    found = [
        Axis(length, k, s, d, before, after)
        for length, k, s, d, (before, after) in zip(size, kernels, strides, dilations, ends, strict=True)
    ]
    for name, axis in zip(("height", "width"), found, strict=True):
        if axis.count < 1:
            raise ShapeError(
                f"the window does not fit into the {name}: {axis.size} + {axis.before} + {axis.after} (padding) < "
                f"({axis.kernel} - 1) * {axis.dilation} + 1 = {axis.span}"
            )
    return found[0], found[1]


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def extend(x: Array, *ends: tuple[int, int], value: float = 0.0) -> Array:
    """Add values at both ends of the spatial axes; negative numbers take away."""
    width, cut = [], []
    for axis, (before, after) in enumerate(ends, start=1):
        length = x.shape[axis]
        # What is to be taken away beyond the length is taken from what is added at the other end.
        first = min(max(-before, 0), length)
        last = min(max(-after, 0), length - first)
        missing_before, missing_after = max(-before, 0) - first, max(-after, 0) - last
        width.append((max(before, 0) - missing_after, max(after, 0) - missing_before))
        cut.append(slice(first, length - last))
    x = x[:, cut[0], cut[1], :]
    if all(end == (0, 0) for end in width):
        return x
    return xpx.pad(x, [(0, 0), *width, (0, 0)], constant_values=value)


def spread(x: Array, steps: tuple[int, int]) -> Array:
    """Set the values of images apart, with zeros between them: from a length m to ``(m - 1) step + 1``."""
    xp = array_namespace(x)
    for axis, step in enumerate(steps, start=1):
        if step > 1:
            shape = (*x.shape[: axis + 1], step - 1, *x.shape[axis + 1 :])
            zeros = xp.zeros(shape, dtype=x.dtype, device=device(x))
            x = xp.concat([xp.expand_dims(x, axis=axis + 1), zeros], axis=axis + 1)
            length = x.shape[axis] * step
            x = xp.reshape(x, (*x.shape[:axis], length, *x.shape[axis + 2 :]))
            keep = [slice(None)] * 4
            keep[axis] = slice(0, length - step + 1)
            x = x[tuple(keep)]
    return x


def views(x: Array, rows: Axis, columns: Axis) -> list[Array]:
    """The values at each place of the window, for all windows of padded images: kernel-many (n, rows, columns, c)."""
    places = itertools.product(range(rows.kernel), range(columns.kernel))
    return [x[:, rows.part(i), columns.part(j), :] for i, j in places]
