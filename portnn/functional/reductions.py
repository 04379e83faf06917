"""Sums, means and largest values, as the library computes them; for whatever a training step reduces.

A backend whose library cannot be relied on within a recorded step has twins. Sums over so many values that rounding
errors would grow with their number are in `portnn.functional.sums`.
"""

from typing import Literal, TypeAlias

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.kernels import array_function

__all__ = ["How", "along_last", "of_all"]

#: The standard's function of this name.
How: TypeAlias = Literal["sum", "mean", "max"]


@array_function(shapes="... -> *rest")
def along_last(x: Array, how: How) -> Array:
    """The sum, mean or largest value along the last axis, which stays, of length 1: (..., k) to (..., 1).

    NaN where there is a NaN.
    """
    made: Array = getattr(array_namespace(x), how)(x, axis=-1, keepdims=True)
    return made


@array_function(shapes="... -> ")
def of_all(x: Array, how: How) -> Array:
    """The sum, mean or largest value of all that is in an array: a 0-d array. NaN where there is a NaN."""
    made: Array = getattr(array_namespace(x), how)(x)
    return made
