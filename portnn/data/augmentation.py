"""Augmentation: images that are moved, turned and disturbed anew in each step of training, on their own device.

An augmentation is a callable ``augment(x, rng) -> x`` without a state. Images are floats of shape (n, h, w) or
(n, h, w, c), bytes having been divided by 255 before; each one of a batch gets draws of its own. The draws are equal
bit for bit on every backend, the images to rounding. What comes in from outside an image is 0.

>>> import numpy as np
>>> from portnn.random import Stream
>>> augment = Compose([Shift(2), Rotate(10), Noise(0.05)])
>>> augment(np.zeros((32, 28, 28), dtype=np.float32), Stream(0)).shape
(32, 28, 28)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.checks import check_callable, check_type, hold_count, hold_number
from portnn.data.resampling import numbers, pixels, sample
from portnn.errors import DataError, ShapeError
from portnn.functional.sums import mean_over
from portnn.functional.windows import Pair, pair
from portnn.random import Stream

__all__ = [
    "Augment",
    "Augmentation",
    "Brightness",
    "Compose",
    "Contrast",
    "Cutout",
    "Flip",
    "Noise",
    "RandomCrop",
    "Rotate",
    "Shift",
    "Zoom",
]

#: What `Trainer` and `Compose` take: an `Augmentation`, or any function of rows and a stream.
Augment: TypeAlias = Callable[[Array, Stream], Array]


class Augmentation(ABC):
    """What the augmentations of images have in common; a subclass writes ``change``."""

    def __call__(self, x: Array, rng: Stream) -> Array:
        """Change each image of a batch at random.

        Parameters
        ----------
        x : array of floats, shape (n, h, w) or (n, h, w, c)
        rng : Stream
            The same one gives the same changes; ``rng.at(step)`` others in every step.

        Returns
        -------
        array
            Of the shape (but see `RandomCrop`), dtype and device of ``x``.

        Raises
        ------
        ShapeError, DataError
            If ``x`` holds no images, or no floats.
        """
        name, xp = type(self).__name__, array_namespace(x)
        if x.ndim not in (3, 4):
            raise ShapeError(f"{name} takes images, (n, h, w) or (n, h, w, c), and not shape {tuple(x.shape)}")
        if not xp.isdtype(x.dtype, "real floating"):
            raise DataError(f"{name} takes floats, not {x.dtype}: functional.as_float makes them of bytes")
        return self.change(x, rng) if x.ndim == 4 else self.change(xp.expand_dims(x, axis=3), rng)[..., 0]

    @abstractmethod
    def change(self, images: Array, rng: Stream) -> Array:
        """The changed images, (n, h, w, c) to (n, h, w, c)."""


@dataclass(frozen=True)
class Shift(Augmentation):
    """Moves images by whole pixels, along each axis by one of ``-pixels`` to ``pixels``, all equally likely.

    It pads images with zeros and crops them to their old size: the ``RandomCrop(32, padding=4)`` by which one trains on
    CIFAR-10 is ``Shift(4)``.

    Parameters
    ----------
    pixels : int or (int, int), default 2
        At least 0; for both axes, or down and across.
    """

    pixels: Pair = 2

    def __post_init__(self) -> None:
        pair("Shift's pixels", self.pixels, 0)

    def change(self, images: Array, rng: Stream) -> Array:
        return _window(images, rng, (images.shape[1], images.shape[2]), pair("pixels", self.pixels, 0))


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Cuts a window out of images, at any place with equal probability, as torchvision and Keras do: ``(n, *size, c)``.

    `Trainer` refuses windows of another size than its images, whose shape is the network's input: smaller ones are
    for loops of your own.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    padding : int or (int, int), default 0
        Zeros put around images before: above and below, left and right.

    Raises
    ------
    ShapeError
        When called with images that are smaller than the window, padding included.
    """

    size: Pair
    padding: Pair = 0

    def __post_init__(self) -> None:
        pair("RandomCrop's size", self.size)
        pair("RandomCrop's padding", self.padding, 0)

    def change(self, images: Array, rng: Stream) -> Array:
        return _window(images, rng, pair("size", self.size), pair("padding", self.padding, 0))


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors images, each with probability 0.5: left and right (``horizontal``), top and bottom (``vertical``).

    With both, the two are decided independently. Digits and letters should not be mirrored: they become others.
    """

    horizontal: bool = True
    vertical: bool = False

    def __post_init__(self) -> None:
        check_type(self, "horizontal", bool)
        check_type(self, "vertical", bool)

    def change(self, images: Array, rng: Stream) -> Array:
        xp = array_namespace(images)
        for wanted, name, axis in ((self.horizontal, "horizontal", 2), (self.vertical, "vertical", 1)):
            if wanted:
                mirrored = _uniform(images, rng.child(name)) < 0.5
                images = xp.where(mirrored, xp.flip(images, axis=axis), images)
        return images


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Turns images about their centres, by an angle uniform from ``-degrees`` to ``degrees`` (counter-clockwise).

    Values between pixels are bilinear.

    Parameters
    ----------
    degrees : float, default 10
        In [0, 360).
    """

    degrees: float = 10.0

    def __post_init__(self) -> None:
        hold_number(self, "degrees", 0, 360)

    def change(self, images: Array, rng: Stream) -> Array:
        xp = array_namespace(images)
        angle = math.radians(self.degrees) * _symmetric(images, rng)
        cos, sin = xp.cos(angle), xp.sin(angle)
        return sample(images, (cos, sin), (-sin, cos))


