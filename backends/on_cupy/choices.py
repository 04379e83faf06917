"""Which algorithms a clock has chosen: for a run, and for the machine, in memory and on disk.

The clock may choose otherwise another time, and another algorithm rounds otherwise. So a choice that was made stays:
within a process; for later ones on the same machine, by a file for each kind of device and version of cuBLASLt, in the
folder that ``CUPY_CACHE_DIR`` names, else in the user's folder for such things; and, by checkpoints, for the run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portnn.backend import first_line
from portnn.errors import PortnnError
from portnn.storage import write_atomically

from ..folders import user_folder

__all__ = ["Choices", "Machine", "machine"]

_log = logging.getLogger(__name__)

#: An algorithm of cuBLASLt: 64 bytes.
_ALGORITHM = re.compile("[0-9a-f]{128}")


class Machine:
    """What was chosen on machines of one kind.

    Parameters
    ----------
    name : str
        All that a choice depends on: device, version of cuBLASLt, driver.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: dict[str, str] = {}
        #: What the file is known to hold, and when it was last changed.
        self._written: dict[str, str] = {}
        self._seen: tuple[int, int] | None = None
        self._complained = False
        self._lock = threading.Lock()
        folder = _folder()
        short = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._file = None if folder is None else folder / f"cublaslt-{short}.json"

    def get(self, problem: str) -> str | None:
        with self._lock:
            if problem not in self._known:
                self._look()
            return self._known.get(problem)

    def put(self, problem: str, algorithm: str) -> None:
        with self._lock:
            self._known[problem] = algorithm

    def write(self) -> None:
        """To disk, what is new."""
        with self._lock:
            new = {key: value for key, value in self._known.items() if self._written.get(key) != value}
            if self._file is None or not new:
                return
            together = self._read() | new  # other processes write to it, too
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._file, _described(self.name, together))
            except (OSError, PortnnError) as error:
                self._file = None  # said once
                _log.warning(
                    "the algorithms that were timed for products cannot be kept on disk, so each process times them: "
                    "%s (CUPY_CACHE_DIR names another folder)",
                    first_line(error),
                )
            else:
                self._written = together

    def _look(self) -> None:
        """Take over what other processes have chosen meanwhile."""
        if self._file is None:
            return
        try:
            found = self._file.stat()
        except OSError:  # there is none yet, or it cannot be reached, which is said when it is written
            return
        if self._seen == (found.st_mtime_ns, found.st_size):
            return
        self._seen = found.st_mtime_ns, found.st_size
        self._written = self._read()
        self._known = self._written | self._known

    def _read(self) -> dict[str, str]:
        """What is on disk: nothing, if that is not what was written."""
        assert self._file is not None
        try:
            return _understood(self._file.read_bytes(), self.name)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            if not self._complained:
                self._complained = True
                _log.warning("%s cannot be read, and products are timed anew: %s", self._file, first_line(error))
            return {}


def _described(name: str, algorithms: Mapping[str, str]) -> bytes:
    said = {"machine": name, "algorithms": algorithms, "sha256": _digest(algorithms)}
    return json.dumps(said, indent=1, sort_keys=True).encode()


def _understood(content: bytes, name: str) -> dict[str, str]:
    """The algorithms in a file; ValueError if it is not as it was written."""
    said = json.loads(content)
    if not isinstance(said, dict) or said.get("machine") != name or not _are_algorithms(said.get("algorithms")):
        raise ValueError("it is damaged")
    algorithms: dict[str, str] = said["algorithms"]
    if said.get("sha256") != _digest(algorithms):
        raise ValueError("it is damaged")
    return algorithms


def _digest(algorithms: Mapping[str, str]) -> str:
    # cuBLASLt trusts what it is given: a number that has changed on disk must not come to it.
    return hashlib.sha256(json.dumps(algorithms, sort_keys=True).encode()).hexdigest()


def _are_algorithms(said: Any) -> bool:
    return isinstance(said, dict) and all(
        isinstance(value, str) and _ALGORITHM.fullmatch(value) is not None for value in said.values()
    )


@functools.cache
def machine(name: str) -> Machine:
    """What is known on machines of this name: one for the whole process."""
    return Machine(name)


def _folder() -> Path | None:
    """Where choices are kept; None for nowhere."""
    if chosen := os.environ.get("CUPY_CACHE_DIR"):
        return Path(chosen)
    return user_folder()


class Choices:
    """What was chosen for a run, on whatever machine it began."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._machine: Machine | None = None
        self._taken: dict[str, str] = {}

    def adopt(self, said: Mapping[str, Any]) -> None:
        """Go on with what `told` has told in another process; before the first product."""
        self._said = dict(said)

    def told(self) -> dict[str, Any]:
        """For a checkpoint, as JSON can hold it."""
        if self._machine is None or not self._taken:
            return self._said
        return {"machine": self._machine.name, "algorithms": dict(self._taken)}

    def open(self, name: str) -> None:
        """On a machine of this name: what the run has brought along is of use if it was chosen on one like it."""
        if self._machine is not None and self._machine.name == name:
            return
        self._machine, self._taken = machine(name), {}
        if not self._said:
            return
        algorithms, where = self._said.get("algorithms"), self._said.get("machine")
        if where == name and isinstance(algorithms, dict) and _are_algorithms(algorithms):
            self._taken = dict(algorithms)
            return
        reason = "what it brought along is damaged" if where == name else f"they were chosen on {where}, not on {name}"
        _log.warning("the algorithms of a run's products are chosen anew, so results differ by rounding: %s", reason)

    def get(self, problem: str) -> str | None:
        """The algorithm for a problem: that of the run, or else of the machine; None if there is none yet."""
        assert self._machine is not None
        return self._taken.get(problem) or self._machine.get(problem)

    def take(self, problem: str, algorithm: str) -> None:
        """What the run goes by from now on, and the machine, if it knows nothing better."""
        assert self._machine is not None
        self._taken[problem] = algorithm
        if self._machine.get(problem) is None:
            self._machine.put(problem, algorithm)

    def replace(self, problem: str, algorithm: str) -> None:
        """As `take`; what the machine knew is of no use."""
        assert self._machine is not None
        self._taken[problem] = algorithm
        self._machine.put(problem, algorithm)

    def write(self) -> None:
        """Keep on disk what is new."""
        if self._machine is not None:
            self._machine.write()
