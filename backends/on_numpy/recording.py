"""What writes down the steps of this thread, if anything does: light, as every twin asks."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["recorder", "recording"]


class _Here(threading.local):
    recorder: Any = None


_here = _Here()


def recorder() -> Any:
    """The `Recorder` of this thread; None where nothing is written down."""
    return _here.recorder


class recording:
    """Within the block, a recorder writes down what this thread asks NumPy for."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._before, _here.recorder = _here.recorder, self._what

    def __exit__(self, *_: object) -> None:
        _here.recorder = self._before
