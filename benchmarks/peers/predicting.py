"""Predictions by one peer, in a process of its own: ``python -m peers.predicting JOB``, described in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared import run

from portnn import Network, nn
from portnn.errors import ConfigError, PortnnError
from portnn.random import Stream

__all__ = ["PREDICTORS", "in_process"]

#: Rows and their length, and classes: those of MNIST.
INPUTS, CLASSES = 784, 10

#: Seconds before anything is timed: what others compile, and portnn records, is there then.
_WARM_UP = 1.0

Predict = Callable[[Any], Any]


def _network(hidden: Sequence[int]) -> Network:
    layers = [layer for units in hidden for layer in (nn.Affine(units), nn.ReLU())]
    net = Network(nn.Sequential([*layers, nn.Affine(CLASSES)]), INPUTS, rng=0)
    net.trained_on = "numbers"
    return net


def _weights(hidden: Sequence[int]) -> list[tuple[Any, Any]]:
    return [(part["w"].copy(), part["b"].copy()) for part in _network(hidden).params if part]


def _portnn(hidden: Sequence[int], size: int) -> Predict:
    net = _network(hidden)
    return lambda x: net.predict(x, batch_size=size)


def _numpy(hidden: Sequence[int], size: int) -> Predict:
    *inner, (last, bias) = _weights(hidden)

    def predict(x: Any) -> Any:
        for w, b in inner:
            x = np.maximum(x @ w + b, 0)
        return x @ last + bias

    return lambda x: predict(x) if len(x) <= size else np.concatenate([predict(p) for p in _parts(x, size)])


def _torch(hidden: Sequence[int], size: int) -> Predict:
    import torch

    modules: list[Any] = []
    for w, b in _weights(hidden):
        affine = torch.nn.Linear(*w.shape)
        affine.weight.data, affine.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
        modules += [affine, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1]).eval()

    def predict(x: Any) -> Any:
        given = torch.from_numpy(x)  # the same memory
        with torch.no_grad():
            made = model(given) if len(x) <= size else torch.cat([model(p) for p in _parts(given, size)])
        return made.numpy()

    return predict


def _jax(hidden: Sequence[int], size: int) -> Predict:
    import jax
    from jax import numpy as jnp

    weights = [(jnp.asarray(w), jnp.asarray(b)) for w, b in _weights(hidden)]

    def apply(weights: Any, x: Any) -> Any:
        for w, b in weights[:-1]:
            x = jnp.maximum(x @ w + b, 0)
        return x @ weights[-1][0] + weights[-1][1]

    compiled = jax.jit(apply)
    return lambda x: np.concatenate([np.asarray(compiled(weights, p)) for p in _parts(x, size)])


def _estimator(module: str) -> Callable[[Sequence[int], int], Predict]:
    def make(hidden: Sequence[int], size: int) -> Predict:
        import warnings
        from importlib import import_module

        warnings.simplefilter("ignore")  # that it has not converged
        model = import_module(module).MLPClassifier(tuple(hidden), max_iter=1)
        x = Stream(1).uniform((CLASSES * 20, INPUTS)).astype(np.float32)
        model.fit(x, np.arange(len(x)) % CLASSES)
        predict: Predict = model.predict_proba
        return predict

    return make


def _parts(x: Any, size: int) -> list[Any]:
    return [x[i : i + size] for i in range(0, len(x), size)]


PREDICTORS: dict[str, Callable[[Sequence[int], int], Predict]] = {
    "portnn": _portnn,
    "NumPy": _numpy,
    "torch, no_grad": _torch,
    "JAX jit": _jax,
    "MLPClassifier of portnn": _estimator("portnn"),
    "MLPClassifier of scikit-learn": _estimator("sklearn.neural_network"),
}


def in_process(peer: str, hidden: Sequence[int], rows: int, size: int, times: int) -> dict[str, Any]:
    """Wall and CPU seconds of ``times`` predictions of some rows, after others; and what was predicted for the first.

    PortnnError with the last line that the process said if it failed.
    """
    described = json.dumps({"peer": peer, "hidden": list(hidden), "rows": rows, "size": size, "times": times})
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "peers.predicting", described],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        raise PortnnError((done.stderr.splitlines() or ["no message"])[-1].removeprefix("error: "))
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(peer: str, hidden: Sequence[int], rows: int, size: int, times: int) -> dict[str, Any]:
    try:
        predict = PREDICTORS[peer](hidden, size)
    except ImportError as error:
        raise ConfigError(f"{peer} cannot be had: {error}") from None
    x = Stream(0).uniform((rows, INPUTS)).astype(np.float32)
    begin = time.perf_counter()
    while time.perf_counter() - begin < _WARM_UP:
        y = predict(x)
    repeats = max(1, round(2e-3 / _seconds(predict, x, 1)[0]))
    found = [_seconds(predict, x, repeats) for _ in range(times)]
    return {
        "wall": [wall for wall, _ in found],
        "cpu": [cpu for _, cpu in found],
        "first": np.asarray(y[0], float).tolist(),
    }


def _seconds(predict: Predict, x: Any, repeats: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        predict(x)
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def main() -> None:
    print(json.dumps(measure(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    run(main)
