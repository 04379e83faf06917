"""The same network in portnn, torch and JAX: one training step each, from the same weights, over the same batches.

`Peer.make` takes a network of portnn and gives ``step(x, y) -> loss``; x and y are arrays of the peer's own: uint8
images and class numbers. The loss stays on the device until `Peer.number` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn import Network, Trainer, kernels, losses, nn, optim
from portnn.errors import ConfigError
from portnn.functional.windows import axes, pair

__all__ = ["PEERS", "Peer"]

Step = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Peer:
    """A way to train a network: ``make(net) -> step``, and how data come and losses go."""

    make: Callable[[Network], Step]
    array: Callable[[Any], Any]
    number: Callable[[Any], float] = float
    device: str = "numpy"


def _portnn(net: Network) -> Step:
    # The trainer's own step, without the look at the data that `fit` takes once, and `partial_fit` at every step.
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
    trainer._own_trees()
    trainer._prepare_steps()

    def step(x: Any, y: Any) -> Any:
        index = net.backend.asarray(np.arange(x.shape[0]))
        return trainer._run_step((x, y, None), index)

    return step


def _portable(net: Network) -> Step:
    inner = _portnn(net)

    def step(x: Any, y: Any) -> Any:
        with kernels.portable():
            return inner(x, y)

    return step


def _layers(net: Network) -> list[tuple[nn.Layer, Any, tuple[int, ...]]]:
    """Each layer with its parameters on the host and the shape of its input."""
    found, shape = [], net.input_shape
    for layer, params in zip(net.layer.children(), net.params, strict=True):
        found.append((layer, {name: np.array(net.backend.to_numpy(a)) for name, a in params.items()}, shape))
        shape = layer.init(net.rng, shape)[2]
    return found


def _torch(net: Network, channels_last: bool) -> Step:
    import torch

    modules: list[Any] = []
    image: tuple[int, ...] = ()
    for layer, params, shape in _layers(net):
        p = {name: torch.tensor(a) for name, a in params.items()}
        if isinstance(layer, nn.Reshape):
            modules.append(torch.nn.Unflatten(1, (1, shape[0])))
        elif isinstance(layer, nn.Conv2D):
            rows, columns = axes(shape[:2], layer.kernel, layer.stride, layer.padding, layer.dilation)
            pad = (rows.before, columns.before)
            if pad != (rows.after, columns.after):
                modules.append(torch.nn.ZeroPad2d((columns.before, columns.after, rows.before, rows.after)))
                pad = (0, 0)
            conv = torch.nn.Conv2d(shape[2], layer.channels, layer.kernel, layer.stride, pad)
            conv.weight.data, conv.bias.data = p["w"].permute(3, 2, 0, 1).contiguous(), p["b"]
            modules.append(conv)
        elif isinstance(layer, nn.MaxPool2D):
            modules.append(torch.nn.MaxPool2d(layer.size))
        elif isinstance(layer, nn.BatchNorm):
            kind = torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d
            modules.append(kind(shape[-1], eps=layer.eps, momentum=1.0 - layer.decay))
        elif isinstance(layer, nn.ReLU):
            modules.append(torch.nn.ReLU())
        elif isinstance(layer, nn.Flatten):
            image = shape if len(shape) == 3 else ()
            modules.append(torch.nn.Flatten())
        elif isinstance(layer, nn.Affine):
            affine, w = torch.nn.Linear(shape[0], layer.units), p["w"]
            if image:  # torch flattens with the channels first
                w, image = w.reshape(*image, -1).permute(2, 0, 1, 3).reshape(shape[0], -1), ()
            affine.weight.data, affine.bias.data = w.T.contiguous(), p["b"]
            modules.append(affine)
        else:
            raise ConfigError(f"no peer has a layer for {layer!r} yet")
    model = torch.nn.Sequential(*modules)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    loss_function = torch.nn.CrossEntropyLoss()

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_function(model(x.to(torch.float32) / 255.0), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _jax(net: Network) -> Step:
    import jax
    from jax import lax
    from jax import numpy as jnp

    described = _layers(net)

    def forward(params: Any, x: Any) -> Any:
        for (layer, _, shape), p in zip(described, params, strict=True):
            if isinstance(layer, nn.Reshape | nn.Flatten):
                x = x.reshape(x.shape[0], *layer.init(net.rng, shape)[2])
            elif isinstance(layer, nn.Conv2D):
                window = axes(shape[:2], layer.kernel, layer.stride, layer.padding, layer.dilation)
                strides, ends = [a.stride for a in window], [(a.before, a.after) for a in window]
                names = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, p["w"], strides, ends, dimension_numbers=names) + p["b"]
            elif isinstance(layer, nn.MaxPool2D):
                size = (1, *pair("size", layer.size), 1)
                x = lax.reduce_window(x, -jnp.inf, lax.max, size, size, "VALID")
            elif isinstance(layer, nn.ReLU):
                x = jax.nn.relu(x)
            elif isinstance(layer, nn.Affine):
                x = x @ p["w"] + p["b"]
            else:
                raise ConfigError(f"no peer has a layer for {layer!r} yet")
        return x

    def mean_loss(params: Any, x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(forward(params, x.astype(jnp.float32) / 255.0))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], axis=1))

    def update(params: Any, m: Any, v: Any, rate: float, eps: float, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(mean_loss)(params, x, y)
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        params = jax.tree.map(lambda p, a, b: p - rate * a / (jnp.sqrt(b) + eps), params, m, v)
        return params, m, v, loss

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    params = jax.tree.map(jnp.asarray, [p for _, p, _ in described])
    state = [params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params), 0]

    def step(x: Any, y: Any) -> Any:
        state[3] += 1
        root = (1.0 - 0.999 ** state[3]) ** 0.5
        *state[:3], loss = compiled(*state[:3], 1e-3 * root / (1.0 - 0.9 ** state[3]), 1e-8 * root, x, y)
        return loss

    return step


def _torch_array(a: Any) -> Any:
    import torch

    return torch.tensor(a)


def _jax_array(a: Any) -> Any:
    import jax.numpy as jnp

    return jnp.asarray(a)


PEERS = {
    "portnn numpy": Peer(_portnn, np.asarray),
    "portnn numpy, portable": Peer(_portable, np.asarray),
    "portnn torch": Peer(_portnn, _torch_array, device="torch"),
    "portnn jax": Peer(_portnn, _jax_array, device="jax"),
    "torch eager, NCHW": Peer(lambda net: _torch(net, channels_last=False), _torch_array),
    "torch eager, channels_last": Peer(lambda net: _torch(net, channels_last=True), _torch_array),
    "JAX jit": Peer(_jax, _jax_array),
}
