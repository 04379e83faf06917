"""What shows how far a run is, and ends no run where it cannot be shown."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["Display", "say"]


class Display:
    """Shows things until that fails once: a terminal that has gone, a closed stream, or none at all.

    >>> display = Display()
    >>> def gone():
    ...     raise BrokenPipeError(32, "Broken pipe")
    >>> display.show(gone)
    False
    >>> display.show(lambda: print("again"))  # quiet from now on
    False
    """

    def __init__(self) -> None:
        self.quiet = False

    def show(self, action: Callable[[], object]) -> bool:
        """Call a function that writes to a stream, unless one before has failed; whether it was shown."""
        if not self.quiet:
            try:
                action()
            # A write fails with OSError, a closed file with ValueError, and sys.stderr may be None; in a notebook
            # without its widgets, tqdm raises ImportError.
            except (OSError, ValueError, AttributeError, ImportError):
                self.quiet = True
        return not self.quiet


def say(text: str) -> None:
    """Print a line on standard output, where there is one."""
    Display().show(lambda: print(text, file=sys.stdout))
