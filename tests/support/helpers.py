"""Assertions that look at more than the values, and small conveniences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from portnn import tree
from portnn.backend import Backend
from portnn.training.batch import Piece
from portnn.training.entering import enter_examples
from portnn.training.recipe import Recipe

#: Relative tolerance for results that should agree to rounding.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def put(backend: Backend, values: Any, dtype: str) -> Any:
    """Arrays of a tree on the backend: floats as ``dtype``, integers as they are."""

    def one(a: Any) -> Any:
        a = np.asarray(a)
        return backend.asarray(a, dtype if a.dtype.kind == "f" else None)

    return tree.map(one, values)


def get(backend: Backend, values: Any) -> Any:
    return tree.map(backend.to_numpy, values)


def assert_here(backend: Backend, dtype: str, values: Any) -> None:
    """Every array of the tree is of the backend, on its device, with the dtype."""
    for path, leaf in tree.flatten(values).items():
        assert backend.owns(leaf), f"{path!r} is {type(leaf)}, not on {backend}"
        assert leaf.dtype == backend.dtype(dtype), f"{path!r} is {leaf.dtype}, not {dtype}"


def assert_close(actual: Any, expected: Any, dtype: str) -> None:
    """Host trees of equal structure and shapes agree to rounding."""

    def check(a: Any, e: Any) -> None:
        assert a.shape == e.shape
        scale = float(np.abs(e[np.isfinite(e)]).max(initial=1.0))
        assert_allclose(a, e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)

    tree.map(check, actual, expected)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system cuts files short that become larger, in bytes, as where a disk is full."""
    resource = pytest.importorskip("resource", reason="this system does not limit the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_equal(actual: Any, expected: Any) -> None:
    """Host trees are equal bit for bit."""
    tree.map(np.testing.assert_array_equal, actual, expected)


def prepared_piece(trainer, x, y, size):
    """A batch of the first ``size`` examples on the device of a trainer, which can do a step at once."""
    data = enter_examples(trainer.network, trainer.loss, x, y, training=True)
    trainer.stepper.prepare(Recipe.of(trainer))
    return Piece(data, np.arange(size))
