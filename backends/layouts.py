"""How a matrix lies in memory, as BLAS is told of it."""

from __future__ import annotations

__all__ = ["layout"]


def layout(shape: tuple[int, int], strides: tuple[int, int], itemsize: int) -> tuple[bool, int] | None:
    """Whether a matrix is the transpose of what lies in memory row by row, and the elements from row to row there.

    None if it does not lie in memory so that BLAS can read it.
    """
    for turned in (False, True):
        (rows, columns), (row, step) = (shape[::-1], strides[::-1]) if turned else (shape, strides)
        if columns > 1 and step != itemsize:
            continue
        if rows == 1:  # there is no next row
            return turned, columns
        if row >= columns * itemsize and row % itemsize == 0:
            return turned, row // itemsize
    return None
