"""What may be in a record, in a callback's state, and in the description of a run: what comes back as it was."""

from __future__ import annotations

import dataclasses
import numbers
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from portnn.backend import as_host, backend_class_of
from portnn.errors import ConfigError, DataError

__all__ = ["as_number", "as_plain", "check_count_of", "read_fields", "tidy", "write_fields"]

T = TypeVar("T")


def as_number(value: Any) -> int | float | None:
    """A number as an int or float: of Python (a truth value is 0 or 1), of NumPy, or a 0-d array; None for all else."""
    if not isinstance(value, numbers.Real) and backend_class_of(type(value)) is not None and value.ndim == 0:
        try:
            value = as_host(value)[()]
        except DataError:  # of text, or complex
            return None
    if type(value).__name__ == "bool":  # of NumPy: no Integral
        value = bool(value)
    if isinstance(value, numbers.Integral) and abs(int(value)) < 2**63:
        return int(value)
    if not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of 400 digits
        return None


def tidy(record: dict[Any, Any], culprit: str = "") -> None:
    """Make the values of a record ints and floats, in place.

    Raises
    ------
    ConfigError
        If a value is no number, or a name no text; that column is taken out. The sentence names it.
    """
    for name, value in list(record.items()):
        number = as_number(value)
        if not isinstance(name, str) or number is None:
            del record[name]
            what = f"a value of type {type(value).__name__}" if isinstance(name, str) else "a name that is no text"
            raise ConfigError(
                f"{what} cannot be saved: records and callbacks hold numbers, and column {name!r} is {value!r}{culprit}"
            )
        record[name] = number


def as_plain(value: Any, where: str) -> Any:
    """A value as what JSON holds and gives back: numbers, text, None, lists and dicts by text.

    Raises ConfigError if there is something else in it; the sentence names the place.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    if type(value).__name__ == "bool":  # NumPy's, too
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)  # of any length, as JSON has them: a seed of 64 bits is no float
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{where} cannot be saved: the keys of a dict must be text, not {list(value)!r}")
        return {str(key): as_plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    number = as_number(value)
    if number is None:
        raise ConfigError(
            f"{where} cannot be saved: it is a value of type {type(value).__name__}, and what JSON can hold is needed "
            "(arrays belong into the callback's arrays())"
        )
    return number


def write_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON can hold them; the inverse of `read_fields`.

    Raises ConfigError for what that could not read.
    """
    name = type(value).__name__
    said = {f.name: as_plain(getattr(value, f.name), f"{name}.{f.name}") for f in dataclasses.fields(value)}
    try:
        read_fields(type(value), said)
    except (DataError, TypeError, AttributeError) as error:
        raise ConfigError(f"{name} cannot be saved: {error}") from None
    return said


def read_fields(kind: type[T], said: Any) -> T:
    """A dataclass from its fields, each as its annotation says; what an older file does not say keeps its default.

    Raises DataError, TypeError or AttributeError if a value is of another type.
    """
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # a dataclass
        try:
            value = said[field.name]
        except KeyError:
            continue
        value = _read(hints[field.name], value, field.name)
        found[field.name] = float(value) if hints[field.name] is float else value
    return kind(**found)


def _read(hint: Any, value: Any, name: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is list:
        if not isinstance(value, list):
            raise DataError(f"{name} is {value!r}, and no list")
        return [_read(typing.get_args(hint)[0], item, name) for item in value]
    if origin is dict:
        key, each = typing.get_args(hint)
        return {_read(key, k, name): _read(each, v, name) for k, v in value.items()}
    if hint is float:  # an int stays one, such as the epoch in a record
        if type(value) not in (int, float):
            raise DataError(f"{value!r} is no number")
        return value
    if hint is int:
        return check_count_of(value, -(2**63))
    if type(value) is not hint:
        raise DataError(f"{name} is {value!r}, and no {hint.__name__}")
    return value


def check_count_of(value: Any, low: int = 0) -> int:
    """The value, if it is an int from ``low`` on that 64 bits can hold; else DataError."""
    if type(value) is not int or not low <= value < 2**63:
        raise DataError(f"{value!r} is no count")
    return value
