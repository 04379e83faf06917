"""portnn: neural networks on the arrays you already have.

Every layer, loss and optimizer is written once against the Python array API standard, and trains on NumPy, CuPy, torch
and JAX arrays alike.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portnn import (
        backend,
        data,
        errors,
        functional,
        gradcheck,
        kernels,
        losses,
        metrics,
        nn,
        numerical,
        optim,
        random,
        training,
        tree,
    )
    from portnn.backend import available_backends, backend_of, get_backend
    from portnn.nn import Network
    from portnn.training import Trainer

__all__ = [
    "Network",
    "Trainer",
    "available_backends",
    "backend",
    "backend_of",
    "data",
    "errors",
    "functional",
    "get_backend",
    "gradcheck",
    "kernels",
    "losses",
    "metrics",
    "nn",
    "numerical",
    "optim",
    "random",
    "training",
    "tree",
]

_HOMES = {
    "Network": "portnn.nn",
    "Trainer": "portnn.training",
    "available_backends": "portnn.backend",
    "backend_of": "portnn.backend",
    "get_backend": "portnn.backend",
}


def __getattr__(name: str) -> Any:
    """Load a room when it is entered (PEP 562): ``import portnn`` alone stays cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"portnn.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("portnn")
    raise AttributeError(f"module 'portnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
