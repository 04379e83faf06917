"""How much of a GPU's bandwidth functions reach that wait for memory alone, for `gpu_check.py`.

Each is called some times in a row on arrays that no cache holds. What it must read and write at the least, by the time
that it takes, is compared with a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from finding import Finding

from portnn import functional, kernels, optim
from portnn.backend import Backend
from portnn.functional.sums import sum_over
from portnn.random import Stream

__all__ = ["measure_bandwidth"]

#: Rows and columns of the matrices: 256 MiB of float32 each, so that the host is done before the device is.
_SHAPE = (16_384, 4_096)

#: How often each function is called, after a call that compiles.
_REPEATS = 20

#: Of what a copy reaches. Less is no wrong number, but somebody should look at it.
_ENOUGH = 0.5


class _Work(NamedTuple):
    """Something to call, and how many bytes go in and out of memory when it is called."""

    call: Callable[[], Any]
    size: int


def measure_bandwidth(backend: Backend) -> Finding:
    if backend.memory().total is None:
        return Finding(True, "not looked at: the device has no memory of its own", {})
    with backend.context():
        reached = {name: _bytes_per_second(backend, work) / 1e9 for name, work in _works(backend).items()}
    copy = reached.pop("copy")
    shares = {name: speed / copy for name, speed in reached.items()}
    slowest = min(shares, key=lambda name: shares[name])
    parts = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    line = f"a copy {copy:,.0f} GB/s; of that: {parts}"
    return Finding(shares[slowest] >= _ENOUGH, line, {"copy_gb_per_second": copy, "gb_per_second": reached})


def _works(backend: Backend) -> dict[str, _Work]:
    (n, m), stream = _SHAPE, Stream(0)
    x, dy, y, z = (backend.uniform(stream.child(i), _SHAPE, "float32") for i in range(4))
    row, gamma = (backend.uniform(stream.child(i), (m,), "float32") for i in (4, 5))
    images, index = backend.asarray(np.zeros((n, m), np.uint8)), backend.asarray(stream.permutation(n))
    slopes, adam = functional.relu(y)[1], optim.Adam()
    hyper = vars(adam) | adam.hyper(1)
    whole = 4 * n * m
    return {
        "copy": _Work(lambda: backend.copy(x), 2 * whole),
        "relu": _Work(lambda: functional.relu(x), 2 * whole),
        "its slopes": _Work(lambda: slopes(dy), 3 * whole),
        "sums of columns": _Work(lambda: sum_over(x, 0), whole),
        "rows of bytes": _Work(lambda: functional.take_rows(images, index, backend.dtype("float32")), whole + n * m),
        "batch norm": _Work(lambda: functional.batch_norm(x, gamma, row), 3 * whole),
        "adam": _Work(lambda: kernels.update_leaves(adam.rule, [(x, dy, y, z)], hyper), 7 * whole),
    }


def _bytes_per_second(backend: Backend, work: _Work) -> float:
    kept = work.call()  # what it has made is kept until there is something else, as in a training
    backend.synchronize()
    begin = time.perf_counter()
    for _ in range(_REPEATS):
        kept = work.call()
    backend.synchronize()
    del kept
    return work.size * _REPEATS / (time.perf_counter() - begin)
