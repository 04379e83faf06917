"""What hyper-parameters must be: checked once, where they come in, with one sentence each, and then plain numbers."""

import math
import numbers
from typing import TYPE_CHECKING, Any

from portnn._deprecated import moved
from portnn.errors import ConfigError

__all__ = [
    "check_batch_size",
    "check_callable",
    "check_count",
    "check_number",
    "check_type",
    "hold_count",
    "hold_number",
]


def check_number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """The value as a Python float; ConfigError unless ``low <= value < high`` (``open_low``: ``low < value < high``).

    A NumPy scalar becomes a Python float here: left as it is, it would turn float32 arrays into float64.

    >>> check_number("beta1", 1.5, 0, 1)
    Traceback (most recent call last):
    portnn.errors.ConfigError: beta1 must be a number in [0, 1), not 1.5
    """
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (fits and low <= value < high and not (open_low and value == low)):
        interval = f"{'(' if open_low else '['}{low}, {high})"
        raise ConfigError(f"{name} must be a number in {interval}, not {value!r}")
    return float(value)


def check_count(name: str, value: Any) -> int:
    """The value as a Python int; ConfigError unless it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{name} must be a positive int, not {value!r}")
    return int(value)


def hold_number(owner: Any, field: str, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """`check_number` of a field of a frozen dataclass, which from then on holds a Python float."""
    object.__setattr__(
        owner, field, check_number(_of(owner, field), getattr(owner, field), low, high, open_low=open_low)
    )


def hold_count(owner: Any, field: str) -> None:
    """`check_count` of a field of a frozen dataclass, which from then on holds a Python int."""
    object.__setattr__(owner, field, check_count(_of(owner, field), getattr(owner, field)))


def check_type(owner: Any, field: str, *expected: type) -> None:
    """Raise ConfigError unless a field holds an instance of a type; a class in its place is a common slip."""
    value = getattr(owner, field)
    if not isinstance(value, expected):
        hint = f"; write {value.__name__}()" if isinstance(value, type) else ""
        names = " or ".join(_article(t.__name__) for t in expected)
        raise ConfigError(f"{_of(owner, field)} must be {names}, not {value!r}{hint}")


def check_callable(name: str, value: Any) -> None:
    """Raise ConfigError unless a value can be called; a class in its place is a common slip, and is refused."""
    if not callable(value) or isinstance(value, type):
        hint = f"; write {value.__name__}(...)" if isinstance(value, type) else ""
        raise ConfigError(f"{name} must be callable, not {value!r}{hint}")


def _of(owner: Any, field: str) -> str:
    return f"{type(owner).__name__}'s {field}"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def check_batch_size(batch_size: int, n: int) -> int:
    """The batch size to use for ``n`` examples; a size larger than that means one batch."""
    return min(check_count("batch_size", batch_size), n)


_IN_THE_DOOR = (
    "TargetKind",
    "check_finite",
    "check_lengths",
    "check_rows",
    "check_sample_weight",
    "check_target",
    "enter",
    "enter_target",
    "memory_named",
)

if not TYPE_CHECKING:  # types are checked without the old names
    __getattr__ = moved(__name__, dict.fromkeys(_IN_THE_DOOR, "portnn.door"), since="0.2", until="0.4")
