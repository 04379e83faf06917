"""Streams and graphs: work on a stream other than the null one is done when somebody waits for it.

What is launched while a stream is captured is not computed, until the graph is launched: then it is done on the very
addresses of the recording, with the numbers of the recording.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from . import shortage

Work = Callable[[], Any]

#: Whether a branch of a graph is done before what is recorded beside it, or after it.
branches_first = False

_local = threading.local()
_never_waiting: list[bool] = []


class Graph:
    def __init__(self, works: list[Work]) -> None:
        self.works, self.launches = works, 0

    def launch(self, stream: Stream | None = None) -> None:
        shortage.call_of_runtime("launch of a graph")
        self.launches += 1
        for work in self.works:
            (stream or get_current_stream()).do(work)


class Stream:
    """Stands for ``cupy.cuda.Stream``."""

    known: dict[int, Stream] = {}

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "a blocking stream waits for the null stream"
        shortage.call_of_runtime("stream")
        self._begin()

    def _begin(self) -> None:
        self.ptr = 1 + len(Stream.known)
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        #: While it is a branch of what another stream records: that one, and how much it had recorded then.
        self.branch_of: tuple[Stream, int] | None = None
        #: Milliseconds that the work took which has been done, as far as anybody tells.
        self.clock = 0.0
        self._one_at_a_time = threading.RLock()
        Stream.known[self.ptr] = self

    @property
    def is_immediate(self) -> bool:
        return False

    def do(self, work: Work) -> None:
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.waiting.append(work)

    def refuse_if_captured(self, what: str) -> None:
        if self.captured is not None:
            raise RuntimeError(f"{what}: the current stream is capturing")

    def synchronize(self) -> None:
        self.refuse_if_captured("synchronize")
        with self._one_at_a_time:  # two threads may wait for it
            while self.waiting:
                self.waiting.pop(0)()

    def record(self) -> Any:
        return SimpleNamespace(stream=self, synchronize=self.synchronize, captured=self.captured is not None)

    def wait_event(self, event: Any) -> None:
        other = event.stream
        if not event.captured:
            self.refuse_if_captured("cudaErrorStreamCaptureIsolation, an event that is not of the graph")
            other.synchronize()
        elif self.captured is None:
            self.captured, self.branch_of = [], (other, len(other.captured))
        else:
            assert other.branch_of is not None
            assert other.branch_of[0] is self, "a branch ends where it began"
            # Both orders are right, or nothing is: the graph says no more.
            at = other.branch_of[1] if branches_first else len(self.captured)
            self.captured[at:at] = other.captured
            other.captured = other.branch_of = None

    def begin_capture(self) -> None:
        if self.captured is not None:
            raise RuntimeError("cudaErrorIllegalState: the stream is being captured already")
        self.captured = []

    def end_capture(self) -> Graph:
        works, self.captured = self.captured, None
        assert works is not None, "nothing was being captured"
        open_branches = [stream for stream in Stream.known.values() if stream.branch_of and stream.branch_of[0] is self]
        for stream in open_branches:
            stream.captured = stream.branch_of = None
        if open_branches:
            raise RuntimeError("cudaErrorStreamCaptureUnjoined: a branch of the graph was not waited for")
        shortage.call_of_runtime("graph")
        return Graph(works)

    def __enter__(self) -> Stream:
        _streams().append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _streams().pop()


class Event:
    """Stands for ``cupy.cuda.Event``."""

    def __init__(self, disable_timing: bool = False) -> None:
        shortage.call_of_runtime("event")
        self._timed = not disable_timing
        self.time: float | None = None
        self.stream: Stream | None = None
        self.captured = False

    def record(self, stream: Stream) -> None:
        # While a stream is captured, it is a node of the graph, which no clock is read for.
        self.stream, self.time, self.captured = stream, None, stream.captured is not None
        if self._timed and not self.captured:
            stream.do(lambda: setattr(self, "time", stream.clock))

    def synchronize(self) -> None:
        assert self.stream is not None, "the event was never recorded"
        self.stream.synchronize()


def get_elapsed_time(begin: Event, end: Event) -> float:
    """Milliseconds between two events."""
    if begin.time is None or end.time is None:
        raise RuntimeError("cudaErrorInvalidResourceHandle: an event was not recorded, or while a stream was captured")
    return end.time - begin.time


class _Null(Stream):
    def __init__(self) -> None:
        self._begin()

    @property
    def is_immediate(self) -> bool:
        return True

    def do(self, work: Work) -> None:
        work()

    def begin_capture(self) -> None:
        raise RuntimeError("the null stream cannot be captured")


_NULL = _Null()


def _streams() -> list[Stream]:
    if not hasattr(_local, "streams"):
        _local.streams = [_NULL]
    streams: list[Stream] = _local.streams
    return streams


def get_current_stream() -> Stream:
    return _streams()[-1]


@contextlib.contextmanager
def never_waiting() -> Iterator[None]:
    """Inside, an array that becomes a number or goes to the host raises."""
    _never_waiting.append(True)
    try:
        yield
    finally:
        _never_waiting.pop()


def wait(what: str) -> None:
    """Wait for the current stream, so that the host can read what it has made."""
    assert not _never_waiting, f"{what}: this waits for the device"
    stream = get_current_stream()
    stream.refuse_if_captured("cudaMemcpy")
    stream.synchronize()
