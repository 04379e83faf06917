"""One run of one peer, in a process of its own: nothing of another run is in its memory, caches or threads.

``python -m peers.process JOB`` does a run that is described in JSON, and prints what it found as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flops import by_layer, ceiling
from shared import RECIPES, load_images, run

from peers import Peer, Training, peer_of
from portnn import Network, get_backend
from portnn.backend import Backend
from portnn.data import Dataset
from portnn.environment import describe
from portnn.errors import ConfigError, PortnnError
from portnn.random import Stream

__all__ = ["IMAGES", "TARGET", "TIMES", "Job", "in_process"]

#: Of an epoch, whatever the data: so results on a part of MNIST compare with those on all of it.
IMAGES = 60_000
TARGET = 0.97
TIMES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a run does.

    Attributes
    ----------
    peer, model : str
        `peers.peer_of` and `shared.RECIPES` know them.
    batch_size : int
    hidden : sequence of int or None
        Units of the hidden layers; None for those of the recipe.
    steps : int
        Done `TIMES` times and timed, after as many to warm up.
    data, data_dir
        For `shared.load_images`; or ``"noise"``, images of the size and number of MNIST's, which nobody has to fetch.
    precision : str
        Of products of matrices, see `portnn.get_backend`.
    cold_start, ceiling : bool
        Whether to measure the way to a test accuracy of `TARGET` instead; or the fastest product of matrices there is
        on the device of a peer that is portnn.
    """

    peer: str
    model: str
    batch_size: int
    steps: int
    hidden: Sequence[int] | None = None
    data: str = "auto"
    data_dir: str | None = None
    precision: str = "float32"
    cold_start: bool = False
    ceiling: bool = False


def in_process(job: Job, seconds: float | None = None) -> dict[str, Any]:
    """Do a run, and return what it found; PortnnError with the last line that it said if it failed.

    After so many seconds it is ended, with a TimeoutError; default: never.
    """
    described = json.dumps(dataclasses.asdict(job) | {"started": time.time()})
    with tempfile.TemporaryDirectory() as empty:
        paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        env |= {"NUMBA_CACHE_DIR": empty} if peer_of(job.peer).empty_cache else {}
        command = [sys.executable, "-m", "peers.process", described]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"it was not done after {seconds:.0f} s") from None
    if done.returncode:
        raise PortnnError((done.stderr.splitlines() or ["no message"])[-1].removeprefix("error: "))
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(job: Job, started: float) -> dict[str, Any]:
    """What a run finds out."""
    peer = peer_of(job.peer)
    if peer.without_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]
    if job.ceiling:
        return _ceiling(get_backend(peer.device, job.precision))
    # At one learning rate: the recipe's cycle would be over before any of the runs.
    recipe = dataclasses.replace(RECIPES[job.model], one_cycle=False)
    data = noise() if job.data == "noise" else load_images(job.data, job.data_dir)
    idle = _peak()
    layer = recipe.network(data.x_train.shape[1:], data.classes, job.hidden or recipe.hidden)
    backend = get_backend(peer.device, job.precision if peer.module == "ours" else None)
    net = Network(layer, data.x_train.shape[1:], device=backend, rng=0)
    training = _made(peer, job.precision)(net, recipe, as_bytes(data.x_train), np.asarray(data.y_train))
    if job.cold_start:
        return {"seconds": cold_start(training, data, job.batch_size, started)}
    losses, seconds = [], []
    # What the trainer enters around all of its steps, and what does nothing for the others.
    with net.backend.context() if peer.module == "ours" else contextlib.nullcontext():
        for i in range(1 + TIMES):
            pieces = batches(i, job.steps, job.batch_size, len(data.x_train))
            begin = time.perf_counter()
            losses.append(training.train(pieces))
            seconds.append(time.perf_counter() - begin)
    peak = _peak()  # what follows is no training
    accuracy = None
    with contextlib.suppress(ConfigError):  # some peers can only train
        accuracy = _accuracy(training, data)
    step = statistics.median(seconds[1:]) / job.steps
    return {
        "operations": sum(by_layer(net, job.batch_size)),
        "epoch": step * IMAGES / job.batch_size,
        "step": step * 1e6,
        "warm_up": seconds[0],
        "memory": peak / 1024,
        "memory_above_idle": (peak - idle) / 1024,
        "loss": statistics.mean(losses[0]) if losses[0] else None,
        "losses": losses[0],
        "accuracy": accuracy,
        "note": getattr(training, "note", None),
    }


def _ceiling(backend: Backend) -> dict[str, Any]:
    fastest, side = ceiling(backend)
    where = "gpu" if backend.name == "cupy" or backend.device.startswith(("cuda", "gpu")) else "cpu"
    found = {"place": where, "precision": backend.precision, "ceiling_gflops": fastest, "ceiling_side": side}
    return found | {"environment": describe(backend)}


def _made(peer: Peer, precision: str) -> Callable[..., Training]:
    if precision == "float32" or peer.module == "ours":
        return peer.make
    if precision != "tf32" or peer.module not in ("with_torch", "with_jax"):
        raise PortnnError(f"{peer.module.removeprefix('with_')} is not told about precision {precision} yet")
    return dataclasses.replace(peer, options={**peer.options, "precision": precision}).make


def noise() -> Dataset:
    """As many images as MNIST has, of its size, of random brightness and classes."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (70_000, 28, 28), np.uint8), rng.integers(0, 10, 70_000)
    return Dataset("noise", images[:60_000], labels[:60_000], images[60_000:], labels[60_000:], 10)


def as_bytes(images: Any) -> Any:
    """Images as the peers take them: brightness in 0 .. 255."""
    host = np.asarray(images)
    return host if host.dtype == np.uint8 else np.round(host * 255.0).astype(np.uint8)


def _accuracy(training: Training, data: Dataset) -> float:
    return float(np.mean(training.predict(as_bytes(data.x_test)) == np.asarray(data.y_test)))


def _peak() -> int:
    """In KiB; 0 where the system does not tell, as Windows."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def batches(number: int, steps: int, size: int, n: int) -> Any:
    """Numbers of examples, (steps, size)."""
    order = [Stream(0).child(number, i).permutation(n) for i in range(1 + steps * size // n)]
    return np.concatenate(order)[: steps * size].reshape(steps, size)


def cold_start(training: Training, data: Dataset, size: int, started: float) -> float:
    """Seconds from the start of the process to the accuracy that is aimed at."""
    steps = len(data.x_train) // size // 4
    for i in range(20):
        training.train(batches(i, steps, size, len(data.x_train)))
        if _accuracy(training, data) >= TARGET:
            return time.time() - started
    raise PortnnError(f"no test accuracy of {TARGET:.0%} in five epochs")


def main() -> None:
    described = json.loads(sys.argv[1])
    started = described.pop("started")
    print(json.dumps(measure(Job(**described), started)))


if __name__ == "__main__":
    run(main)
