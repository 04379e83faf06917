"""Preparing the next items in a thread while the current one is used."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from portnn.backend import backend_class_of
from portnn.checks import check_count
from portnn.errors import DataError

__all__ = ["handed_over", "prefetch"]

T = TypeVar("T")

#: Seconds between two looks of the consumer at the rest of the world, while the next item is not there.
_LOOK_EVERY = 0.02

#: How long the end waits for a thread that is about to end, too; one whose source waits is left behind.
_PATIENCE = 0.25


def prefetch(source: Iterator[T], depth: int = 2) -> Generator[T]:
    """The items of an iterator, of which a thread prepares up to ``depth`` in advance.

    What the iterator raises is raised here, in its place among the items. Closing the generator, or an exception in the
    loop around ``contextlib.closing(prefetch(...))``, ends the thread, and closes the iterator if it can be closed: at
    once, or, where the iterator waits for something, as soon as it comes back. Nobody waits for that.

    Arrays are copied as they come, also those within tuples, lists and dicts: many iterators fill the same array again
    and again. Anything else is handed over as it is.

    Parameters
    ----------
    source : iterator
        Advanced in the thread, and by nobody else.
    depth : int, default 2
        How many finished items wait at most; one more may be in the making.

    Raises
    ------
    DataError
        In a process that was forked meanwhile: the thread is not in it.

    Examples
    --------
    >>> list(prefetch(iter("abc")))
    ['a', 'b', 'c']
    """
    check_count("depth", depth)
    return handed_over(_copied(source), depth)


def handed_over(source: Iterator[T], depth: int = 2, while_waiting: Callable[[], object] | None = None) -> Generator[T]:
    """As `prefetch`, of an iterator whose items are nobody else's: they are not copied.

    Parameters
    ----------
    source, depth
        As there.
    while_waiting : callable, optional
        Called without arguments some 50 times a second while the next item is not there; what it raises is raised here,
        and ends the thread.
    """
    ahead = _Ahead(source, depth)
    thread = threading.Thread(target=ahead.fill, name="portnn prefetch", daemon=True)
    thread.start()
    patience = _PATIENCE
    try:
        while True:
            while (found := ahead.next(_LOOK_EVERY)) is None:
                if not thread.is_alive() and not ahead.ready:
                    raise DataError("the thread that reads ahead is not in this process, which was forked: begin anew")
                if while_waiting is not None:
                    patience = 0.0
                    while_waiting()
                    patience = _PATIENCE
            kind, value = found
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        ahead.give_up()
        thread.join(patience)


def _copied(source: Iterator[T]) -> Iterator[T]:
    try:
        for item in source:
            yield _copy(item)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _copy(item: Any) -> Any:
    if type(item) in (tuple, list):
        return type(item)(_copy(part) for part in item)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(_copy(part) for part in item))
    if type(item) is dict:
        return {key: _copy(part) for key, part in item.items()}
    library = backend_class_of(type(item))
    # The numbers of NumPy are of its library, too, and nobody can change them.
    return library.from_array(item).copy(item) if library is not None and hasattr(item, "__setitem__") else item


class _Ahead(Generic[T]):
    """What the two threads share: the items that are ready, and whether anybody wants more.

    Parameters
    ----------
    source : iterator
    depth : int
    """

    def __init__(self, source: Iterator[T], depth: int) -> None:
        self._source, self._depth = source, depth
        self.ready: deque[tuple[str, Any]] = deque()
        self._given_up = False
        self._changed = threading.Condition()
        _alive.add(self)

    def next(self, seconds: float) -> tuple[str, Any] | None:
        """The next item, the end or an error, by its kind; None if it does not come in some time."""
        with self._changed:
            end = time.monotonic() + seconds
            while not self.ready and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            if not self.ready:
                return None
            found = self.ready.popleft()
            self._changed.notify_all()
            return found

    def give_up(self) -> None:
        """Let go of what is ready, and want no more."""
        with self._changed:
            self._given_up = True
            self.ready.clear()
            self._changed.notify_all()

    def fill(self) -> None:
        """The thread."""
        try:
            for item in self._source:
                if not self._put(("item", item)):
                    break
                del item  # a whole batch, which may be done with before the next one comes
            end: tuple[str, Any] = ("end", None)
        except BaseException as error:  # also KeyboardInterrupt and SystemExit: all are the consumer's to handle
            end = ("error", error)
        try:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            end = ("error", error)
        self._put(end)

    def _put(self, entry: tuple[str, Any]) -> bool:
        """Wait for a place; whether the entry is wanted at all."""
        with self._changed:
            while len(self.ready) >= self._depth and not self._given_up:
                self._changed.wait()
            if not self._given_up:
                self.ready.append(entry)
                self._changed.notify_all()
            return not self._given_up

    def forget_thread(self) -> None:
        """In a forked child: nobody fills any more, or holds the lock."""
        self._changed = threading.Condition()


_alive: weakref.WeakSet[_Ahead[Any]] = weakref.WeakSet()


def _forget_threads() -> None:
    for ahead in list(_alive):
        ahead.forget_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
