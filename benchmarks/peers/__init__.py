"""The same network in portnn and its peers, for `compare_peers.py`: from the same weights, over the same batches.

A peer is made from a network of portnn, the recipe, and uint8 images with class numbers, which it keeps as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from portnn import Network, nn
from portnn._typing import Shape

__all__ = ["ON_GPU", "PEERS", "Peer", "Training", "described", "peer_of"]


class Training(Protocol):
    """A network in training."""

    def train(self, batches: NDArray[Any]) -> list[float]:
        """A step on each batch, numbers of examples in rows, (steps, size): the losses, their mean alone, or none."""
        ...

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        """Class numbers for uint8 images."""
        ...


@dataclass(frozen=True)
class Peer:
    """Where the training is made, ``module.name(net, recipe, images, labels, **options)``, and for which network."""

    module: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "numpy"
    #: Whether Numba seems not to be installed.
    without_numba: bool = False
    #: Whether nothing compiled by Numba is at hand.
    empty_cache: bool = False

    def make(self, *args: Any) -> Training:
        function: Callable[..., Training] = getattr(import_module(f"peers.{self.module}"), self.name)
        return function(*args, **self.options)


def described(net: Network) -> list[tuple[nn.Layer, dict[str, NDArray[Any]], Shape]]:
    """Each layer with its parameters on the host and the shape of its input."""
    found, shape = [], net.input_shape
    for layer, params in zip(net.layer.children(), net.params, strict=True):
        found.append((layer, {name: net.backend.to_numpy(a).copy() for name, a in params.items()}, shape))
        shape = layer.init(net.rng, shape)[2]
    return found


PEERS = {
    "portnn numpy": Peer("ours", "Ours"),
    "portnn numpy, first run": Peer("ours", "Ours", empty_cache=True),
    "portnn numpy, no Numba": Peer("ours", "Ours", without_numba=True),
    "portnn numpy, portable": Peer("ours", "Ours", {"portable": True}),
    "portnn torch": Peer("ours", "Ours", device="torch"),
    "portnn jax": Peer("ours", "Ours", device="jax"),
    "products and updates alone": Peer("floor", "Floor"),
    "scikit-learn": Peer("with_sklearn", "WithSklearn"),
    "torch eager": Peer("with_torch", "WithTorch"),
    "torch eager, channels_last": Peer("with_torch", "WithTorch", {"channels_last": True}),
    "torch.compile": Peer("with_torch", "WithTorch", {"compiled": "default"}),
    "torch.compile, reduce-overhead": Peer("with_torch", "WithTorch", {"compiled": "reduce-overhead"}),
    "JAX jit": Peer("with_jax", "WithJax", {"platform": "cpu"}),
    "JAX jit+scan": Peer("with_jax", "WithJax", {"platform": "cpu", "scan": True}),
    "Keras": Peer("with_keras", "WithKeras"),
}

#: The same on the first NVIDIA GPU.
ON_GPU = {
    "portnn cupy, no graph": Peer("ours", "Ours", {"compiled": False}, device="gpu"),
    "portnn cupy, portable, no graph": Peer("ours", "Ours", {"compiled": False, "portable": True}, device="gpu"),
    "torch eager, cuda": Peer("with_torch", "WithTorch", {"device": "cuda"}),
    "torch.compile, reduce-overhead, cuda": Peer(
        "with_torch", "WithTorch", {"device": "cuda", "compiled": "reduce-overhead"}
    ),
    "torch CUDA graph": Peer("with_torch", "WithTorch", {"device": "cuda", "graph": True}),
    "JAX jit, gpu": Peer("with_jax", "WithJax", {"platform": "gpu"}),
    "JAX jit+scan, gpu": Peer("with_jax", "WithJax", {"platform": "gpu", "scan": True}),
}


def peer_of(name: str) -> Peer:
    """A peer by its name, or portnn on the device of that name."""
    return (PEERS | ON_GPU).get(name) or Peer("ours", "Ours", device=name)
