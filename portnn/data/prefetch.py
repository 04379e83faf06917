"""Preparing the next items in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from portnn.checks import check_count

__all__ = ["prefetch"]

T = TypeVar("T")


def prefetch(source: Iterator[T], depth: int = 2) -> Generator[T]:
    """The items of an iterator, of which a thread prepares up to ``depth`` in advance.

    What the iterator raises is raised here, in its place among the items. Closing the generator, or an exception in the
    loop around ``contextlib.closing(prefetch(...))``, ends the thread, and closes the iterator if it can be closed.

    Parameters
    ----------
    source : iterator
        Advanced in the thread, and by nobody else.
    depth : int, default 2
        How many finished items wait at most; one more may be in the making.

    Examples
    --------
    >>> list(prefetch(iter("abc")))
    ['a', 'b', 'c']
    """
    check_count("depth", depth)
    return _items(source, depth)


def _items(source: Iterator[T], depth: int) -> Generator[T]:
    ready: queue.Queue[Any] = queue.Queue(depth)
    given_up = threading.Event()
    thread = threading.Thread(target=_fill, args=(source, ready, given_up), name="portnn prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        given_up.set()
        while thread.is_alive():  # it may wait for a place in the queue
            while not ready.empty():
                ready.get()
            thread.join(0.01)


def _fill(source: Iterator[Any], ready: queue.Queue[Any], given_up: threading.Event) -> None:
    try:
        for item in source:
            ready.put(("item", item))
            if given_up.is_set():
                break
        end: tuple[str, Any] = ("end", None)
    except BaseException as error:  # also KeyboardInterrupt and SystemExit: all are the consumer's to handle
        end = ("error", error)
    try:
        close = getattr(source, "close", None)
        if close is not None:
            close()
    except BaseException as error:
        end = ("error", error)
    ready.put(end)
