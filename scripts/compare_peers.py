"""Train the same network with portnn, torch and JAX on this machine, and compare seconds an epoch and memory.

    python scripts/compare_peers.py --model cnn --rounds 5 --json peers.json

Every run is a process of its own, and the runs of a round follow one another, so that what else the machine does meets
all of them. Weights, batches and precision (float32) are the same; the losses of the first steps are compared. Seconds
are those of a whole epoch of 60,000 images, from the median step after the first ones, which compile and warm up. Peak
memory is what a process holds more than before its network was made. Ratios are those to the first peer, round by
round.

A BLAS kernel that OPENBLAS_CORETYPE pins is not the one that a user has; the table says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from common import add_data_arguments, check_writable, load_images, run, write_json
from models import RECIPES
from peers import PEERS

from portnn import Network, get_backend
from portnn.checks import check_count
from portnn.environment import blas, describe
from portnn.errors import PortnnError
from portnn.random import Stream

WARM_UP = 8
IMAGES = 60_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", choices=["cnn", "cnn-fast", "mlp"], default="cnn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=100, help="timed in each run (default: 100)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    add_data_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write all figures and the machine's description")
    parser.add_argument("--one", choices=PEERS, help=argparse.SUPPRESS)  # a run, in a process of its own
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One run of one peer."""
    peer, recipe, data = PEERS[args.one], RECIPES[args.model], load_images(args.data, args.data_dir)
    layer = recipe.network(data.x_train.shape[1:], data.classes, recipe.hidden)
    size, steps = args.batch_size, args.steps + WARM_UP
    order = np.concatenate(
        [Stream(0).child(i).permutation(len(data.x_train)) for i in range(1 + steps * size // IMAGES)]
    )
    pieces = np.resize(order, (steps, size))
    images, labels = (peer.array(np.asarray(a)[pieces]) for a in (data.x_train, data.y_train))
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    net = Network(layer, data.x_train.shape[1:], device=peer.device, rng=0)
    step = peer.make(net)
    seconds, values = [], []
    with net.backend.context():  # as in `Trainer.fit`
        for i in range(steps):
            begin = time.perf_counter()
            values.append(peer.number(step(images[i], labels[i])))
            seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "epoch": statistics.median(seconds[WARM_UP:]) * IMAGES / size,
        "first": seconds[0],
        "memory": (peak - idle) / 1024,
        "losses": values[:10],
    }


def in_process(args: argparse.Namespace, peer: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", peer, "--model", args.model, "--data", args.data]
    command += ["--batch-size", str(args.batch_size), "--steps", str(args.steps)]
    command += ["--data-dir", args.data_dir] if args.data_dir else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PortnnError(f"{peer} failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    args = parse_arguments()
    for name in ("batch_size", "steps", "rounds"):
        check_count(name.replace("_", "-"), getattr(args, name))
    if args.one:
        print(json.dumps(measure(args)))
        return
    check_writable(args.json)
    kernel = blas()
    pinned = " (pinned by OPENBLAS_CORETYPE: a user's machine may be faster)" if kernel.get("pinned") else ""
    print(f"{args.model}, batch {args.batch_size}; BLAS kernel of NumPy: {kernel.get('kernel')}{pinned}", flush=True)
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in args.peers}
    for _ in range(args.rounds):
        for peer in args.peers:
            runs[peer].append(in_process(args, peer))
    first = args.peers[0]
    titles = ("s / epoch", "ratio", "(lowest .. highest)", "first step s", "MiB", "loss")
    widths = (9, 6, 20, 12, 6, 9)
    print(" " * 28, *(f"{title:>{width}}" for title, width in zip(titles, widths, strict=True)))
    for peer, results in runs.items():
        ratios = [a["epoch"] / b["epoch"] for a, b in zip(results, runs[first], strict=True)]
        apart = max(abs(a - b) for a, b in zip(results[0]["losses"], runs[first][0]["losses"], strict=True))
        middle = {key: statistics.median(result[key] for result in results) for key in ("epoch", "first", "memory")}
        cells = (
            f"{middle['epoch']:.2f}",
            f"{statistics.median(ratios):.2f}",
            f"({min(ratios):.2f} .. {max(ratios):.2f})",
            f"{middle['first']:.2f}",
            f"{middle['memory']:.0f}",
            f"{apart:.1e}",
        )
        print(f"{peer:<28}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    print(f"ratio: seconds over those of {first}; loss: largest difference to it in the first 10 steps")
    if args.json:
        write_json(args.json, {"config": vars(args), "runs": runs, "environment": describe(get_backend("cpu"))})


if __name__ == "__main__":
    run(main)
