"""Names that moved: they stay importable where they were, and warn, until a version that each of them names."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["ALIASES", "Alias", "moved"]


class Alias(NamedTuple):
    """Where a name was, and is; the version in which it moved, and the one that has it in its new place only."""

    old: str
    new: str
    since: str
    until: str


#: Of the modules that have been imported.
ALIASES: list[Alias] = []


def moved(module: str, homes: Mapping[str, str], *, since: str, until: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module (PEP 562) some names of which are elsewhere: in "module", or as "module:name"."""
    places = {name: (home if ":" in home else f"{home}:{name}").split(":") for name, home in homes.items()}
    aliases = {name: Alias(f"{module}.{name}", ".".join(place), since, until) for name, place in places.items()}
    ALIASES.extend(aliases.values())

    def find(name: str) -> Any:
        if name not in aliases:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        old, new, since, until = aliases[name]
        warnings.warn(
            f"{old} is {new} since portnn {since}; the old name goes in {until}", DeprecationWarning, stacklevel=2
        )
        home, new_name = places[name]
        return getattr(import_module(home), new_name)

    return find
