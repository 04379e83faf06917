"""Train the same network with portnn and its peers on this machine: time, memory, and how soon it is of use.

    python benchmarks/compare_peers.py --model mlp --rounds 5 --json peers.json --picture peers.png

Every run is a process of its own, and the runs of a round follow one another, so that what else the machine does meets
all of them. Weights, batches and precision (float32) are the same, and the mean losses of the first steps are compared.
Seconds are those of a whole epoch of 60,000 images, from the median of some times of as many steps, after as many to
warm up. Peak memory is that of the process, with the library and the data in it. Ratios are those to the first peer,
round by round.

--cold-start measures the time from the start of the process, imports and compilation included, to a test accuracy of
97 %, which is looked at after every quarter of an epoch.

A BLAS kernel that OPENBLAS_CORETYPE pins is not the one that a user has; the table says so.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from peers import PEERS
from peers.process import IMAGES, TARGET, TIMES, Job, in_process
from shared import RECIPES, Parser, add_data_arguments, check_picture, check_writable, figure, run, save, write_json

from portnn import get_backend
from portnn.environment import blas, describe
from portnn.errors import PortnnError

#: Of a run, those of which the table shows the median.
FIGURES = {"seconds", "epoch", "warm_up", "memory"}


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--model", choices=RECIPES, default="mlp")
    parser.add_count("--batch-size", help="default: that of the model's recipe")
    parser.add_count("--hidden", nargs="+", help="units of the hidden layers; default: those of the recipe")
    parser.add_count("--steps", default=100, help=f"timed {TIMES} times in each run (default: 100)")
    parser.add_count("--rounds", default=5, help="default: 5")
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="PEER", help="default: all that can be had")
    aim = f"{TARGET:.0%}".replace("%", "%%")  # argparse puts values in for %
    parser.add_argument("--cold-start", action="store_true", help=f"measure the way to a test accuracy of {aim}")
    add_data_arguments(parser)
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    parser.add_path("--picture", metavar="FILE", help="draw the figures as a PNG")
    return parser.parse_args()


def all_runs(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The runs of each peer. One that was not asked for by name, and fails in the first round, is left out."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for i in range(args.rounds):
        for peer in args.peers or PEERS:
            size = args.batch_size or RECIPES[args.model].batch_size
            where = {"hidden": args.hidden, "data": args.data, "data_dir": args.data_dir}
            work = {"model": args.model, "batch_size": size, "steps": args.steps, "cold_start": args.cold_start}
            job = Job(peer=peer, **work, **where)
            if i and peer not in runs:
                continue
            try:
                found = in_process(job)
                found.pop("losses", None)  # their mean says enough
                runs.setdefault(peer, []).append(found)
            except PortnnError as error:
                if args.peers or i:
                    raise PortnnError(f"{peer}: {error}") from None
                print(f"left out: {peer}: {error}", flush=True)
    if not runs:
        raise PortnnError("no run ended well")
    return runs


def report(args: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> None:
    first = next(iter(runs))
    key = "seconds" if args.cold_start else "epoch"
    titles = [("s to 97 %" if args.cold_start else "s / epoch", 9), ("ratio", 6), ("(lowest .. highest)", 19)]
    if not args.cold_start:
        titles += [("images/s", 9), ("warm-up s", 9), ("MiB", 6), ("loss differs", 12)]
    print(" " * 28, *(f"{title:>{width}}" for title, width in titles))
    for peer, results in runs.items():
        ratios = [a[key] / b[key] for a, b in zip(results, runs[first], strict=True)]
        middle = {k: statistics.median(result[k] for result in results) for k in FIGURES & results[0].keys()}
        spread = f"({min(ratios):.2f} .. {max(ratios):.2f})"
        cells = [f"{middle[key]:.2f}", f"{statistics.median(ratios):.2f}", spread]
        if not args.cold_start:
            ours, loss = runs[first][0]["loss"], results[0]["loss"]
            cells += [f"{IMAGES / middle['epoch']:,.0f}", f"{middle['warm_up']:.2f}", f"{middle['memory']:.0f}"]
            cells.append("" if loss is None or ours is None else f"{abs(loss - ours):.1e}")
        print(f"{peer:<28}", *(f"{cell:>{width}}" for cell, (_, width) in zip(cells, titles, strict=True)))
    print(f"ratio: seconds over those of {first}, round by round")


def draw(args: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], note: str) -> None:
    """A bar for each peer, with the runs as dots."""
    key = "seconds" if args.cold_start else "epoch"
    drawing, (axes,) = figure(width=7.0, height=0.8 + 0.32 * len(runs))
    for i, (peer, results) in enumerate(runs.items()):
        values = [result[key] for result in results]
        axes.barh(i, statistics.median(values), color="C0" if peer.startswith("portnn") else "C6", alpha=0.5)
        axes.plot(values, [i] * len(values), "k.", markersize=3)
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set_xlabel("seconds from the start to 97 %" if args.cold_start else "seconds an epoch of 60,000 images")
    axes.set_title(f"{args.model}, {note}", fontsize=9)
    save(drawing, Path(args.picture))


def main() -> None:
    args = parse_arguments()
    check_writable(args.json)
    if args.picture:
        check_picture(args.picture)
    kernel = blas()
    pinned = " (pinned by OPENBLAS_CORETYPE: a user's machine may be faster)" if kernel.get("pinned") else ""
    size = args.batch_size or RECIPES[args.model].batch_size
    note = f"batch {size}; BLAS kernel of NumPy: {kernel.get('kernel')}{pinned}"
    print(f"{args.model}, {note}", flush=True)
    runs = all_runs(args)
    report(args, runs)
    if args.json:
        config = {name: value for name, value in vars(args).items() if name not in ("picture", "json")}
        write_json(args.json, {"config": config, "runs": runs, "environment": describe(get_backend("cpu"))})
    if args.picture:
        draw(args, runs, note)


if __name__ == "__main__":
    run(main)
