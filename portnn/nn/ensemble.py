"""Several networks that decide together."""

from __future__ import annotations

from collections.abc import Iterable

from portnn import tree
from portnn._typing import Array
from portnn.errors import ConfigError, ShapeError
from portnn.nn.layer import Layer
from portnn.nn.network import Network
from portnn.random import ShapeStream

__all__ = ["Ensemble"]


class Ensemble:
    """The average of the predictions of several networks.

    Parameters
    ----------
    networks : iterable of Network
        Trained apart, from different seeds or on different data; of equal input and output shape, and each wherever
        it likes.
    activation : Layer, optional
        What is done to the scores of each network before they are averaged, a layer without parameters: with
        ``nn.Softmax()``, probabilities are averaged, which is what ensembles of classifiers usually do.

    Attributes
    ----------
    networks : tuple of Network

    Raises
    ------
    ConfigError, ShapeError
        If there is no network, or the networks differ in the shape of their input or output.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import nn
    >>> nets = [nn.Network(nn.Affine(3), 2, rng=seed) for seed in range(5)]
    >>> Ensemble(nets, activation=nn.Softmax()).predict(np.ones((4, 2))).shape
    (4, 3)
    """

    def __init__(self, networks: Iterable[Network], *, activation: Layer | None = None) -> None:
        self.networks = tuple(networks)
        self.activation = activation
        for net in self.networks:
            if not isinstance(net, Network):
                raise ConfigError(f"an ensemble is made of networks, not of {net!r}")
        if not self.networks:
            raise ConfigError("an ensemble needs at least one network")
        shapes = {(net.input_shape, net.output_shape) for net in self.networks}
        if len(shapes) > 1:
            raise ShapeError(f"the networks of an ensemble must be of equal shape, not {sorted(shapes)}")
        if activation is not None and not isinstance(activation, Layer):
            raise ConfigError(f"activation must be a layer, not {activation!r}")
        if activation is not None and tree.leaves(activation.init(ShapeStream(), self.networks[0].output_shape)[:2]):
            raise ConfigError(f"activation must be a layer without parameters, not {activation!r}")

    def predict(self, x: Array, batch_size: int = 1024) -> Array:
        """The averaged predictions; arguments, result and errors as `Network.predict`."""
        total = sum(self._one(net, x, batch_size) for net in self.networks)
        return total / len(self.networks)

    def _one(self, net: Network, x: Array, batch_size: int) -> Array:
        y = net.predict(x, batch_size)
        return y if self.activation is None else self.activation.apply({}, (), y)

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.networks)} networks, {self.networks[0]!r} the first>"
