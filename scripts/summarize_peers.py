"""The tables of docs/benchmarks.md from what `compare_peers.py` wrote: portnn's time as a share of each peer's.

    python scripts/summarize_peers.py benchmarks/peers_*.json

Each share is the median of those of the rounds. Of peers that were run in several ways, the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import run
from models import RECIPES

from portnn.errors import PortnnError

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="FILE", help="written by compare_peers.py --json")
    reports = []
    for path in parser.parse_args().reports:
        try:
            reports.append(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise PortnnError(f"{path} cannot be read: {error}") from error
    print("\n\n".join(tables(reports)))


if __name__ == "__main__":
    run(main)
