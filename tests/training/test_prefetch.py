"""What reads ahead in a thread of its own."""

import itertools
import threading
import time
from collections import namedtuple
from contextlib import closing

import numpy as np
import pytest
from sources import Stuck, no_thread_is_left

from portnn.data import prefetch
from portnn.data.prefetch import handed_over
from portnn.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    with no_thread_is_left():
        yield


def test_prefetch_gives_the_items_in_order():
    assert list(prefetch(iter(range(100)), depth=3)) == list(range(100))
    assert list(prefetch(iter([]))) == []


def test_prefetch_is_ahead_by_no_more_than_its_depth():
    made = []
    source = (made.append(i) or i for i in range(100))
    with closing(prefetch(source, depth=2)) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(made) == 4  # one is used, two wait, one waits for a place
    assert len(made) <= 5


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_prefetch_passes_exceptions_on_in_their_place(error):
    class Source:
        count = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.count += 1
            if self.count == 3:
                raise error
            return self.count

    items = prefetch(Source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(items)
    assert raised.value is error


def test_prefetch_closes_its_source():
    closed = []

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread().name)

    with closing(prefetch(source())) as items:
        assert [next(items) for _ in range(5)] == list(range(5))
    assert closed == ["portnn prefetch"]


def test_the_end_does_not_wait_for_the_source():
    stuck = Stuck([1, 2])
    items = prefetch(iter(stuck))
    assert [next(items), next(items)] == [1, 2]
    assert stuck.waits.wait(10)
    began = time.monotonic()
    items.close()
    assert time.monotonic() - began < 2
    assert not stuck.closed.is_set()
    stuck.come_back.set()
    assert stuck.closed.wait(10)


def test_what_is_called_while_waiting_may_end_it():
    stuck, calls = Stuck([1]), []

    def look():
        calls.append(threading.current_thread())
        if len(calls) == 3:
            raise ArithmeticError("enough")

    items = handed_over(iter(stuck), while_waiting=look)
    assert next(items) == 1
    with pytest.raises(ArithmeticError, match="enough"):
        next(items)
    assert calls == [threading.current_thread()] * 3
    stuck.come_back.set()


Named = namedtuple("Named", "x y")


@pytest.mark.parametrize(
    "pack", [lambda a: a, lambda a: (a, 1), lambda a: [a], lambda a: {"x": a}, lambda a: Named(a, 2)]
)
def test_what_is_read_ahead_is_not_overwritten(pack):
    def source():
        buffer = np.empty(3)
        for i in range(5):
            buffer[...] = i
            yield pack(buffer)

    with closing(prefetch(source(), depth=3)) as items:
        found = list(items)
    assert [type(item) for item in found] == [type(pack(np.empty(3)))] * 5
    for i, item in enumerate(found):
        expected = pack(np.full(3, float(i)))
        np.testing.assert_equal(item, expected)


def test_prefetch_refuses_a_depth_of_nothing():
    with pytest.raises(ConfigError, match="depth must be a positive int"):
        prefetch(iter([]), depth=0)
