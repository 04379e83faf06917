"""Bytes and numbers of 0 .. 255: who trained a network on the one, and gives it the other, is warned.

uint8 is divided by 255 where it enters a network, and all other numbers are taken as they are. So the same picture, as
bytes and as floats of 0 .. 255, is two inputs, of which a network knows one.
"""

from __future__ import annotations

import sys
import warnings
from typing import Literal, TypeAlias

from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.reading import name_in_code

__all__ = ["TRAINED_ON", "TrainedOn", "kind_of_input", "warn_of_other_scale"]

#: What a network was trained on: bytes, read as 0 .. 1; numbers >= 0 that go far beyond 1; any others.
TrainedOn: TypeAlias = Literal["bytes", "unscaled", "numbers"]
TRAINED_ON: tuple[TrainedOn, ...] = ("bytes", "unscaled", "numbers")

#: Pictures of 0 .. 1 that were resized or sharpened go a little beyond 1.
_BEYOND = 1.5


def kind_of_input(x: Array) -> TrainedOn:
    """What examples, of which there is one at least, are; waits for the device."""
    if x.dtype == array_namespace(x).uint8:
        return "bytes"
    return "numbers" if _largest_unscaled(x) is None else "unscaled"


def warn_of_other_scale(x: Array, trained_on: TrainedOn | None, what: str) -> None:
    """Warn if a network was trained on bytes and ``x`` holds numbers as of bytes, or the other way round.

    Waits for the device only where the network was trained on bytes and ``x`` is none.
    """
    is_bytes, name = x.dtype == array_namespace(x).uint8, name_in_code(what)
    if trained_on == "unscaled" and is_bytes:
        warnings.warn(
            f"{what} is of bytes (uint8), which are divided by 255, and the network was trained on numbers beyond 1 "
            f"that were not: give the same here, such as {name}.astype('float32')",
            stacklevel=_outside(),
        )
    elif trained_on == "bytes" and not is_bytes and (largest := _largest_unscaled(x)) is not None:
        warnings.warn(
            f"{what} holds numbers up to {largest:g}, and the network was trained on bytes (uint8), which are divided "
            f"by 255: give bytes here, too, or {name} / 255",
            stacklevel=_outside(),
        )


def _largest_unscaled(x: Array) -> float | None:
    """The largest of numbers >= 0 that go beyond 1; None for other numbers, such as standardised ones."""
    xp = array_namespace(x)
    largest = float(xp.max(x))
    return largest if largest > _BEYOND and float(xp.min(x)) >= 0 else None


def _outside() -> int:
    """The ``stacklevel`` of the caller for whom nothing but portnn stands in between."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "portnn":
        level, frame = level + 1, frame.f_back
    return level
