"""How long the rest of a run takes, by what has been done of it."""

from __future__ import annotations

import statistics
import time

__all__ = ["TimeLeft", "duration"]


class TimeLeft:
    """An estimate for work in equal parts. It begins to count when it is made.

    The first part is left out as soon as there is another one: it also loads and compiles.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._last = time.perf_counter()

    def after_part(self, more: int) -> str:
        """Call it after each part: ", about 20 s left" for so many parts ``more``, and nothing after the last one."""
        now = time.perf_counter()
        self._seconds.append(now - self._last)
        self._last = now
        if more < 1:
            return ""
        return f", about {duration(more * statistics.median(self._seconds[1:] or self._seconds))} left"


def duration(seconds: float) -> str:
    """As people say it: 8 s, 12 min, 3 h 05 min, 2 d 4 h.

    >>> duration(0.2), duration(59.4), duration(90), duration(11_100), duration(187_200)
    ('1 s', '59 s', '2 min', '3 h 05 min', '2 d 4 h')
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    return "{} d {} h".format(*divmod(hours, 24))
