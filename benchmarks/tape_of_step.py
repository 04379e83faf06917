"""The tape of a recorded step, as a table: what each instruction takes, and what waits where the cores meet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from portnn_backends.on_numpy.compile import HAS_NUMBA

from portnn import Network, losses, optim, tree
from portnn.loop import Loop
from portnn.random import as_stream
from portnn.training.batch import Examples
from portnn.training.steps import training_step

if TYPE_CHECKING:
    from portnn_backends.on_numpy.tape.profile import Profile

__all__ = ["figures", "table", "taped"]

#: Steps from Python before a step is recorded, and more than enough.
_FIRST = 20


def taped(
    net: Network, loss: losses.Loss, optimizer: optim.Optimizer, x: Any, y: Any, size: int, steps: int
) -> tuple[Profile, float] | str:
    """What a recorded step takes, and its microseconds from Python; or why there is no tape."""
    backend = net.backend
    if backend.name != "numpy":
        return f"only NumPy's steps are recorded as tapes, not those of {backend.name}"
    if not HAS_NUMBA:
        return "steps are recorded where Numba is installed and not switched off"
    from portnn_backends.on_numpy.tape.loop import TapeLoop
    from portnn_backends.on_numpy.tape.profile import profile
    from portnn_backends.on_numpy.tape.tape import arrays_of

    step = training_step(net, loss, optimizer, None, None, as_stream(0))
    examples = Examples(backend.asarray(x), backend.asarray(y), None)
    carry = tree.map(np.array, (net.params, net.state, optimizer.slots(net.params)))
    rows = [as_stream(0).at(i).permutation(len(x))[:size] for i in range(max(steps, _FIRST))]
    hyper = [{"step": i + 1, "optimizer": optimizer.hyper(i + 1)} for i in range(len(rows))]
    python, tapes = Loop(backend, (step,)), TapeLoop(backend, (step,))
    with backend.context():
        spent = []
        for index, numbers in zip(rows, hyper, strict=True):
            began = time.perf_counter()
            carry, _ = python.run(carry, examples, [index], [0], [numbers])
            spent.append(time.perf_counter() - began)
        for part in (slice(0, _FIRST // 2), slice(_FIRST // 2, _FIRST)):
            chunk = rows[part]
            carry, _ = tapes.run(carry, examples, chunk, [0] * len(chunk), hyper[part])
        if tapes.reason is not None:
            return str(tapes.reason)
        tape = tapes.tapes[-1]
        tape.bind(arrays_of(carry, examples))
        return profile(tape, np.array(rows), hyper), statistics.median(spent) * 1e6


def figures(found: tuple[Profile, float] | str) -> dict[str, Any]:
    """For the file of figures."""
    if isinstance(found, str):
        return {"reason": found}
    profile, python = found
    return {
        "instructions": [asdict(line) for line in profile.lines],
        "waits": [{"meetings": number, "parts": parts} for number, parts in profile.waits().items()],
        "alone": profile.alone,
        "replayed": profile.replayed,
        "python": python,
    }


def table(found: tuple[Profile, float] | str) -> Iterator[str]:
    """The lines that are printed."""
    if isinstance(found, str):
        yield f"no tape: {found}"
        return
    profile, python = found
    yield "the tape; microseconds of each instruction by itself, in one thread"
    yield f"{'':>4} {'core':>4}  {'instruction':<22} {'sizes':<18} {'us':>8} {'bytes':>10} {'GB/s':>7} {'GFLOP/s':>8}"
    number, waits = 0, profile.waits()
    for meetings, parts in waits.items():
        for line in profile.lines:
            if line.meetings == meetings:
                number += 1
                yield _row(number, line).rstrip()
        late = ", ".join(f"core {part} waits {spent:.1f}" for part, spent in enumerate(parts) if spent > 0.05)
        if meetings < max(waits):
            yield f"{'':>4} {'':>4}  -- the cores meet" + (f": {late}" if late else "")
    yield ""
    yield f"{'kind':<22} {'how many':>9} {'us':>8} {'share':>7}"
    for name, (count, spent) in profile.by_name().items():
        yield f"{name:<22} {count:>9} {spent:>8.2f} {spent / max(profile.alone, 1e-9):>7.1%}"
    apart = sum(max(parts) for parts in profile.regions().values())
    yield ""
    yield f"{profile.alone:>8.0f} us: all instructions in one thread"
    yield f"{apart:>8.0f} us: the slowest core from meeting to meeting, if nothing else took time"
    yield f"{profile.replayed:>8.0f} us: a step of the tape as training replays it, on {profile.parts} cores"
    yield f"{python:>8.0f} us: the same step from Python"


def _row(number: int, line: Any) -> str:
    sizes, spent = " x ".join(map(str, line.sizes)), max(line.microseconds, 1e-3)
    speed = f"{line.operations / spent / 1e3:>8.1f}" if line.operations else ""
    return (
        f"{number:>4} {line.part:>4}  {line.name:<22} {sizes:<18} {line.microseconds:>8.2f} {line.bytes:>10,} "
        f"{line.bytes / spent / 1e3:>7.1f} {speed}"
    )
