"""Train the same networks on several devices, for many batch sizes: how fast, how well, and how alike.

    python benchmarks/compare_devices.py --devices cpu gpu --json devices.json --picture devices.png
    python benchmarks/compare_devices.py --devices cpu torch --models small --batch-sizes 32 1024 --peers

Every run is a process of its own: same first parameters, same batches. It is timed three times, after as many steps to
warm up. The speed-up is over the first device. The ceiling is the library's product of two large square matrices on
that device; of a step, the products of its affine maps and convolutions are counted, two operations for each
multiplication, and everything else that it does takes time without counting. The accuracy is that on the test images
after all the steps of the run, and the losses that are compared with those of the first device are those of the first
quarter of them.

A device that cannot be used is left out, and so is a batch that does not fit; the table says why.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.process import TIMES, Job, in_process
from shared import (
    RECIPES,
    Parser,
    add_data_arguments,
    add_precision_argument,
    check_picture,
    check_writable,
    figure,
    run,
    save,
    write_json,
)

from portnn.checks import check_count
from portnn.environment import blas
from portnn.errors import ConfigError, PortnnError

#: What else trains the same networks, by where it does.
PEERS_AT = {
    "cpu": ("torch eager", "torch.compile, reduce-overhead", "JAX jit+scan"),
    "gpu": (
        *("portnn cupy, no graph", "torch eager, cuda", "torch.compile, reduce-overhead, cuda", "torch CUDA graph"),
        "JAX jit+scan, gpu",
    ),
}
MODELS = ("small", "mlp", "wide", "cnn")
FEWEST_STEPS = 5


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--devices", nargs="+", default=["cpu", "gpu"], help="names of devices (default: cpu gpu)")
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument(
        "--batch-sizes",
        nargs="+",
        default=["32..8192"],
        metavar="SIZE",
        help="numbers, or ranges that double, such as 32..8192 (the default)",
    )
    parser.add_count("--steps", default=50, help="timed at once, at most (default: 50)")
    parser.add_count(
        "--examples",
        default=60_000,
        help=f"in the steps that are timed at once, at most, but {FEWEST_STEPS} steps are made at least "
        "(default: 60000)",
    )
    add_precision_argument(parser)
    parser.add_argument("--peers", action="store_true", help="measure torch and JAX on the same devices, too")
    add_data_arguments(parser)
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    parser.add_path("--picture", metavar="FILE", help="draw samples a second over batch sizes as a PNG")
    return parser.parse_args()


def batch_sizes(given: Sequence[str]) -> list[int]:
    """The numbers that are meant, in order: ``["8", "32..128"]`` gives 8, 32, 64, 128."""
    sizes: set[int] = set()
    for text in given:
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
        if match is None:
            raise ConfigError(f"a batch size is a number, or a range such as 32..8192, not {text!r}")
        size, last = check_count("batch-sizes", int(match[1])), int(match[2] or match[1])
        if last < size:
            raise ConfigError(f"the range {text} goes down")
        while size <= last:
            sizes.add(size)
            size *= 2
    return sorted(sizes)


class Comparison:
    """The runs so far.

    Attributes
    ----------
    devices : dict
        What is known of each device that can be used: its ceiling, precision and environment.
    left_out : dict
        Why a device, a peer or a run is missing, by its name.
    rows : list of dict
        A run each.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.devices: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []

    def leave_out(self, name: str, error: PortnnError) -> None:
        self.left_out[name] = str(error)
        print(f"left out: {name}: {error}", flush=True)

    def open(self, device: str) -> None:
        """Measure the ceiling of a device, in the precision that was asked for if it has that."""
        job = replace(self._job, peer=device, ceiling=True)
        try:
            found = in_process(job)
        except PortnnError as error:
            if job.precision == "float32":
                self.leave_out(device, error)
                return
            try:
                found = in_process(replace(job, precision="float32"))
            except PortnnError as second:
                self.leave_out(device, second)
                return
            print(f"NOTE: {device} computes in float32: {error}", flush=True)
        self.devices[device] = found
        print(
            f"{device}: {found['environment']['device']}, {found['precision']}; ceiling {found['ceiling_gflops']:,.0f} "
            f"GFLOP/s, the product of matrices of {found['ceiling_side']} by {found['ceiling_side']}",
            flush=True,
        )

    def peers(self) -> dict[str, str]:
        """What trains the same networks where our devices are: peers by name, each with a device to compare it with."""
        found: dict[str, str] = {}
        for device, about in self.devices.items():
            for peer in PEERS_AT[about["place"]]:
                found.setdefault(peer, device)
        return found

    def measure(self, name: str, device: str, model: str, size: int, steps: int) -> None:
        """One run, of portnn or of a peer, next to those of the same model and batch size."""
        about = self.devices[device]
        job = replace(self._job, peer=name, model=model, batch_size=size, steps=steps, precision=about["precision"])
        try:
            found = in_process(job)
        except PortnnError as error:
            self.leave_out(f"{name}, {model}, batch {size}", error)
            return
        first = next((row for row in self.rows if (row["model"], row["batch_size"]) == (model, size)), None)
        losses, seconds = found.pop("losses"), found["step"] / 1e6
        found |= {"model": model, "batch_size": size, "name": name, "steps": steps * (1 + TIMES)}
        found["samples_per_second"] = size / seconds
        found["gflops"] = found["operations"] / seconds / 1e9
        found["of_ceiling"] = found["gflops"] / about["ceiling_gflops"]
        found["speed_up"] = 1.0 if first is None else first["step"] / found["step"]
        found["losses"] = losses
        found["loss_difference"] = difference(losses, losses if first is None else first["losses"])
        self.rows.append(found)
        print(line(found), flush=True)
        if found["note"]:
            print(f"NOTE: {name}: not compiled: {found['note']}", flush=True)


