"""Sources of data that try the patience of who reads them, and the threads that do."""

import threading
import time
from contextlib import contextmanager

import numpy as np


def on_disk(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def prefetching():
    """The threads of `prefetch` that are alive."""
    return [t for t in threading.enumerate() if t.name == "portnn prefetch"]


@contextmanager
def no_thread_is_left():
    yield
    deadline = time.monotonic() + 10  # nobody waits for them, but they end
    while prefetching() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert prefetching() == []


class Stuck:
    """Gives some items, and then waits for an event; afterwards it says whether it was closed."""

    def __init__(self, items):
        self.items, self.waits, self.come_back, self.closed = items, *(threading.Event() for _ in range(3))

    def __iter__(self):
        try:
            yield from self.items
            self.waits.set()
            assert self.come_back.wait(60)
            yield from self.items
        finally:
            self.closed.set()
