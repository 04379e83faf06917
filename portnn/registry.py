"""How backends are found: under the entry-point group ``portnn.backends``, by their names, aliases and types of arrays.

The registry looks at no more of a class than `Registered` says. What a backend is stands in `portnn.backend`, above,
and so do the functions that people call.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from portnn.errors import BackendError
from portnn.status import Status, first_line

__all__ = ["Registered", "available_backends", "class_of", "opened"]


class Registered:
    """What is asked of every class that is advertised; the only one that is meant to derive from it is `Backend`.

    Attributes
    ----------
    name, aliases, array_modules
        See `portnn.backend.Backend`.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    array_modules: ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class _Broken:
    """Stands for an entry point that cannot be used, so that it does not take the others down.

    ``aliases`` and ``array_modules`` are what it claims beside its name: who asks for one of them is told.
    """

    name: str
    message: str
    aliases: tuple[str, ...] = ()
    array_modules: tuple[str, ...] = ()


@functools.cache
def _discover() -> Mapping[str, type[Any] | _Broken]:
    """Every advertised backend class by name, in the order of the names.

    Where two claim the same name, alias or module, nobody can say whose it is: both are broken.
    """
    from importlib.metadata import entry_points  # 20 ms, and not needed for every use of portnn

    found: dict[str, type[Any] | _Broken] = {}
    sources: dict[str, Any] = {}
    for entry in sorted(entry_points(group="portnn.backends"), key=lambda e: (e.name, e.value)):
        try:
            loaded: type[Any] | _Broken = _checked(entry.load(), entry.name)
        except Exception as error:
            # Somebody else's code: whatever it raises must end up in a sentence of the table.
            loaded = _Broken(entry.name, f"{entry.value} cannot be loaded: {first_line(error)}")
        if entry.name in found and loaded is not found[entry.name]:
            both = _name_two(sources[entry.name], entry)
            loaded = _Broken(entry.name, f"{both} advertise a backend called {entry.name!r}: uninstall one of them")
        found[entry.name], sources[entry.name] = loaded, entry
    for first, second in itertools.combinations([e for e in found.values() if not isinstance(e, _Broken)], 2):
        names = {first.name, *first.aliases} & {second.name, *second.aliases}
        modules = {*first.array_modules} & {*second.array_modules}
        if names or modules:
            both = _name_two(sources[first.name], sources[second.name])
            what = f"the device {min(names)!r} is" if names else f"the arrays of {min(modules)} are"
            for one in (first, second):
                message = f"{both} both say that {what} theirs: uninstall one of them"
                found[one.name] = _Broken(one.name, message, tuple(one.aliases), tuple(one.array_modules))
    return found


def _name_two(one: Any, other: Any) -> str:
    """Two entry points, as the subject of a sentence."""
    named = [f"{e.value} (entry point {e.name!r}{f' of {e.dist.name}' if e.dist else ''})" for e in (one, other)]
    return " and ".join(named)


def _checked(loaded: Any, name: str) -> type[Any]:
    if not (isinstance(loaded, type) and issubclass(loaded, Registered)):
        raise TypeError(f"{loaded!r} is no subclass of portnn.backend.Backend")
    if getattr(loaded, "name", None) != name:
        raise ValueError(f"the class must have name = {name!r}, like its entry point")
    if not hasattr(loaded, "array_modules"):
        raise ValueError("the class must say in array_modules where its arrays are defined")
    for claim in ("aliases", "array_modules"):
        value = getattr(loaded, claim)
        if isinstance(value, str) or not all(isinstance(name, str) for name in value):  # "numpy" has "num" in it
            raise TypeError(f"{claim} must be a tuple of names, not {value!r}")
    for module in loaded.array_modules:
        top, dot, _ = module.partition(".")
        if dot:
            raise ValueError(f"array_modules are top-level modules, such as {top!r}, not {module!r}")
    lacking = sorted(getattr(loaded, "__abstractmethods__", ()))
    if lacking:
        raise TypeError(f"the class lacks {', '.join(lacking)}: see portnn.backend.Backend")
    return loaded


def available_backends() -> dict[str, Status]:
    """The status of every registered backend, by name. Imports the libraries that are installed."""
    return {name: _status(entry) for name, entry in _discover().items()}


def _status(entry: type[Any] | _Broken) -> Status:
    if isinstance(entry, _Broken):
        return Status(False, entry.message)
    try:
        return Status(*entry.status())
    except Exception as error:  # as above
        return Status(False, f"its status cannot be found out: {first_line(error)}")


def opened(device: str) -> Any:
    """The backend of a device name; see `portnn.backend.get_backend`."""
    if not isinstance(device, str):
        raise BackendError(f'a device is given by its name, such as "cpu" or "torch:cuda", not by {device!r}')
    name, _, where = device.partition(":")
    classes = _discover()
    for entry in classes.values():
        if name in entry.aliases:
            name = entry.name
    if not classes:
        raise BackendError(
            "no backend is registered: portnn must be installed, not only on the path (pip install -e .)"
        )
    if name not in classes:
        aliases = [alias for entry in classes.values() for alias in entry.aliases]
        raise BackendError(f"unknown device {device!r}; known are {', '.join(sorted([*aliases, *classes]))}")
    entry = classes[name]
    status = _status(entry)
    if isinstance(entry, _Broken) or not status.usable:
        raise BackendError(status.message)
    return entry(where or None)


def class_of(array_type: type) -> type[Any] | None:
    """See `portnn.backend.backend_class_of`."""
    module = array_type.__module__.partition(".")[0]
    for entry in _discover().values():
        if module in entry.array_modules:
            if isinstance(entry, _Broken):
                raise BackendError(entry.message)
            return entry
    return None
