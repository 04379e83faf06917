"""JAX, written out."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from numpy.typing import NDArray
from shared import Recipe

from portnn import Network, losses, nn, optim
from portnn.backend import first_line
from portnn.errors import ConfigError
from portnn.functional.windows import axes, pair

from . import described


class WithJax:
    """A compiled step; or compiled, with ``scan``, all the steps of a call as one loop. On the first device found."""

    def __init__(
        self,
        net: Network,
        recipe: Recipe,
        images: Any,
        labels: Any,
        *,
        platform: str = "cpu",
        scan: bool = False,
        precision: str = "float32",
    ) -> None:
        try:
            jax.config.update("jax_default_device", jax.devices(platform)[0])
        except RuntimeError as error:
            raise ConfigError(f"JAX has no {platform}: {first_line(error)}") from None
        jax.config.update("jax_default_matmul_precision", {"tf32": "tensorfloat32"}.get(precision, precision))
        self.layers = [(layer, shape) for layer, _, shape in described(net)]
        self.rule, self.net = recipe.make_optimizer(1, recipe.optimizer, None), net
        if recipe.loss != losses.SoftmaxCrossEntropy() or not isinstance(self.rule, optim.Adam | optim.SGD):
            raise ConfigError(f"JAX is not told about {self.rule} with {recipe.loss} yet")
        known = nn.Reshape | nn.Flatten | nn.Conv2D | nn.MaxPool2D | nn.ReLU | nn.Affine | nn.BatchNorm | nn.Dropout
        for layer, _ in self.layers:
            if not isinstance(layer, known):
                raise ConfigError(f"JAX is not told about {layer!r} yet")
        self.images, self.labels, self.scan = jnp.asarray(images), jnp.asarray(labels), scan
        params = [{name: jnp.asarray(a) for name, a in p.items()} for _, p, _ in described(net)]
        zeros = jax.tree.map(jnp.zeros_like, params)
        self.carried = (params, zeros, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

        def step(carried: Any, index: Any, images: Any, labels: Any) -> Any:
            return self._step(carried, images[index], labels[index])

        def loop(carried: Any, batches: Any, images: Any, labels: Any) -> Any:
            return lax.scan(lambda c, index: step(c, index, images, labels), carried, batches)

        self.compiled = jax.jit(loop if scan else step, donate_argnums=0)

    def train(self, batches: NDArray[Any]) -> list[float]:
        values = []
        for index in [batches] if self.scan else batches:
            self.carried, value = self.compiled(self.carried, jnp.asarray(index), self.images, self.labels)
            values.append(value)
        return [float(value) for value in np.ravel(np.asarray(jnp.stack(values)))]

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        x = jnp.asarray(images).astype(jnp.float32) / 255.0
        return np.asarray(jnp.argmax(self._forward(self.carried[0], x, None), axis=1))

    def _forward(self, params: Any, x: Any, key: Any) -> Any:
        for i, ((layer, shape), p) in enumerate(zip(self.layers, params, strict=True)):
            if isinstance(layer, nn.Reshape | nn.Flatten):
                x = x.reshape(x.shape[0], *layer.init(self.net.rng, shape)[2])
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
            elif isinstance(layer, nn.BatchNorm):
                if key is None:
                    raise ConfigError("JAX is not told about running statistics: it can only train batch normalisation")
                over = tuple(range(x.ndim - 1))
                mean, variance = jnp.mean(x, over), jnp.var(x, over)
                x = (x - mean) * lax.rsqrt(variance + layer.eps) * p["gamma"] + p["beta"]
            elif isinstance(layer, nn.Dropout):
                if key is not None:
                    kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1.0 - layer.rate, x.shape)
                    x = jnp.where(kept, x / (1.0 - layer.rate), 0.0)
            elif isinstance(layer, nn.Affine):
                x = x @ p["w"] + p["b"]
        return x

    def _step(self, carried: Any, x: Any, y: Any) -> Any:
        params, m, v, t = carried
        t = t + 1

        def mean_loss(params: Any) -> Any:
            logits = self._forward(params, x.astype(jnp.float32) / 255.0, jax.random.fold_in(jax.random.key(0), t))
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None].astype(jnp.int32), axis=1))

        loss, grads = jax.value_and_grad(mean_loss)(params)
        rate = self.rule.hyper(1)["lr"]
        if isinstance(self.rule, optim.SGD):
            return (jax.tree.map(lambda p, g: p - rate * g, params, grads), m, v, t), loss
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        root = jnp.sqrt(1.0 - 0.999**t)
        size, tiny = rate * root / (1.0 - 0.9**t), 1e-8 * root
        params = jax.tree.map(lambda p, a, b: p - size * a / (jnp.sqrt(b) + tiny), params, m, v)
        return (params, m, v, t), loss
