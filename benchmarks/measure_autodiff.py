"""What derivatives cost: those of portnn.autodiff against HIPS autograd, and against backward passes written by hand.

    OMP_NUM_THREADS=1 python benchmarks/measure_autodiff.py --rounds 40 --json autodiff.json

CPU time on NumPy, medians of rounds in which all take turns: what else runs on the machine counts for little. Needs
HIPS autograd: pip install autograd.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from shared import Parser, check_writable, run, write_json

from portnn import Network, backend_of, losses, nn, tree
from portnn.autodiff import grad, hessian, hvp, value_and_grad
from portnn.errors import MissingLibraryError


def chain(xp: Any, x: Any) -> Any:
    """50 sines."""
    for _ in range(50):
        x = xp.sin(x)
    return xp.sum(x)


def mixed(xp: Any, x: Any) -> Any:
    """61 operations of several kinds."""
    y = x
    for _ in range(10):
        y = xp.tanh(y * x + 0.1) - y / (2.0 + xp.exp(-y))
    return xp.sum(y)


def rosenbrock(xp: Any, x: Any) -> Any:
    """The sum over neighbours."""
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def perceptron(xp: Any, params: Any, x: Any, t: Any) -> Any:
    """784-512-512-10, with tanh and cross-entropy, in array operations."""
    for w, b in params[:-1]:
        x = xp.tanh(x @ w + b)
    w, b = params[-1]
    z = x @ w + b
    z = z - xp.max(z, axis=1, keepdims=True)
    return xp.sum(t * (xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True)) - z)) / x.shape[0]


def of_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of arrays whose namespace they know."""
    return lambda *args: function(array_namespace(tree.leaves(args[0])[0]), *args)


def tasks() -> dict[str, dict[str, Callable[[], Any]]]:
    """For each comparison the programs by name; the first is ours, the second what it is measured by."""
    try:
        hips, wrapped = import_module("autograd"), import_module("autograd.numpy")
    except ImportError:
        raise MissingLibraryError("HIPS autograd is not installed: pip install autograd") from None
    rng = np.random.default_rng(0)
    few, ten = rng.normal(size=5), rng.normal(size=10)

    def theirs(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: function(wrapped, *args)

    def pair(how: Any, how_theirs: Any, function: Any, *args: Any) -> dict[str, Callable[[], Any]]:
        ours, other = how(of_arrays(function)), how_theirs(theirs(function))
        return {"portnn": lambda: ours(*args), "HIPS": lambda: other(*args)}

    sizes = (784, 512, 512, 10)
    params = tuple(
        (rng.normal(size=(a, b)).astype(np.float32) / a**0.5, np.zeros(b, np.float32))
        for a, b in zip(sizes, sizes[1:], strict=False)
    )
    x = rng.normal(size=(128, 784)).astype(np.float32)
    labels = rng.integers(0, 10, 128)
    t = np.eye(10, dtype=np.float32)[labels]
    their_params = [list(layer) for layer in params]
    ours, other = grad(of_arrays(perceptron)), hips.grad(theirs(perceptron))
    layers = [nn.Affine(512), nn.Tanh(), nn.Affine(512), nn.Tanh(), nn.Affine(10)]
    network = Network(nn.Sequential(layers), 784, rng=0)
    loss = losses.SoftmaxCrossEntropy()
    layer, state, weights = network.layer, network.state, network.params

    def by_hand() -> Any:
        with backend_of(x).context():
            y, _, backward = layer.forward(weights, state, x, train=True)
            return backward(loss(y, labels)[1](), input_grad=False)[1]

    of_pairs = value_and_grad(lambda weights: loss(layer.forward(weights, state, x, train=True)[0], labels)[0])
    pure = grad(of_arrays(lambda xp, weights: perceptron(xp, _as_pairs(weights), x, t)))
    along = np.ones(10)
    their_hvp = hips.hessian_vector_product(theirs(rosenbrock))
    return {
        "50 sines, gradient": pair(grad, hips.grad, chain, few),
        "mixed operations, gradient": pair(grad, hips.grad, mixed, few),
        "Rosenbrock in 10 variables, gradient": pair(grad, hips.grad, rosenbrock, ten),
        "Rosenbrock, Hessian": pair(hessian, hips.hessian, rosenbrock, ten),
        "Rosenbrock, Hessian times a vector": {
            "portnn": lambda: hvp(of_arrays(rosenbrock), ten, along),
            "HIPS": lambda: their_hvp(ten, along),
        },
        "network 784-512-512-10, gradient": {
            "portnn": lambda: ours(params, x, t),
            "HIPS": lambda: other(their_params, x, t),
        },
        "the same, of layers": {"portnn": lambda: of_pairs(weights), "by hand": by_hand},
        "the same, in array operations": {"portnn": lambda: pure(weights), "by hand": by_hand},
    }


def _as_pairs(weights: Any) -> Any:
    return [(layer["w"], layer["b"]) for layer in weights if layer]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_count("--rounds", default=40, help="default: 40")
    parser.add_path("--json", metavar="FILE", help="write what was measured")
    args = parser.parse_args()
    check_writable(args.json)
    found: dict[str, dict[str, float]] = {}
    compared = tasks()
    print(f"{'':<40} {'portnn us':>10} {'other us':>10} {'ratio':>7}   (medians of {args.rounds})")
    for name, programs in compared.items():
        measured = measure(programs, args.rounds)
        (_, ours), (other, theirs) = measured.items()
        found[name] = {"portnn": ours, other: theirs, "ratio": ours / theirs}
        print(f"{name:<40} {ours:>10.0f} {theirs:>10.0f} {ours / theirs:>7.2f}   of {other}", flush=True)
    if args.json is not None:
        write_json(args.json, {"rounds": args.rounds, "microseconds": found})


def measure(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The CPU time of a call of each, in microseconds; they take turns."""
    repeat = {}
    for name, program in programs.items():
        program()
        begin = time.process_time()
        program()
        repeat[name] = max(1, round(0.004 / max(time.process_time() - begin, 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            begin = time.process_time()
            for _ in range(repeat[name]):
                program()
            taken[name].append((time.process_time() - begin) / repeat[name])
    return {name: statistics.median(values) * 1e6 for name, values in taken.items()}


if __name__ == "__main__":
    run(main)
