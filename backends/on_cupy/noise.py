"""Uniform numbers of a `portnn.random.Stream`, made on the GPU with the bits of NumPy's generator."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.backend import RandomStream

from .compile import counter, each, empty, kernel

__all__ = ["philox_uniform"]


def philox_uniform(stream: RandomStream, shape: Shape, dtype: str) -> Any:
    """As ``stream.generator().random(shape, dtype)``. The step of the stream may be a 0-d int64 array on the device."""
    step: Any = stream.step
    words = counter(stream.counter[1] if isinstance(step, Integral) else step)
    out = empty(shape, np.dtype(dtype))
    name, in_block = ("uniform64", 4) if dtype == "float64" else ("uniform32", 8)
    fill = kernel("noise", name)
    fill(*each(math.ceil(out.size / in_block)), (out, out.size, *stream.key, words))
    return out
