"""Who may overwrite the arrays of a network: its steps, as long as nobody else has them."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from portnn import tree
from portnn._typing import Array, Tree

__all__ = ["Trees"]

#: Seconds that a step waits for a thread that would never get its turn between two steps otherwise.
_COURTESY = 0.0005

#: Seconds that a fork waits for the steps of other threads.
_FORK_WAITS = 1.0


class _Pair:
    """Parameters and state of one moment.

    Attributes
    ----------
    given : bool
        Whether others may have these trees, or parts of them, for as long as they like.
    readers : set
        One entry for each that has them for a while.
    """

    __slots__ = ("given", "params", "readers", "state")

    def __init__(self, params: Tree, state: Tree, given: bool) -> None:
        self.params, self.state, self.given = params, state, given
        self.readers: set[object] = set()


class _Turn:
    """See `Trees.turn`. A class: each prediction takes several turns, and a generator takes three times as long."""

    __slots__ = ("_lock", "_trees")

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def __enter__(self) -> None:
        self._lock = self._trees.enter_turn()

    def __exit__(self, *_: object) -> None:
        self._lock.release()  # the same one: a child that was forked within the block has another


class _Reading:
    """See `Trees.reading`."""

    __slots__ = ("_pair", "_trees")

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def __enter__(self) -> tuple[Tree, Tree]:
        self._pair = self._trees.enter_reading(self)
        return self._pair.params, self._pair.state

    def __exit__(self, *_: object) -> None:
        self._pair.readers.discard(self)


class Trees:
    """Parameters and state, which steps overwrite, and which anybody may have from any thread.

    A step gives up the arrays that it begins with: it writes into them, or their memory is freed. So whatever leaves
    this object is noted, and a step that finds its arrays in other hands goes on with copies. Whose an array is could
    not be told from the array: it may be a part of another one, or of another network.

    Parameters
    ----------
    params, state : tree of arrays
    given : bool, default False
        Whether somebody else has them, too.

    Attributes
    ----------
    seen : object
        What somebody has noted of the trees that are here; None again where there are others.
    """

    def __init__(self, params: Tree, state: Tree, given: bool = False) -> None:
        self._now = _Pair(params, state, given)
        self.seen: Any = None
        self._lock = threading.RLock()
        self._waiting: set[object] = set()
        _register_at_fork()
        _alive.add(self)

    def exclusive(self) -> AbstractContextManager[object]:
        """For the thread that trains, around a step: nobody else sees half of it."""
        if self._waiting:
            time.sleep(_COURTESY)
        return self._lock

    def turn(self) -> AbstractContextManager[None]:
        """For any thread: within the block no step is under way, or it is one of the same thread."""
        return _Turn(self)

    def enter_turn(self) -> Any:
        """Begin a `turn`: the lock, which is to be released at its end."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            me = object()
            self._waiting.add(me)
            try:
                lock.acquire()
            finally:
                self._waiting.discard(me)
        return lock

    @property
    def now(self) -> tuple[Tree, Tree]:
        """Parameters and state, for as long as a `turn` lasts."""
        return self._now.params, self._now.state

    def give(self) -> tuple[Tree, Tree]:
        """Parameters and state, of the same moment, for good."""
        with self.turn():
            self._now.given = True
            return self._now.params, self._now.state

    def reading(self) -> AbstractContextManager[tuple[Tree, Tree]]:
        """Parameters and state, of the same moment, which nobody overwrites within the block."""
        return _Reading(self)

    def enter_reading(self, me: object) -> _Pair:
        """Begin a `reading`, which ends when ``me`` is no longer among the readers of what it gives."""
        lock = self.enter_turn()
        try:
            now = self._now
            now.readers.add(me)
            return now
        finally:
            lock.release()

    def take(self, params: Tree, state: Tree) -> None:
        """Both at once, from somebody who may keep them."""
        with self.turn():
            self._now, self.seen = _Pair(params, state, given=True), None

    def in_other_hands(self) -> bool:
        """Whether somebody else has the trees that are here now, or put them here."""
        return self._now.given or bool(self._now.readers)

    def own(self, copy: Callable[[Array], Array]) -> tuple[Tree, Tree]:
        """Parameters and state in arrays that nobody else has: copies, where somebody has; for `exclusive` blocks."""
        now = self._now
        if self.in_other_hands():
            # Leaf by leaf: also an array that is in the trees twice must not be written to twice.
            params, state = tree.map(copy, (now.params, now.state))
            self._now, self.seen = (now := _Pair(params, state, given=False)), None
        return now.params, now.state

    def stepped(self, params: Tree, state: Tree) -> None:
        """What a step has made of what it `own`-ed; for `exclusive` blocks."""
        self._now.params, self._now.state, self.seen = params, state, None

    def hold(self, until: float) -> bool:
        """Take the lock for a fork, but wait for it no longer than until some `time.monotonic`."""
        me = object()
        self._waiting.add(me)
        try:
            return self._lock.acquire(timeout=max(0.0, until - time.monotonic()))
        finally:
            self._waiting.discard(me)

    def release(self) -> None:
        """Give back what `hold` took."""
        self._lock.release()

    def forget_threads(self) -> None:
        """In a forked child: no thread is there that holds the lock, or waits for it."""
        self._lock = threading.RLock()
        self._waiting = set()


_alive: weakref.WeakSet[Trees] = weakref.WeakSet()
_held: list[Trees] = []


def _before_fork() -> None:
    """A child begins with whole networks: it is forked between two steps of other threads.

    Unless a step takes very long; it may wait for the very thread that forks.
    """
    until = time.monotonic() + _FORK_WAITS
    _held.extend([trees for trees in list(_alive) if trees.hold(until)])


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for trees in list(_alive):
        trees.forget_threads()


@functools.cache
def _register_at_fork() -> None:
    """Once, and after the backends have done so: the latest goes first, and a step may need what they hold."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
