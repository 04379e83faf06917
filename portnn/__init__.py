"""portnn: neural networks on the arrays you already have.

Every layer, loss and optimizer is written once against the Python array API standard, and trains on NumPy, CuPy, torch
and JAX arrays alike.
"""

from importlib import import_module
from typing import Any

from portnn import data, errors, functional, losses, metrics, nn, optim, random, training, tree
from portnn.backend import available_backends, backend_of, get_backend
from portnn.nn import Network
from portnn.training import Trainer

__all__ = [
    "Network",
    "Trainer",
    "__version__",
    "available_backends",
    "backend_of",
    "data",
    "errors",
    "functional",
    "get_backend",
    "gradcheck",
    "losses",
    "metrics",
    "nn",
    "optim",
    "random",
    "training",
    "tree",
]


def __getattr__(name: str) -> Any:
    # Asking for installed versions and loading what only tests use would slow every import down.
    if name == "__version__":
        return import_module("importlib.metadata").version("portnn")
    if name == "gradcheck":
        return import_module("portnn.gradcheck").gradcheck
    raise AttributeError(f"module 'portnn' has no attribute {name!r}")
