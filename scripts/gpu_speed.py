"""Microseconds a training step takes on a device, beside torch and JAX on the same GPU, for `gpu_check.py`.

Each run is a process of its own, which does as many steps at once as a chunk of a long training has, four times, and
tells the median of the last three. The libraries take turns, round by round, for as long as there is time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from finding import Finding, TimeBudget

from portnn.backend import Backend
from portnn.errors import BackendError, PortnnError

__all__ = ["CASES", "PEERS", "Case", "measure_speed"]

_ROUNDS = 3

#: Seconds that a run is expected to take of which there was none yet.
_EXPECTED = 10.0


class Case(NamedTuple):
    """A network of scripts/models.py, the size of a batch, the precision of products, and how many steps at once."""

    model: str
    size: int
    precision: str
    steps: int = 400

    def __str__(self) -> str:
        return f"{self.model}, {self.size}, {self.precision}"


CASES = (
    Case("mlp", 128, "float32"),
    Case("small", 100, "float32"),
    Case("cnn", 128, "float32"),
    Case("wide", 8192, "tf32", 32),
    Case("mlp", 128, "bf16"),
    Case("wide", 8192, "bf16", 32),
)
#: What is left out first, where there is no time, comes last.
PEERS = ("JAX jit+scan, gpu", "torch CUDA graph", "torch eager, cuda")


def measure_speed(device: str, backend: Backend, budget: TimeBudget) -> Finding:
    """Held if the device does all that it has the precision and the time for; what others do is no condition."""
    lacks = {case: _lack(backend, case.precision) for case in CASES}
    speed = _Speed(device)
    for number in range(_ROUNDS):
        for case, lack in lacks.items():
            if lack is not None:
                speed.left_out[str(case)] = lack
                continue
            for peer in (device, *PEERS):
                first = number == 0 and peer == device
                speed.measure(case, peer, budget.at_least() if first else budget.left())
    median = {name: statistics.median(found) for name, found in speed.steps.items()}
    ours = {name for name in (*median, *speed.failed) if name.endswith(f": {device}")}
    more = {"us_per_step": speed.steps, "median": median, "left_out": speed.left_out}
    lines = ["steps on noise, in us", *_table(device, median), *_remarks(speed)]
    return Finding(bool(ours) and not ours & speed.failed, "\n        ".join(lines), more)


class _Speed:
    """What was measured: by case and peer, such as ``"mlp, 128, float32: gpu"``.

    Attributes
    ----------
    steps : dict
        Microseconds a step, a number for each process.
    left_out : dict
        Why there is none.
    failed : set of str
        What was begun, and ended with an error.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps: dict[str, list[float]] = {}
        self.left_out: dict[str, str] = {}
        self.failed: set[str] = set()
        self._seconds: dict[str, float] = {}

    def measure(self, case: Case, peer: str, seconds: float) -> None:
        """Once more, in so many seconds."""
        name = f"{case}: {peer}"
        if name in self.left_out:
            return
        if seconds < self._seconds.get(name, _EXPECTED):
            self._leave_out(name, "there was no time left")
            return
        begin = time.perf_counter()
        try:
            step = _in_process(case, peer, seconds)
        except TimeoutError as error:
            self._leave_out(name, str(error))
            return
        except PortnnError as error:
            self.failed.add(name)
            self._leave_out(name, str(error))
            return
        self._seconds[name] = time.perf_counter() - begin
        self.steps.setdefault(name, []).append(step)

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self.steps:
            self.left_out[name] = why


def _in_process(case: Case, peer: str, seconds: float) -> float:
    benchmarks = str(Path(__file__).parent.parent / "benchmarks")
    if benchmarks not in sys.path:
        sys.path.insert(0, benchmarks)
    from peers.process import Job, in_process

    model, size, precision, steps = case
    job = Job(peer=peer, model=model, batch_size=size, steps=steps, data="noise", precision=precision)
    found = in_process(job, seconds)
    return float(found["step"])


def _lack(backend: Backend, precision: str) -> str | None:
    """Why the device does not have a precision; None if it has."""
    try:
        backend.with_precision(precision)
    except BackendError as error:
        return str(error)
    return None


def _table(device: str, median: Mapping[str, float]) -> list[str]:
    columns = (device, *PEERS)
    cases = [str(case) for case in CASES if any(f"{case}: {peer}" in median for peer in columns)]
    rows = [
        [case, *(f"{median[n]:,.1f}" if (n := f"{case}: {peer}") in median else "-" for peer in columns)]
        for case in cases
    ]
    return ["".join(f"{part:>19}" for part in row) for row in [["", *columns], *rows]]


def _remarks(speed: _Speed) -> list[str]:
    runs = [len(found) for found in speed.steps.values()]
    said = [f"each the median of {min(runs)} to {max(runs)} processes, of three runs each"] if runs else []
    alike: dict[str, list[str]] = {}
    for name, why in speed.left_out.items():
        alike.setdefault(why, []).append(name)
    return said + [f"left out: {'; '.join(names)} ({why})" for why, names in alike.items()]
