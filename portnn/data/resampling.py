"""Values of images at other places than the pixels' own, zeros outside, in the library of the images.

Images are (n, h, w, c). Places are floats with four axes, of length 1 where nothing varies, so that they broadcast
against images.
"""

from array_api_compat import array_namespace, device

from portnn._typing import Array

__all__ = ["numbers", "pixels", "sample"]


def numbers(images: Array, count: int, axis: int) -> Array:
    """The numbers ``0`` to ``count-1`` along an axis, as floats."""
    xp = array_namespace(images)
    values = xp.arange(count, dtype=images.dtype, device=device(images))
    return xp.reshape(values, tuple(count if i == axis else 1 for i in range(4)))


def sample(
    images: Array, rows: tuple[Array | float, Array | float], columns: tuple[Array | float, Array | float]
) -> Array:
    """Bilinear values at places that are a linear map of the pixels' own, about the centre of the image.

    A pixel (down, right) of the centre takes the value at ``rows[0] * down + rows[1] * right`` below the centre and
    ``columns[0] * down + columns[1] * right`` right of it.
    """
    floor = array_namespace(images).floor
    middle_row, middle_column = (images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2
    down, right = numbers(images, images.shape[1], 1) - middle_row, numbers(images, images.shape[2], 2) - middle_column
    row = rows[0] * down + rows[1] * right + middle_row
    column = columns[0] * down + columns[1] * right + middle_column
    top, left = floor(row), floor(column)
    below, beside = row - top, column - left
    upper = (1.0 - beside) * pixels(images, top, left) + beside * pixels(images, top, left + 1.0)
    lower = (1.0 - beside) * pixels(images, top + 1.0, left) + beside * pixels(images, top + 1.0, left + 1.0)
    return (1.0 - below) * upper + below * lower


def pixels(images: Array, row: Array, column: Array) -> Array:
    """The pixels at whole places, given as floats that broadcast to (n, h', w', 1): (n, h', w', c), 0 outside."""
    xp = array_namespace(images)
    n, h, w, c = images.shape
    # No dtype: this is the library's type for indices, which is not the same everywhere.
    image = xp.reshape(xp.arange(n, device=device(images)), (n, 1, 1, 1))
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    row, column = (xp.astype(_within(p, size - 1), image.dtype) for p, size in ((row, h), (column, w)))
    place = (image * h + row) * w + column
    values = xp.take(xp.reshape(images, (n * h * w, c)), xp.reshape(place, (-1,)), axis=0)
    values = xp.reshape(values, (*place.shape[:3], c))
    return xp.where(inside, values, xp.zeros_like(values))


def _within(place: Array, last: int) -> Array:
    """Places from 0 to the last one. Not by ``clip``: its form for NumPy writes in place, which cannot be recorded."""
    xp = array_namespace(place)
    return xp.where(place < 0, 0.0, xp.where(place > last, float(last), place))