@dataclass(frozen=True)
class Zoom(Augmentation):
    """Enlarges images about their centres by a factor uniform from ``1 - share`` to ``1 + share``; below 1 they shrink.

    Values between pixels are bilinear.

    Parameters
    ----------
    share : float, default 0.1
        In [0, 1).
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        hold_number(self, "share", 0, 1)

    def change(self, images: Array, rng: Stream) -> Array:
        step = 1.0 / (1.0 + self.share * _symmetric(images, rng))
        return sample(images, (step, 0.0), (0.0, step))


@dataclass(frozen=True)
class Brightness(Augmentation):
    """Adds a number uniform from ``-amount`` to ``amount`` (``amount >= 0``) to all values of an image.

    Nothing is clipped, here or in `Contrast` and `Noise`: images that were standardised do not lie between 0 and 1.
    """

    amount: float

    def __post_init__(self) -> None:
        hold_number(self, "amount", 0)

    def change(self, images: Array, rng: Stream) -> Array:
        return images + self.amount * _symmetric(images, rng)


@dataclass(frozen=True)
class Contrast(Augmentation):
    """Multiplies the distances from the mean of an image by a factor uniform from ``1 - amount`` to ``1 + amount``.

    ``amount`` is in [0, 1). Each channel has a mean of its own, and keeps it.
    """

    amount: float

    def __post_init__(self) -> None:
        hold_number(self, "amount", 0, 1)

    def change(self, images: Array, rng: Stream) -> Array:
        xp, (n, h, w, c) = array_namespace(images), images.shape
        mean = xp.reshape(mean_over(xp.reshape(images, (n, h * w, c)), 1), (n, 1, 1, c))
        # Not mean + (images - mean) * factor: a factor of 1 then changes nothing, not even by rounding.
        return images + (images - mean) * (self.amount * _symmetric(images, rng))


@dataclass(frozen=True)
class Noise(Augmentation):
    """Adds normal noise of standard deviation ``std`` (>= 0), independent for every value."""

    std: float

    def __post_init__(self) -> None:
        hold_number(self, "std", 0)

    def change(self, images: Array, rng: Stream) -> Array:
        return images + self.std * rng.normal_like(images)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Sets a square of ``size`` by ``size`` pixels to 0 in each image (DeVries and Taylor 2017).

    Its centre may be any pixel, so that part of the square may lie outside the image, as in the paper.
    """

    size: int

    def __post_init__(self) -> None:
        hold_count(self, "size")

    def change(self, images: Array, rng: Stream) -> Array:
        xp = array_namespace(images)
        inside = True
        for name, axis in (("rows", 1), ("columns", 2)):
            first = _whole(images, rng.child(name), images.shape[axis]) - self.size // 2
            place = numbers(images, images.shape[axis], axis)
            inside = inside & (place >= first) & (place < first + self.size)
        return xp.where(inside, xp.zeros_like(images), images)


@dataclass(frozen=True)
class Compose:
    """One augmentation after the other, the i-th with the stream ``rng.child(i)``.

    Raises ConfigError where one of them cannot be called, or is a class.
    """

    augmentations: Iterable[Augment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentations", tuple(self.augmentations))
        for augment in self.augmentations:
            check_callable("each of Compose's augmentations", augment)

    def __call__(self, x: Array, rng: Stream) -> Array:
        """Change a batch; arguments, result and errors as for the augmentations."""
        for i, augment in enumerate(self.augmentations):
            x = augment(x, rng.child(i))
        return x


def _uniform(images: Array, rng: Stream) -> Array:
    """A number from [0, 1) for each image, with four axes, to broadcast against the images: (n, 1, 1, 1)."""
    return rng.uniform_like(images[:, :1, :1, :1])


def _symmetric(images: Array, rng: Stream) -> Array:
    """A number from [-1, 1) for each image."""
    return 2.0 * _uniform(images, rng) - 1.0


def _whole(images: Array, rng: Stream, count: int) -> Array:
    """One of the whole numbers ``0`` to ``count-1`` for each image, as a float.

    It cannot come out as ``count``: with u at most 1 - epsilon/2, ``u * count`` is nearer to the float below it.
    """
    return array_namespace(images).floor(_uniform(images, rng) * float(count))


def _window(images: Array, rng: Stream, size: tuple[int, int], padding: tuple[int, int]) -> Array:
    """Windows at random places of images that have zeros around them: (n, h, w, c) to ``(n, *size, c)``."""
    places = []
    for axis, name in ((1, "rows"), (2, "columns")):
        length, border = size[axis - 1], padding[axis - 1]
        count = images.shape[axis] + 2 * border - length + 1
        if count < 1:
            raise ShapeError(
                f"a window of {size[0]} x {size[1]} does not fit into images of "
                f"{images.shape[1]} x {images.shape[2]} with {padding[0]} and {padding[1]} zeros around them"
            )
        places.append(_whole(images, rng.child(name), count) - border + numbers(images, length, axis))
    return pixels(images, places[0], places[1])