def difference(losses: Sequence[float], others: Sequence[float]) -> float | None:
    """The largest one between two curves; None where one of them has no losses of single steps."""
    if len(losses) != len(others):
        return None
    return max(abs(a - b) for a, b in zip(losses, others, strict=True))


COLUMNS = (
    ("us / step", 10),
    ("s / epoch", 9),
    ("samples/s", 11),
    ("speed-up", 8),
    ("GFLOP/s", 9),
    ("of ceiling", 10),
    ("accuracy", 8),
    ("loss differs", 12),
)


def heading() -> str:
    return f"{'model':<9} {'batch':>5}  {'':<36}" + " ".join(f"{title:>{width}}" for title, width in COLUMNS)


def line(row: dict[str, Any]) -> str:
    apart = row["loss_difference"]
    cells = [
        *(f"{row['step']:,.0f}", f"{row['epoch']:.2f}", f"{row['samples_per_second']:,.0f}", f"{row['speed_up']:.2f}"),
        *(f"{row['gflops']:,.0f}", f"{row['of_ceiling']:.0%}"),
        "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
        "-" if apart is None else f"{apart:.1e}",
    ]
    text = " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return f"{row['model']:<9} {row['batch_size']:>5}  {row['name']:<36}{text}"


def draw(picture: Path, rows: Sequence[dict[str, Any]], note: str) -> None:
    """Samples a second over batch sizes, both on logarithmic axes: a panel for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    sizes = sorted({row["batch_size"] for row in rows})
    columns = min(2, len(models))
    height = -(-len(models) // columns)
    drawing, panels = figure(height, columns, width=1.0 + 4.2 * columns, height=1.0 + 3.0 * height)
    for axes, model in zip(panels, models, strict=False):
        for i, name in enumerate(names):
            mine = [row for row in rows if (row["model"], row["name"]) == (model, name)]
            x, y = [row["batch_size"] for row in mine], [row["samples_per_second"] for row in mine]
            axes.plot(x, y, marker="o", markersize=3, color=f"C{i}", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.grid(alpha=0.3)
        axes.set_title(model)
        axes.set_xlabel("batch size")
        axes.set_ylabel("samples a second")
    for axes in panels[len(models) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    drawing.suptitle(note, fontsize=9)
    save(drawing, picture)


def main() -> None:
    args = parse_arguments()
    sizes = batch_sizes(args.batch_sizes)
    check_writable(args.json)
    if args.picture:
        check_picture(args.picture)
    job = Job(
        peer="", model="", batch_size=1, steps=1, data=args.data, data_dir=args.data_dir, precision=args.precision
    )
    comparison = Comparison(job)
    for device in dict.fromkeys(args.devices):
        comparison.open(device)
    if not comparison.devices:
        raise PortnnError("; ".join(f"{name}: {why}" for name, why in comparison.left_out.items()))
    kernel = blas()
    pinned = " (pinned by OPENBLAS_CORETYPE: a user's machine may be faster)" if kernel.get("pinned") else ""
    note = f"BLAS kernel of NumPy: {kernel.get('kernel')}{pinned}, {kernel.get('threads')} threads"
    print(f"{note}\n{heading()}", flush=True)
    for model in args.models:
        for size in sizes:
            steps = min(args.steps, max(FEWEST_STEPS, args.examples // size))
            for device in comparison.devices:
                comparison.measure(device, device, model, size, steps)
            for peer, device in comparison.peers().items() if args.peers else ():
                comparison.measure(peer, device, model, size, steps)
    if not comparison.rows:
        raise PortnnError("no run ended well")
    for name, why in comparison.left_out.items():
        print(f"left out: {name}: {why}")
    if args.json:
        config = {name: value for name, value in vars(args).items() if name not in ("picture", "json")}
        content = {"config": config, "devices": comparison.devices, "left_out": comparison.left_out}
        write_json(args.json, {**content, "runs": comparison.rows})
        print(f"wrote {args.json}")
    if args.picture:
        draw(Path(args.picture), comparison.rows, note)


if __name__ == "__main__":
    run(main)
