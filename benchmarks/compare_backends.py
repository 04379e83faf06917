"""Same seed, same curve: train the same network on several backends, and compare each with the first.

    python benchmarks/compare_backends.py --backends numpy torch jax

The network is that of train_mnist.py, once with dropout. The initial parameters and the numbers that decide what is
dropped are compared bit for bit, the losses of the first steps relatively. Exit code 1 if a backend breaks what is
promised. The last case is not promised, and shown for what it is:
with ReLU in float32, rounding sooner or later decides on which side of its kink a pre-activation falls, and from that
step on the runs part. For float64 on JAX, set JAX_ENABLE_X64=1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from peers.process import noise
from shared import Parser, Watch, add_data_arguments, add_seed_argument, load_images, mlp, run

from portnn import Network, Trainer, available_backends, get_backend, losses, nn, optim, tree
from portnn.backend import Backend
from portnn.data import Dataset
from portnn.errors import BackendError
from portnn.random import Stream


class Case(NamedTuple):
    activation: nn.Layer
    dtype: str
    tolerance: float
    promised: bool
    dropout: float = 0.0

    def __str__(self) -> str:
        return f"{type(self.activation).__name__} {self.dtype}" + (", dropout" if self.dropout else "")


CASES = (
    Case(nn.Tanh(), "float32", 1e-4, promised=True),
    Case(nn.Tanh(), "float32", 1e-4, promised=True, dropout=0.2),
    Case(nn.ReLU(), "float64", 1e-10, promised=True),
    Case(nn.ReLU(), "float32", 1e-4, promised=False),
)


def first_steps(device: str, case: Case, data: Dataset, steps: int, seed: int) -> tuple[bytes, NDArray[np.float64]]:
    """The bits of the initial parameters and of what dropout draws, and the losses of the first steps."""
    layer = mlp([512, 512], data.classes, _dropping(case))
    net = Network(layer, data.x_train.shape[1:], device=device, rng=seed, dtype=case.dtype)
    bits = b"".join(net.backend.to_numpy(leaf).tobytes() for leaf in tree.leaves(net.params))
    bits += drawn(net.backend, case.dtype, seed)
    watch = Watch(steps)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=[watch], rng=seed)
    while len(watch.losses) < steps:
        trainer.fit(data.x_train, data.y_train, batch_size=128)
    return bits, np.asarray(watch.losses[:steps])


def _dropping(case: Case) -> nn.Layer:
    return nn.Sequential([case.activation, nn.Dropout(case.dropout)]) if case.dropout else case.activation


def drawn(backend: Backend, dtype: str, seed: int) -> bytes:
    """The bits of uniform numbers as layers draw them in some steps, for whole and odd shapes."""
    with backend.context():
        shapes = [backend.asarray(np.zeros(shape, dtype)) for shape in ((128, 512), (7, 3), (1,), (33, 5, 2))]
        streams = [Stream(seed).child("noise", 2).at(step) for step in (1, 2, 2**32 + 1)]
        return b"".join(backend.to_numpy(s.uniform_like(a)).tobytes() for s in streams for a in shapes)


def main() -> int:
    parser = Parser(__doc__)
    usable = [name for name, status in available_backends().items() if status.usable and name != "strict"]
    usable.sort(key=lambda name: name != "numpy")
    parser.add_argument("--backends", nargs="+", default=usable, help=f"default: {' '.join(usable)}")
    parser.add_count("--steps", default=100, help="whose losses are compared (default: 100)")
    add_seed_argument(parser, "of parameters, batches and noise")
    add_data_arguments(parser, more=["noise"])
    args = parser.parse_args()
    if len(args.backends) < 2:
        raise BackendError(f"there is nothing to compare {args.backends[0]} with: name two backends at least")
    data = noise() if args.data == "noise" else load_images(args.data, args.data_dir)

    reference, *others = args.backends
    print(
        f"{data.name}, 512-512 hidden units, Adam, batch 128, {args.steps} steps, seed {args.seed}, against {reference}"
    )
    print(f"{'network':<21} {'backend':<10} {'bits':<11} {'max. difference':>15} {'above':>6} {'from step':>10}")
    broken = 0
    for case in CASES:
        bits, curve = first_steps(reference, case, data, args.steps, args.seed)
        for name in others:
            network = str(case)
            if not get_backend(name).supports(case.dtype):
                print(f"{network:<21} {name:<10} has no {case.dtype}")
                continue
            other_bits, other = first_steps(name, case, data, args.steps, args.seed)
            difference = np.abs(other - curve) / np.abs(curve)
            above = np.flatnonzero(~(difference <= case.tolerance))
            equal = "equal" if bits == other_bits else "DIFFERENT"
            since = f"{above[0] + 1:>10}" if above.size else f"{'never':>10}"
            remark = "" if case.promised or not above.size else "  (not promised)"
            print(
                f"{network:<21} {name:<10} {equal:<11} {difference.max():>15.1e} {case.tolerance:>6.0e} {since}{remark}"
            )
            broken += bits != other_bits or bool(case.promised and above.size)
    print("all promises hold" if not broken else f"{broken} promises BROKEN")
    return 1 if broken else 0


if __name__ == "__main__":
    run(main)
