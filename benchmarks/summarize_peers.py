"""The tables of docs/benchmarks.md from what `compare_peers.py` wrote: portnn's time as a share of each peer's.

    python benchmarks/summarize_peers.py benchmarks/peers_*.json

Each share is the median of those of the rounds. Of peers that were run in several ways, the fastest counts.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared import RECIPES, Parser, run

from portnn.backend import first_line
from portnn.errors import DataError

OURS = "portnn numpy"
#: The columns, each with the peers that belong to it.
COLUMNS = {
    "JAX": ("JAX jit+scan", "JAX jit"),
    "torch": ("torch eager", "torch eager, channels_last"),
    "torch.compile": ("torch.compile",),
    "scikit-learn": ("scikit-learn",),
    "Keras": ("Keras",),
    "products and update": ("products and updates alone",),
    "itself without Numba": ("portnn numpy, no Numba",),
    "itself, first run": ("portnn numpy, first run",),
}

Runs = dict[str, list[dict[str, Any]]]


def share(runs: Runs, peers: Sequence[str], key: str) -> float | None:
    """The median of our figure over the peer's, for the peer of the lowest figures; None if none was run."""
    there = [peer for peer in peers if peer in runs]
    if not there:
        return None
    best = min(there, key=lambda peer: statistics.median(one[key] for one in runs[peer]))
    return float(statistics.median(a[key] / b[key] for a, b in zip(runs[OURS], runs[best], strict=True)))


def table(reports: Sequence[dict[str, Any]], key: str, figure: Callable[[float], str], title: str) -> list[str]:
    """A table in Markdown: a line for each report, a column for each peer that is in one of them."""
    shares = [[share(report["runs"], peers, key) for peers in COLUMNS.values()] for report in reports]
    columns = [i for i in range(len(COLUMNS)) if any(row[i] is not None for row in shares)]
    names = list(COLUMNS)
    lines = [f"| network, batch | {title} | " + " | ".join(names[i] for i in columns) + " |"]
    lines.append("|---|" + "---:|" * (1 + len(columns)))
    for report, row in zip(reports, shares, strict=True):
        config = report["config"]
        size = config["batch_size"] or RECIPES[config["model"]].batch_size
        middle = statistics.median(one[key] for one in report["runs"][OURS])
        cells = ["" if row[i] is None else f"{row[i]:.2f}" for i in columns]
        lines.append(f"| {config['model']}, {size} | {figure(middle)} | " + " | ".join(cells) + " |")
    return lines


def tables(reports: Sequence[dict[str, Any]]) -> list[str]:
    """All tables there are for some reports: time, memory, and the way to the accuracy aimed at."""
    epochs = [report for report in reports if not report["config"]["cold_start"]]
    starts = [report for report in reports if report["config"]["cold_start"]]
    kinds: tuple[Any, ...] = (
        (epochs, "epoch", lambda s: f"{s:.2f}", "s an epoch"),
        (epochs, "memory", lambda m: f"{m:.0f}", "MiB"),
        (starts, "seconds", lambda s: f"{s:.1f}", "s to 97 %"),
    )
    return ["\n".join(table(chosen, key, figure, title)) for chosen, key, figure, title in kinds if chosen]


def read(path: str) -> dict[str, Any]:
    """A report, if it is one: with the runs of at least ourselves, each with all figures that are asked for."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from None
    try:
        config, runs = report["config"], report["runs"]
        known = config["batch_size"] or RECIPES[config["model"]].batch_size
        keys = ("seconds",) if config["cold_start"] else ("epoch", "memory")
        rounds = {len(runs[OURS]), *map(len, runs.values())}
        right = known and rounds != {0} and len(rounds) == 1
        right = right and all(one[key] > 0 for each in runs.values() for one in each for key in keys)
    except (KeyError, TypeError, AttributeError):
        right = False
    if not right:
        raise DataError(f"{path} is no report of compare_peers.py --json with runs of {OURS}")
    return dict(report)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_path("reports", nargs="+", metavar="FILE", help="written by compare_peers.py --json")
    print("\n\n".join(tables([read(path) for path in parser.parse_args().reports])))


if __name__ == "__main__":
    run(main)
