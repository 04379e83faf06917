"""Uniform numbers of a `portnn.random.Stream` on all cores, with the bits of NumPy's generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.backend import RandomStream

from .compile import loops
from .recording import recorder
from .workspace import empty, share

__all__ = ["philox_uniform"]


def philox_uniform(stream: RandomStream, shape: Shape, dtype: str) -> Any:
    """As ``stream.generator().random(shape, dtype)``."""
    compiled = loops("noise")
    if compiled is None:
        return stream.generator().random(shape, dtype=np.dtype(dtype).type)
    out = empty(shape, np.dtype(dtype))
    numbers, (first, second) = out.reshape(-1), stream.key
    step = stream.step if recorder() is not None else stream.counter[1]
    fill, size = (compiled.uniform64, 4) if dtype == "float64" else (compiled.uniform32, 8)

    def part(blocks: slice) -> None:
        fill(blocks.start, step, first, second, numbers[blocks.start * size : blocks.stop * size])

    share(part, -(-out.size // size), cost=2 * out.size)
    return out
