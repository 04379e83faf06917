"""Numbers that differ from step to step: what is computed with them on the host is computed anew for each step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["StepFloat", "StepInt", "Unrecordable", "plain_number"]


class Unrecordable(Exception):
    """A step does something that cannot be written down; the text says what."""


class _StepNumber:
    """Knows how it comes from the numbers of a step."""

    of: Callable[[Mapping[str, Any]], Any]

    def __bool__(self) -> bool:
        raise Unrecordable("a Python branch on a number of the step")

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        raise Unrecordable("a copy of a number of the step")


class StepInt(_StepNumber, int):
    """A whole number of the step."""

    def __new__(cls, value: int, of: Callable[[Mapping[str, Any]], int]) -> StepInt:
        made = int.__new__(cls, value)
        made.of = of
        return made


class StepFloat(_StepNumber, float):
    """A number of the step, or what was computed from such numbers."""

    def __new__(cls, value: float, of: Callable[[Mapping[str, Any]], float]) -> StepFloat:
        made = float.__new__(cls, value)
        made.of = of
        return made


def plain_number(value: Any) -> Any:
    """Python's own number, which does not know where it comes from; other values as they are."""
    if isinstance(value, StepFloat):
        return float.__float__(value)
    return int.__int__(value) if isinstance(value, StepInt) else value


def _computed(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: Any, *others: Any) -> Any:
        if any(not isinstance(other, int | float) for other in others):
            return NotImplemented  # an array: NumPy sees the number
        value = function(plain_number(self), *map(plain_number, others))

        def again(numbers: Mapping[str, Any]) -> Any:
            return function(*(_again(part, numbers) for part in (self, *others)))

        return StepFloat(value, again) if isinstance(value, float) else StepInt(value, again)

    return compute


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return _computed(lambda a, b: function(b, a))


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *others: Any) -> Any:
        raise Unrecordable(f"{name} of a number of the step, which may come out otherwise in the next one")

    return refuse


def _again(value: Any, numbers: Mapping[str, Any]) -> Any:
    return value.of(numbers) if isinstance(value, _StepNumber) else value


for _kind in (StepInt, StepFloat):
    for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        setattr(_kind, f"__{_name}__", _computed(getattr(operator, f"__{_name}__")))
        setattr(_kind, f"__r{_name}__", _reflected(getattr(operator, f"__{_name}__")))
    for _name in ("neg", "pos", "abs"):
        setattr(_kind, f"__{_name}__", _computed(getattr(operator, f"__{_name}__")))
    for _name in ("eq", "ne", "lt", "le", "gt", "ge", "float", "int", "index", "round", "trunc", "floor", "ceil"):
        setattr(_kind, f"__{_name}__", _refused(_name))
    for _name in ("divmod", "rdivmod", "format", "str"):
        setattr(_kind, f"__{_name}__", _refused(_name))
