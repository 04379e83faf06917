"""How long small fits take, beside scikit-learn: the first one of a process, and those that follow it.

    python benchmarks/measure_small_fits.py --rounds 5 --json small_fits.json

``MLPClassifier`` of both libraries with the same parameters on irises, handwritten digits and two moons, with each
solver, 200 iterations at most. Every run is a process of its own, and the runs of a round follow one another. Seconds
are those of the clock, without imports; ratios are portnn's medians to scikit-learn's, so that less than 1 means that
portnn is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from importlib import import_module
from typing import Any

from shared import Parser, check_writable, run, write_json

from portnn import get_backend
from portnn.environment import describe
from portnn.errors import PortnnError

DATA, SOLVERS = ("iris", "digits", "moons"), ("adam", "sgd", "lbfgs")

#: Where their classifiers are.
LIBRARIES = {"portnn": "portnn.estimators", "scikit-learn": "sklearn.neural_network"}


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA], help="default: all")
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=[*SOLVERS], help="default: all")
    parser.add_count("--rounds", default=5, help="default: 5")
    parser.add_count("--times", default=5, help="fits behind the first one in each run (default: 5)")
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    parser.add_argument("--one", choices=LIBRARIES, help="only fit, in this process, and print the seconds as JSON")
    return parser.parse_args()


def seconds_of_fits(library: str, data: str, solver: str, times: int) -> list[float]:
    """Of the first fit and of those that follow it."""
    from sklearn import datasets

    classifier = import_module(LIBRARIES[library]).MLPClassifier
    load = {"iris": datasets.load_iris, "digits": datasets.load_digits}
    x, y = datasets.make_moons(500, noise=0.2, random_state=0) if data == "moons" else load[data](return_X_y=True)
    x, found = x / x.max(), []
    for _ in range(1 + times):
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that 200 iterations were not enough
            classifier(solver=solver, random_state=0, max_iter=200).fit(x, y)
        found.append(time.perf_counter() - began)
    return found


def in_process(library: str, data: str, solver: str, times: int) -> list[float]:
    options = ["--one", library, "--data", data, "--solvers", solver, "--times", str(times)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PortnnError((done.stderr.splitlines() or ["no message"])[-1].removeprefix("error: "))
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def main() -> None:
    args = parse_arguments()
    if args.one:
        print(json.dumps(seconds_of_fits(args.one, args.data[0], args.solvers[0], args.times)))
        return
    check_writable(args.json)
    found: dict[str, Any] = {}
    print(f"{'':<16}{'first, ms':>12}{'ratio':>8}{'next, ms':>12}{'ratio':>8}", flush=True)
    for data in args.data:
        for solver in args.solvers:
            runs: dict[str, list[list[float]]] = {library: [] for library in LIBRARIES}
            for _ in range(args.rounds):
                for library in LIBRARIES:
                    runs[library].append(in_process(library, data, solver, args.times))
            found[f"{data}, {solver}"] = runs
            cells = f"{f'{data}, {solver}':<16}"
            for place in (slice(0, 1), slice(1, None)):
                ours, theirs = (statistics.median(s for one in runs[name] for s in one[place]) for name in LIBRARIES)
                cells += f"{ours * 1e3:>12.1f}{ours / theirs:>8.2f}"
            print(cells, flush=True)
    if args.json:
        config = {name: value for name, value in vars(args).items() if name not in ("json", "one")}
        write_json(args.json, {"config": config, "seconds": found, "environment": describe(get_backend("cpu"))})


if __name__ == "__main__":
    run(main)
