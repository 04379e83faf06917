"""How time and memory of training on NumPy arrays grow with the batch and with the network.

    python benchmarks/measure_growth.py --json growth.json --picture growth.png

The network 784-w-w-10 learns MNIST by Adam: batches of 32 to 8192 examples for w = 512, and w = 64 to 4096 for
batches of 128. Every figure is the median of some runs, each in a process of its own; the runs of a round follow one
another. Memory is the peak of the process. Where time is linear, the last column of each table is constant; what is
spent once a step, whatever its size, shows at its top.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import Job, in_process
from shared import Parser, add_data_arguments, check_picture, check_writable, figure, run, save, write_json

from portnn import get_backend
from portnn.environment import describe

WIDTH, BATCH = 512, 128
BATCHES = [2**i for i in range(5, 14)]
WIDTHS = [2**i for i in range(6, 13)]
INPUTS, CLASSES = 784, 10
#: Examples in each timing, of batches of any size; wider networks take fewer steps.
EXAMPLES = 16_384


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_count("--batch-sizes", nargs="+", default=BATCHES, help="default: 32 to 8192")
    parser.add_count("--widths", nargs="+", default=WIDTHS, help="default: 64 to 4096")
    parser.add_count("--rounds", default=3, help="default: 3")
    add_data_arguments(parser)
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    parser.add_path("--picture", metavar="FILE", help="draw the figures as a PNG")
    return parser.parse_args()


def parameters(width: int) -> int:
    return (INPUTS + 1) * width + (width + 1) * width + (width + 1) * CLASSES


def measure(args: argparse.Namespace, width: int, batch: int) -> dict[str, Any]:
    steps = max(3, min(EXAMPLES // batch, EXAMPLES // width))
    where = {"data": args.data, "data_dir": args.data_dir}
    job = Job(peer="portnn numpy", model="mlp", batch_size=batch, steps=steps, hidden=[width, width], **where)
    found = in_process(job)
    return {"step": found["step"] / 1e6, "memory": found["memory"]}


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(one[key] for one in runs))


def slope(batches: list[int], memory: list[float]) -> float:
    """Bytes for each example of a batch, by least squares; ``memory`` in MiB."""
    return float(np.polyfit(batches, memory, 1)[0]) * 2**20


def report(batches: dict[int, list[dict[str, Any]]], widths: dict[int, list[dict[str, Any]]]) -> dict[str, float]:
    print(f"\n{INPUTS}-{WIDTH}-{WIDTH}-{CLASSES}\n{'batch':>6} {'ms / step':>10} {'MiB':>6} {'us / example':>13}")
    for batch, runs in batches.items():
        step = middle(runs, "step")
        print(f"{batch:>6} {step * 1e3:>10.2f} {middle(runs, 'memory'):>6.0f} {step / batch * 1e6:>13.2f}")
    found = {}
    if len(batches) > 1:
        found["bytes_per_example"] = slope(list(batches), [middle(runs, "memory") for runs in batches.values()])
        found["bytes_of_layer_inputs"] = 4 * (INPUTS + 2 * 2 * WIDTH + CLASSES)
        print(
            f"memory: {found['bytes_per_example']:,.0f} bytes for each example of a batch; "
            f"what the layers take in and the loss takes in are {found['bytes_of_layer_inputs']:,.0f} bytes"
        )
    title = "ns / parameter"
    print(f"\nbatch {BATCH}\n{'width':>6} {'ms / step':>10} {'MiB':>6} {'parameters':>12} {title:>15}")
    for width, runs in widths.items():
        step, count = middle(runs, "step"), parameters(width)
        print(f"{width:>6} {step * 1e3:>10.2f} {middle(runs, 'memory'):>6.0f} {count:>12,} {step / count * 1e9:>15.2f}")
    return found


def draw(path: Path, batches: dict[int, list[dict[str, Any]]], widths: dict[int, list[dict[str, Any]]]) -> None:
    drawing, (left, middle_, right) = figure(columns=3, width=10.0, height=3.2)
    sizes, counts = list(batches), [parameters(width) for width in widths]
    for axes, x, runs, label in ((left, sizes, batches, "batch"), (middle_, counts, widths, "parameters")):
        times = [middle(one, "step") * 1e3 for one in runs.values()]
        axes.loglog(x, times, "o-")
        if times:
            axes.loglog(x, [times[-1] * n / x[-1] for n in x], ":", color="0.5", label="linear")
        axes.set(xlabel=label, ylabel="ms a step")
        axes.legend()
    right.plot(sizes, [middle(one, "memory") for one in batches.values()], "o-")
    right.set(xlabel="batch", ylabel="MiB, peak of the process", ylim=(0, None))
    save(drawing, path)


def main() -> None:
    args = parse_arguments()
    check_writable(args.json)
    if args.picture:
        check_picture(args.picture)
    batches: dict[int, list[dict[str, Any]]] = {batch: [] for batch in args.batch_sizes}
    widths: dict[int, list[dict[str, Any]]] = {width: [] for width in args.widths}
    for _ in range(args.rounds):
        for batch, runs in batches.items():
            runs.append(measure(args, WIDTH, batch))
        for width, runs in widths.items():
            runs.append(measure(args, width, BATCH))
    found = report(batches, widths)
    if args.json:
        config = {name: getattr(args, name) for name in ("rounds", "data")}
        content = {"config": config, "batches": batches, "widths": widths, **found}
        write_json(args.json, {**content, "environment": describe(get_backend("cpu"))})
    if args.picture:
        draw(Path(args.picture), batches, widths)


if __name__ == "__main__":
    run(main)
