"""How long ``import portnn`` takes, against ``import numpy``: medians of whole processes, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from shared import Parser, run

STATEMENTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "portnn": "import portnn",
    "portnn, every room": "from portnn import data, functional, losses, metrics, nn, optim, random, training",
}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_count("--rounds", default=15, help="default: 15")
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    idle = medians.pop("nothing")
    print(f"{'import':<20} {'process ms':>10} {'import ms':>10} {'/ numpy':>8}   (medians of {rounds})")
    for name, median in medians.items():
        ratio = (median - idle) / (medians["numpy"] - idle)
        print(f"{name:<20} {median * 1e3:>10.0f} {(median - idle) * 1e3:>10.0f} {ratio:>8.2f}")


if __name__ == "__main__":
    run(main)
