"""Same seed, same curve: train the same network on several backends and compare them with the first.

    python scripts/compare_backends.py --backends numpy torch jax --steps 100

Compares the initial parameters bit for bit and the loss of every step relatively; exit code 1 if a backend differs
by more than --tolerance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from common import load_images, run
from train_mnist import mlp

from portnn import Network, Trainer, available_backends, losses, optim, tree
from portnn.data import Dataset
from portnn.training import Callback


class StopAfter(Callback):
    """Keeps the losses, and ends the run after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def on_losses(self, trainer: Trainer, losses: Sequence[float]) -> None:
        self.losses += losses
        if trainer.step >= self.steps:
            trainer.stop()


def loss_curve(device: str, data: Dataset, steps: int, dtype: str) -> tuple[bytes, list[float]]:
    """The bits of the initial parameters, and the losses of the first steps."""
    net = Network(mlp([512, 512], data.classes), data.x_train.shape[1:], device=device, rng=0, dtype=dtype)
    bits = b"".join(net.backend.to_numpy(leaf).tobytes() for leaf in tree.leaves(net.params))
    watch = StopAfter(steps)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=[watch], rng=0)
    while len(watch.losses) < steps:
        trainer.fit(data.x_train, data.y_train, batch_size=128)
    return bits, watch.losses[:steps]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usable = [name for name, status in available_backends().items() if status.usable and name != "strict"]
    usable.sort(key=lambda name: name != "numpy")
    parser.add_argument("--backends", nargs="+", default=usable, help=f"default: {' '.join(usable)}")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--tolerance", type=float, help="default: 1e-4 for float32, 1e-10 for float64")
    parser.add_argument("--data", choices=["auto", "mnist", "digits"], default="auto")
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    tolerance = args.tolerance or {"float32": 1e-4, "float64": 1e-10}[args.dtype]
    data = load_images(args.data, args.data_dir)

    reference, *others = args.backends
    bits, curve = loss_curve(reference, data, args.steps, args.dtype)
    print(f"{data.name}, {args.steps} steps, {args.dtype}; loss of {reference}: {curve[0]:.6f} -> {curve[-1]:.6f}")
    agree = True
    for name in others:
        other_bits, other = loss_curve(name, data, args.steps, args.dtype)
        difference = float(np.max(np.abs(np.subtract(curve, other)) / np.abs(curve)))
        same = "equal bit for bit" if bits == other_bits else "DIFFERENT"
        verdict = "ok" if difference <= tolerance else f"MORE THAN {tolerance:g}"
        print(
            f"{name}: initial parameters {same}; largest relative difference of the losses {difference:.2e}: {verdict}"
        )
        agree = agree and bits == other_bits and difference <= tolerance
    return 0 if agree else 1


if __name__ == "__main__":
    run(main)
