"""How long a prediction takes on NumPy arrays, beside torch, JAX, scikit-learn and the bare expression in NumPy.

    python benchmarks/measure_predict.py --rounds 5 --json predict.json

Networks 784-100-10 (small) and 784-512-512-10 (mlp), float32, the same weights and rows. One row, and many rows in
batches: of 1024, as portnn takes them, and of the size that is the fastest for the others, which is tried first. Every
run is a process of its own, warm before it is timed, and the runs of a round follow one another. Estimators have
weights of their own, and check their input as scikit-learn does. Ratios are those of the medians to portnn's, so that
more than 1 means that portnn is faster; those of the processor's time are less disturbed by what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from peers.predicting import PREDICTORS, in_process
from shared import Parser, check_writable, run, write_json

from portnn import get_backend
from portnn.environment import blas, describe
from portnn.errors import PortnnError

HIDDEN = {"small": [100], "mlp": [512, 512]}

#: Rows in a batch, as portnn predicts; and those that are tried for others.
BATCH, BATCHES = 1024, [256, 512, 1024, 2048, 2**20]

#: That take batches of no size of their own choice.
WHOLE = ("MLPClassifier of portnn", "MLPClassifier of scikit-learn")


#: Of seconds: by the clock, and of the processor.
KINDS = ("wall", "cpu")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=HIDDEN, default=[*HIDDEN], help="default: both")
    parser.add_argument("--peers", nargs="+", choices=PREDICTORS, metavar="PEER", help="default: all that can be had")
    parser.add_count("--rows", default=10_000, help="of the large prediction (default: 10,000)")
    parser.add_count("--rounds", default=5, help="default: 5")
    parser.add_count("--times", default=31, help="timed predictions in each run (default: 31)")
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    return parser.parse_args()


def best_size(peer: str, hidden: list[int], rows: int, times: int) -> int:
    """The size of batches in which a peer is the fastest."""
    if peer == "portnn" or peer in WHOLE or rows == 1:
        return BATCH
    sizes = [size for size in BATCHES if size < rows] + [rows]
    return min(sizes, key=lambda size: min(in_process(peer, hidden, rows, size, times)["wall"]))


def compare(args: argparse.Namespace, model: str, rows: int) -> dict[str, Any]:
    """What the runs of each peer found."""
    hidden, runs = HIDDEN[model], dict[str, Any]()
    for peer in args.peers or PREDICTORS:
        try:
            in_process(peer, hidden, 1, 1, 1)
        except PortnnError as error:
            if args.peers:
                raise PortnnError(f"{peer}: {error}") from None
            print(f"left out: {peer}: {error}", flush=True)
            continue
        runs[peer] = {"size": best_size(peer, hidden, rows, args.times), "runs": []}
    for _ in range(args.rounds):
        for peer, found in runs.items():
            found["runs"].append(in_process(peer, hidden, rows, found["size"], args.times))
    return runs


def report(model: str, rows: int, runs: dict[str, Any]) -> None:
    print(f"\n{model}, {rows:,} rows" if rows > 1 else f"\n{model}, one row")
    print(f"{'':<30}{'batch':>8}{'us':>12}{'ratio':>8}{'CPU us':>12}{'ratio':>8}")
    middle = {
        peer: {
            kind: statistics.median(statistics.median(one[kind]) for one in found["runs"]) for kind in ("wall", "cpu")
        }
        for peer, found in runs.items()
    }
    first = next(iter(middle.values()))
    for peer, found in runs.items():
        cells = f"{peer:<30}{'' if rows == 1 or peer in WHOLE else found['size']:>8}"
        for kind in KINDS:
            cells += f"{middle[peer][kind] * 1e6:>12,.1f}{middle[peer][kind] / first[kind]:>8.2f}"
        print(cells, flush=True)


def main() -> None:
    args = parse_arguments()
    check_writable(args.json)
    kernel = blas()
    pinned = " (pinned by OPENBLAS_CORETYPE: a user's machine may be faster)" if kernel.get("pinned") else ""
    print(f"BLAS kernel of NumPy: {kernel.get('kernel')}{pinned}", flush=True)
    found: dict[str, Any] = {}
    for model in args.models:
        for rows in dict.fromkeys((1, args.rows)):
            found[f"{model}, {rows}"] = runs = compare(args, model, rows)
            report(model, rows, runs)
    if args.json:
        config = {name: value for name, value in vars(args).items() if name != "json"}
        write_json(args.json, {"config": config, "runs": found, "environment": describe(get_backend("cpu"))})


if __name__ == "__main__":
    run(main)
