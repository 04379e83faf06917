"""Where the time of a training step goes: instruction by instruction, and by layer and by phase from Python.

    python benchmarks/profile_step.py --model mlp --json profile.json

On NumPy with Numba, training replays a step that was recorded once, a tape. Its instructions are shown first: each one
timed by itself in its order, in one thread; then the whole, as all cores replay it. Where there is no tape, the reason.

Then the same step from Python, by layers and phases, and how fast its products are.
Each phase ends before the next one begins, also on a device that works by itself. Figures are medians over the steps.
Products are those of the affine maps and convolutions, two operations for each multiplication; their speed is
compared with that of the library's matrix product of square matrices, measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flops import by_layer, ceiling
from shared import (
    RECIPES,
    Parser,
    add_data_arguments,
    add_device_arguments,
    add_precision_argument,
    check_writable,
    load_images,
    run,
    write_json,
)
from tape_of_step import figures, table, taped

from portnn import Network, get_backend, losses, nn, optim
from portnn._typing import Array, Backward, Shape, Tree
from portnn.backend import Backend
from portnn.environment import describe
from portnn.random import Stream, as_stream
from portnn.training.batch import Batch
from portnn.training.steps import gather

WARM_UP = 10


@dataclass
class Clock:
    """Seconds by (layer, phase), a list with an entry for each step."""

    backend: Backend
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, layer: str, phase: str, function: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = function()
        self.backend.synchronize()
        self.seconds[layer, phase].append(time.perf_counter() - begin)
        return result

    def microseconds(self, key: tuple[str, str]) -> float:
        values = self.seconds[key][WARM_UP:]
        return statistics.median(values) * 1e6 if values else 0.0


@dataclass(frozen=True)
class Timed(nn.Layer):
    """A layer that says how long it takes."""

    inner: nn.Layer
    name: str
    clock: Clock

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return self.inner.init(rng, input_shape)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        y, state, pullback = self.clock.measure(
            self.name, "forward", lambda: self.inner.forward(params, state, x, train=train, rng=rng)
        )

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            result: tuple[Array | None, Tree] = self.clock.measure(
                self.name, "backward", lambda: pullback(dy, input_grad=input_grad)
            )
            return result

        return y, state, backward


def parse_arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_device_arguments(parser)
    add_precision_argument(parser)
    parser.add_argument("--model", choices=RECIPES, default="mlp", help="default: mlp")
    parser.add_count("--batch-size", help="default: that of the model's recipe")
    parser.add_count("--steps", default=100, help="default: 100")
    add_data_arguments(parser)
    parser.add_path("--json", metavar="FILE", help="write all figures and the machine's description")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    check_writable(args.json)
    recipe, backend = RECIPES[args.model], get_backend(args.backend or args.device, args.precision)
    size, steps = args.batch_size or recipe.batch_size, args.steps + WARM_UP
    data = load_images(args.data, args.data_dir)
    layer = recipe.network(data.x_train.shape[1:], data.classes, recipe.hidden)
    clock = Clock(backend)
    names = [f"{i} {type(child).__name__}" for i, child in enumerate(layer.children())]
    timed = nn.Sequential([Timed(c, name, clock) for c, name in zip(layer.children(), names, strict=True)])
    net = Network(timed, data.x_train.shape[1:], device=backend, rng=0)
    optimizer = recipe.make_optimizer(steps, recipe.optimizer, None)
    plain = Network(layer, data.x_train.shape[1:])
    fastest, side = ceiling(backend)
    tape = taped(
        Network(layer, data.x_train.shape[1:], device=backend, rng=0),
        *(recipe.loss, optimizer, data.x_train, data.y_train, size, steps),
    )
    whole = train(net, clock, recipe.loss, optimizer, data.x_train, data.y_train, size, steps)

    rows = []
    for name, work in zip(names, by_layer(plain, size), strict=True):
        there, back = clock.microseconds((name, "forward")), clock.microseconds((name, "backward"))
        rows.append({"layer": name, "forward": there, "backward": back, "operations": work})
    phases = {name: clock.microseconds(("", name)) for name in ("gather", "loss", "update")}
    print(*table(tape), "", sep="\n")
    report(args, rows, phases, whole, (fastest, side), size)
    if args.json:
        content = {"config": vars(args), "layers": rows, "phases": phases, "step": whole, "ceiling_gflops": fastest}
        content["tape"] = figures(tape)
        write_json(args.json, {**content, "environment": describe(backend)})


def train(
    net: Network,
    clock: Clock,
    loss: losses.Loss,
    optimizer: optim.Optimizer,
    x: Any,
    y: Any,
    size: int,
    steps: int,
) -> float:
    """Run the phases one after the other; the median of whole steps, in microseconds."""
    backend, slots = net.backend, optimizer.slots(net.params)
    dtype, images, labels = backend.dtype(net.dtype), backend.asarray(x), backend.asarray(y)
    params, state, rng = net.params, net.state, as_stream(0)
    whole = []
    with backend.context():
        for i in range(steps):
            numbers = rng.at(i).permutation(len(x))[:size]
            begin = time.perf_counter()
            index = backend.asarray(numbers)
            rows, target, _ = clock.measure("", "gather", lambda: gather(Batch(images, labels, None, index), dtype))  # noqa: B023
            out, state, backward = net.layer.forward(params, state, rows, train=True, rng=rng.at(i))
            slope = clock.measure("", "loss", lambda: loss(out, target)[1]())  # noqa: B023
            _, grads = backward(slope, input_grad=False)
            params, slots = clock.measure(
                "",
                "update",
                lambda: optimizer.update(params, grads, slots, optimizer.hyper(i + 1)),  # noqa: B023
            )
            whole.append(time.perf_counter() - begin)
    return statistics.median(whole[WARM_UP:]) * 1e6


def report(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    phases: dict[str, float],
    whole: float,
    best: tuple[float, int],
    size: int,
) -> None:
    fastest, side = best
    print(f"{args.model}, batch {size}; microseconds a step, and 10^9 operations a second")
    print(f"{'layer':<18} {'forward':>9} {'backward':>9} {'share':>7} {'GFLOP/s':>9} {'of ceiling':>11}")
    for row in rows:
        spent = row["forward"] + row["backward"]
        speed = row["operations"] / spent / 1e3 if row["operations"] else 0.0
        products = f"{speed:>9.1f} {speed / fastest:>10.0%}" if speed else ""
        print(f"{row['layer']:<18} {row['forward']:>9.0f} {row['backward']:>9.0f} {spent / whole:>7.1%} {products}")
    for name, spent in phases.items():
        print(f"{name:<18} {spent:>19.0f} {spent / whole:>7.1%}")
    known = sum(row["forward"] + row["backward"] for row in rows) + sum(phases.values())
    print(f"{'between':<18} {whole - known:>19.0f} {(whole - known) / whole:>7.1%}")
    work = sum(row["operations"] for row in rows)
    print(f"{'step':<18} {whole:>19.0f} {'':>7} {work / whole / 1e3:>9.1f} {work / whole / 1e3 / fastest:>10.0%}")
    print(f"ceiling: {fastest:.0f} GFLOP/s, the product of matrices of {side} by {side}")


if __name__ == "__main__":
    run(main)
