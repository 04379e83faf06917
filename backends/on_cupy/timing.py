"""Work that is captured into a CUDA graph, and how long a device takes for it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy

__all__ = ["captured", "milliseconds"]


def captured(stream: Any, body: Callable[[], Any]) -> tuple[Any, Any]:
    """A graph of what ``body()`` gives the current stream to do, and what that gives."""
    stream.begin_capture()
    try:
        made = body()
    except BaseException:
        with suppress(Exception):  # that the capture is invalid: the error above says why
            stream.end_capture()
        raise
    return stream.end_capture(), made


def milliseconds(stream: Any, body: Callable[[], Any], repeats: int) -> float:
    """What the device takes for what ``body()`` gives a stream to do: the median of some times."""
    times = []
    for _ in range(repeats):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        body()
        end.record(stream)
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end))
    return float(statistics.median(times))
