"""What is said of a library and its device: whether they can be used, and what memory there is."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

__all__ = ["Memory", "Status", "first_line", "library_status"]


class Status(NamedTuple):
    """Whether a backend can be used here; if not, one sentence that says why and what to do."""

    usable: bool
    message: str
    version: str = ""


def library_status(module: str, name: str, install: str) -> Status:
    """Whether a library can be imported: the first half of a backend's status.

    Parameters
    ----------
    module : str
        The module to import.
    name : str
        The library's name in sentences.
    install : str
        What to do where it is missing.
    """
    try:
        library = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return Status(False, f"{name} is not installed: {install}")
        return Status(False, f"{name} is installed but cannot be imported: {error}")
    except Exception as error:  # a missing shared library, an ABI mismatch, two wheels side by side: no common type
        return Status(False, f"{name} is installed but cannot be imported: {first_line(error)}")
    return Status(True, "ready", str(library.__version__))


def first_line(error: BaseException) -> str:
    """An error of another library in one line, for a sentence of ours."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]


class Memory(NamedTuple):
    """Bytes of a device's memory; None where the library does not tell.

    Attributes
    ----------
    free, total : int or None
        Of the device, for all processes together.
    used, held : int or None
        What the arrays of this process take, and what its library holds to hand it out again. ``free + held - used``
        is what new arrays can have.
    """

    free: int | None = None
    total: int | None = None
    used: int | None = None
    held: int | None = None

    @property
    def available(self) -> int | None:
        """What new arrays can have."""
        return None if self.free is None else self.free + (self.held or 0) - (self.used or 0)
