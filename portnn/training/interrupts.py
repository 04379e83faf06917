"""Signals that ask a run to end: between two steps, and not within one."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = ["Stoppable", "Stopped", "StoppedBy", "between_steps", "stop_on_signals", "while_waiting_for_data"]


class Stoppable(Protocol):
    """A run that can be asked to end after the current step."""

    @property
    def stopping(self) -> bool: ...

    def stop(self) -> None: ...


class Stopped(Exception):
    """Ends a wait of a run that was asked to stop."""


#: The handlers that ours stand for now, the innermost last.
_replaced: list[dict[int, Any]] = []


@contextmanager
def _handlers(ours: Mapping[int, Callable[..., None]]) -> Iterator[None]:
    """Handle some signals within the block; in this process, and not in one that is forked meanwhile."""
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    _replaced.append(before)
    try:
        yield
    finally:
        _replaced[:] = [entry for entry in _replaced if entry is not before]
        for number, handler in before.items():
            signal.signal(number, handler)


def _restore() -> None:
    """In a forked child, which does not end the run of its parent: a worker would live on after its SIGTERM."""
    while _replaced:
        for number, handler in _replaced.pop().items():
            signal.signal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore)


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

    try:
        with _handlers({signal.SIGINT: note}):
            yield check
    finally:
        check()  # also where another exception ends the block: a Ctrl-C is never lost


def while_waiting_for_data(
    trainer: Stoppable, interruptible: Callable[[], None], before_interrupt: Callable[[], None]
) -> Callable[[], None]:
    """A `Feed.while_waiting` of data that are only looked at: once a run is to stop, they have a second to come.

    ``before_interrupt`` is called before ``interruptible`` ends the run by KeyboardInterrupt.
    """
    noticed = math.inf

    def look() -> None:
        nonlocal noticed
        try:
            interruptible()
        except KeyboardInterrupt:
            trainer.stop()  # tells the callbacks
            before_interrupt()
            raise
        if trainer.stopping:
            noticed = min(noticed, time.monotonic())
            if time.monotonic() - noticed > 1.0:
                raise Stopped

    return look


class StoppedBy:
    """Which signal asked for the end of a run.

    Attributes
    ----------
    signal : int or None
    exit_code : int
        What shells expect of a program that ended so: 128 + the signal's number (130 for SIGINT, 143 for SIGTERM); 0
        without a signal.
    """

    signal: int | None = None

    @property
    def exit_code(self) -> int:
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def stop_on_signals(trainer: Stoppable) -> Iterator[StoppedBy]:
    """Within the block, SIGINT (Ctrl-C) or SIGTERM lets `Trainer.fit` finish its step, and then end.

    A `Checkpoint` among the callbacks saves at that end. A second signal ends the process at once. For the main
    thread of a program; the block gives a ``StoppedBy``.
    """
    stopped, numbers = StoppedBy(), (signal.SIGINT, signal.SIGTERM)

    def first(number: int, frame: Any) -> None:
        stopped.signal = number
        trainer.stop()
        for each in numbers:
            # The system's own way: the second one ends the process also within a long computation, where Python waits.
            signal.signal(each, signal.SIG_DFL)

    with _handlers(dict.fromkeys(numbers, first)):
        yield stopped
