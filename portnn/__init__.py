"""portnn: neural networks on the arrays you already have.

Every layer, loss and optimizer is written once against the Python array API standard, and trains on NumPy, CuPy, torch
and JAX arrays alike.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portnn import (
        autodiff,
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
        regularizers,
        shapes,
        testing,
        training,
        tree,
    )
    from portnn.backend import available_backends, backend_of, get_backend
    from portnn.estimators import LossCurveDisplay as LossCurveDisplay
    from portnn.estimators import MLPClassifier as MLPClassifier
    from portnn.estimators import MLPRegressor as MLPRegressor
    from portnn.nn import Network
    from portnn.training import Trainer

__all__ = [
    "Network",
    "Trainer",
    "autodiff",
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
    "regularizers",
    "shapes",
    "testing",
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

#: What needs scikit-learn, and therefore is not in ``__all__``: a star-import must not ask for more than NumPy.
_OPTIONAL = ("LossCurveDisplay", "MLPClassifier", "MLPRegressor")


def __getattr__(name: str) -> Any:
    """Load a room when it is entered (PEP 562): ``import portnn`` alone stays cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _OPTIONAL:
        return getattr(import_module("portnn.estimators"), name)
    if name in (*__all__, "estimators"):
        return import_module(f"portnn.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("portnn")
    raise AttributeError(f"module 'portnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_OPTIONAL, "__version__", "estimators"])
