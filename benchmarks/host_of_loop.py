"""What the host does for a step that a GPU does: microseconds, measured without one.

    python benchmarks/host_of_loop.py

On the tests' imitation of CuPy, with graphs whose launch does nothing: so this is Python's work alone, in `Loop.run`
and in the whole of `Stepper.advance`, which asks the optimizer for its numbers, too. CuPy's launch itself comes on top.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from shared import Parser, run

from portnn import Network, Trainer, losses, nn, optim
from portnn.training.batch import Examples, Piece
from portnn.training.recipe import Recipe

STEPS, ROUNDS = 256, 9


def median_of(function: Callable[[], Any]) -> float:
    """Microseconds of a step in a chunk."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) / STEPS * 1e6


def main() -> None:
    parser = Parser(__doc__)
    parser.add_count("--batch-size", default=128, help="default: 128")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    recorded, streams = import_module("cupy_on_host.recorded"), import_module("cupy_on_host.streams")

    with recorded.open_recorded(recorded.Portable) as backend:
        layer = nn.Sequential([nn.Affine(32), nn.ReLU(), nn.Affine(10)])
        net = Network(layer, 20, device=backend, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
        stepper, size = trainer.stepper, args.batch_size
        stepper.prepare(Recipe.of(trainer))
        data = Examples(backend.asarray(np.zeros((size, 20), np.float32)), backend.asarray(np.zeros(size, np.int64)))
        pieces = [Piece(data, np.arange(size)) for _ in range(STEPS)]
        stepper.advance(pieces[:3])  # recorded
        streams.Graph.launch = lambda self, stream=None: None
        whole = median_of(lambda: stepper.advance(pieces))
        given: list[Any] = []
        run_of_loop = stepper.loop.run

        def noted(*arguments: Any) -> Any:
            given.append(arguments)
            return run_of_loop(*arguments)

        stepper.loop.run = noted  # type: ignore[method-assign, assignment]
        stepper.advance(pieces)
        alone = median_of(lambda: run_of_loop(*given[-1]))
    print(f"us of the host for a step of {STEPS}, batch {size}: Loop.run {alone:.1f}, Stepper.advance {whole:.1f}")


if __name__ == "__main__":
    run(main)
