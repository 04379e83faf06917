"""Trainings on MNIST to the accuracy that is aimed at, and computing where memory is used up, for `gpu_check.py`."""

from __future__ import annotations

import collections
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from finding import Finding, TimeBudget
from models import RECIPES

from portnn import Network, Trainer, metrics
from portnn.backend import Backend
from portnn.data import Dataset, load_mnist
from portnn.errors import MissingDataError

__all__ = ["fill_memory", "train_mnist"]

#: Of the test images, by every seed; and the largest learning rate of the cycle, twice the recipe's.
_ACCURACY = 0.99
_SEEDS = 6
_LR = 0.006

_SUPPORT = Path(__file__).parent.parent / "tests" / "support"

#: Bytes that are left free, and when CUDA loads the code of kernels.
_CONDITIONS = tuple(itertools.product((0, 2**20, 2**21, 2**23), ("LAZY", "EAGER")))

#: What is said of results; all else is the sentence of an error.
_TOLD = ("right", "wrong")

#: Fresh processes that show it, where there is time for all.
_ENOUGH = 20


def train_mnist(backend: Backend, data_dir: str | None, budget: TimeBudget) -> Finding:
    """The network of two convolutions by its recipe, from several seeds, as far as there is time."""
    try:
        data = load_mnist(data_dir)
    except MissingDataError as error:
        return Finding(True, f"not looked at: {error}", {})
    runs: list[dict[str, float]] = []
    for seed in range(_SEEDS):
        if runs and budget.left() < runs[-1]["seconds"]:
            break
        made = _trained(backend, data, seed, budget.left() if runs else budget.at_least())
        if made is None:
            break
        runs.append(made)
    if not runs:
        return Finding(True, "not looked at: there was no time for one run", {})
    accuracies = [run["accuracy"] for run in runs]
    line = f"{min(accuracies):.2%} to {max(accuracies):.2%} after {RECIPES['cnn'].epochs} epochs, "
    line += f"{min(run['seconds'] for run in runs):.2f} s at best, {runs[0]['seconds']:.2f} s the first time, "
    line += f"{len(runs)} of {_SEEDS} seeds" + ("" if len(runs) == _SEEDS else ": there was no time for more")
    return Finding(min(accuracies) >= _ACCURACY, line, {"runs": runs})


def _trained(backend: Backend, data: Dataset, seed: int, most: float) -> dict[str, float] | None:
    """Accuracy and seconds; None if it would take more than so many."""
    recipe, shape = RECIPES["cnn"], data.x_train.shape[1:]
    steps = recipe.epochs * math.ceil(len(data.x_train) / recipe.batch_size)
    net = Network(recipe.network(shape, data.classes, recipe.hidden), shape, device=backend, rng=seed)
    trainer = Trainer(net, recipe.loss, recipe.make_optimizer(steps, recipe.optimizer, _LR), rng=seed)
    begin, clock = time.perf_counter(), threading.Timer(max(most, 0.0), trainer.stop)
    clock.start()
    try:
        trainer.fit(data.x_train, data.y_train, epochs=recipe.epochs, batch_size=recipe.batch_size)
    finally:
        clock.cancel()
    if trainer.history.stopped:
        return None
    seconds = time.perf_counter() - begin
    accuracy = metrics.accuracy(net.predict(data.x_test), data.y_test)
    return {"seed": float(seed), "seconds": seconds, "accuracy": float(accuracy)}


def fill_memory(backend: Backend, fills: int, budget: TimeBudget) -> Finding:
    """Every function, in fresh processes that have used up the memory of the device: it is right, or raises."""
    if (backend.name, backend.device) != ("cupy", "0"):
        return Finding(True, "not looked at: only the memory of CuPy's first GPU is filled", {})
    wrong: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    for leave, loading in itertools.islice(itertools.cycle(_CONDITIONS), fills):
        if seconds and budget.left() < statistics.median(seconds):
            break
        begin = time.perf_counter()
        outcomes, failure = _filled(leave, loading)
        seconds.append(time.perf_counter() - begin)
        if failure is not None:
            return Finding(False, failure, {"leave": leave, "loading": loading})
        where = f"{leave:,} bytes left, {loading}"
        where = f"{leave:,} bytes left, {loading}"
        wrong += [f"{name} ({where})" for name, outcome in outcomes.items() if outcome == "wrong"]
        counts.update(outcome if outcome in _TOLD else "ended with a sentence" for outcome in outcomes.values())
    line = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    line += f", in {len(seconds)} fresh process" + ("es" if len(seconds) > 1 else "")
    line += f"; --fills {_ENOUGH} tries more" if len(seconds) < _ENOUGH else ""
    held = not wrong and counts["right"] > 0
    return Finding(held, f"{line}: {'; '.join(wrong[:5])}" if wrong else line, {"counts": dict(counts), "wrong": wrong})


def _filled(leave: int, loading: str) -> tuple[dict[str, str], str | None]:
    """What tests/support/filled_gpu.py says of each function; or why it says nothing."""
    done = subprocess.run(
        [sys.executable, str(_SUPPORT / "filled_gpu.py"), str(leave)],
        env=os.environ | {"CUDA_MODULE_LOADING": loading, "PYTHONPATH": str(_SUPPORT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {}, (done.stderr.splitlines() or ["no message"])[-1]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, None
