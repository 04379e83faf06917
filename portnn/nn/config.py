"""Layers as JSON and back, by the names of their classes; reading one runs no code that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from portnn.errors import ConfigError, PortnnError
from portnn.nn.initializers import Initializer
from portnn.nn.layer import Layer, Parameterless

__all__ = ["from_config", "to_config"]


def to_config(value: Any) -> Any:
    """A layer, initializer or plain field value as what JSON can hold.

    >>> from portnn import nn
    >>> to_config(nn.ReLU())
    {'type': 'ReLU'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {f.name: to_config(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [to_config(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"an object of type {type(value).__name__} cannot be saved: a layer must be a dataclass, "
        "and its fields numbers, strings, dataclasses, or tuples of those"
    )


def from_config(config: Any, classes: Iterable[type] = ()) -> Any:
    """The inverse of `to_config`.

    Parameters
    ----------
    config : what `to_config` returned
    classes : iterable of type
        Classes of the caller's that the description may name, beside those of `portnn.nn`.

    Raises
    ------
    ConfigError
        If the description names another class or does not fit the class that it names.
    """
    return _build(config, _own_classes() | {c.__name__: c for c in classes})


def _own_classes() -> dict[str, type]:
    """The layers and initializers of `portnn.nn`, and nothing that others derive from them."""
    found = [*_below(Layer), *_below(Initializer)]
    return {c.__name__: c for c in found if c.__module__.startswith("portnn.nn.") and c is not Parameterless}


def _below(base: type) -> Iterator[type]:
    sub: type
    for sub in base.__subclasses__():
        yield sub
        yield from _below(sub)


def _build(config: Any, known: Mapping[str, type]) -> Any:
    if isinstance(config, list):
        return tuple(_build(c, known) for c in config)
    if not isinstance(config, dict):
        return config
    name = config.get("type")
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{name!r} is no layer of portnn; classes of your own go into classes=")
    arguments = {key: _build(value, known) for key, value in config.items() if key != "type"}
    try:
        return known[name](**arguments)
    except PortnnError as error:
        raise ConfigError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be built from {arguments}: {error}") from None
