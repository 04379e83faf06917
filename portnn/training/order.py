"""The order of the examples in an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn.backend import as_host
from portnn.errors import DataError, PortnnError, ShapeError
from portnn.training.recipe import Recipe

__all__ = ["checked_order", "epoch_order"]


def epoch_order(recipe: Recipe, epoch: int, n: int) -> Any:
    """The numbers of n examples in the order of an epoch: an int host array of shape (n,)."""
    if recipe.order is None:
        return recipe.rng.child("order").at(epoch).permutation(n)
    return checked_order(recipe.order(n, epoch), n)


def checked_order(given: Any, n: int) -> Any:
    """The numbers of n examples in the order of an epoch: an int64 host array of shape (n,).

    Raises
    ------
    DataError, ShapeError
        If it is anything else than n integers from 0 to n - 1, in an array of any library or in a list.
    """
    try:
        order = as_host(given, "Trainer's order")
    except PortnnError:
        raise DataError(
            f"Trainer's order must give an array of integers, not an object of type {type(given).__name__}"
        ) from None
    if order.dtype.kind not in "iu":
        hint = ": np.flatnonzero gives the numbers of a mask" if order.dtype.kind == "b" else ""
        raise DataError(f"Trainer's order must give integers, the numbers of the examples, not {order.dtype}{hint}")
    if order.shape != (n,):
        raise ShapeError(f"Trainer's order must give one number for each of {n} examples, not shape {order.shape}")
    if n and not (order.min() >= 0 and order.max() < n):
        raise DataError(
            f"Trainer's order must give numbers of examples from 0 to {n - 1}, not from {order.min()} to {order.max()}"
        )
    return order.astype(np.int64, copy=False)
