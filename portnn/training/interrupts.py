"""Ctrl-C between two steps, and not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["between_steps"]


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold KeyboardInterrupt back until the function that the block gets is called, or the block ends.

    A second Ctrl-C acts at once.

    A step gives up its parameters for new ones: interrupted halfway, the network would have neither. Does nothing
    outside of the main thread, or where somebody else handles the signal.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield lambda: None
        return
    asked = False

    def note(*_: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        check()  # also where another exception ends the block: a Ctrl-C is never lost
