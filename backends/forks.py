"""Libraries whose threads and devices do not survive a fork: a child that computed with them would wait for ever."""

from __future__ import annotations

import os
from collections import defaultdict

from portnn.errors import BackendError

__all__ = ["refuse_in_fork"]

#: The processes in which each library has computed: this one, and those that it was forked from.
_computed_in: defaultdict[str, set[int]] = defaultdict(set)


def refuse_in_fork(library: str) -> None:
    """Called where a library begins to compute: BackendError if it had begun before this process was forked."""
    processes = _computed_in[library]
    processes.add(os.getpid())
    if len(processes) > 1:
        raise BackendError(
            f"{library} has computed in the process that this one was forked from, and cannot go on in a fork: start "
            'the process afresh (multiprocessing.get_context("spawn"))'
        )
