"""Predictions from what a fitted estimator shows: ``coefs_``, ``intercepts_``, ``n_layers_``, ``out_activation_``.

Programs set these by hand, to load, average, prune or shrink a network; scikit-learn predicts by them, and so do the
estimators here. The methods with an underscore are those of scikit-learn that programs call.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from sklearn.utils._array_api import check_same_namespace
from sklearn.utils.validation import check_is_fitted

from portnn import functional
from portnn._typing import Array, Tree
from portnn.backend import get_backend
from portnn.errors import ConfigError
from portnn.estimators.architecture import affine_places, build_layer
from portnn.estimators.arrays import home_of, validate_examples
from portnn.estimators.parameters import Parameters
from portnn.nn import Network
from portnn.training import Trainer

__all__ = ["Fitted", "activate"]


def activate(name: str, outputs: Array) -> Array:
    """An activation of outputs, shape (n, outputs), by scikit-learn's name for it."""
    if name == "identity":
        return outputs
    with home_of(outputs).context():
        if name == "exp":
            return array_namespace(outputs).exp(outputs)
        known = {
            "softmax": functional.softmax,
            "logistic": functional.sigmoid,
            "tanh": functional.tanh,
            "relu": functional.relu,
        }
        if name not in known:
            raise ConfigError(f"out_activation_ is one of identity, exp, {', '.join(known)}, not {name!r}")
        return known[name](outputs)[0]


class Fitted(Parameters):
    """What predicts; a base of the estimators."""

    n_layers_: int
    out_activation_: str
    coefs_: list[Array]
    intercepts_: list[Array]
    #: Parameters and state of the best epoch, where early stopping keeps them.
    _best: Tree = None
    _trainer: Trainer

    def _outputs(self, X: Any, method: str) -> Array:
        """What the network gives for samples, shape (n, outputs): in the library and on the device of X."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="_first_coef", method=method)
        X = validate_examples(self, X, reset=False)
        return self._network(X).predict(X)

    def _network(self, X: Array) -> Network:
        """A network of the weights and biases that the estimator shows, to predict with."""
        trainer = getattr(self, "_trainer", None)
        if trainer is not None and self._shows(trainer.network):
            fitted: Network = trainer.network  # which has compiled already what it does with batches like these
            return fitted
        shown = self._shown_shapes()
        if trainer is not None and shown == _shapes(trainer.network):
            network: Network = copy.copy(trainer.network)
            network.params = self._adopted(network)
            return network
        if self.batch_norm:
            raise ConfigError(
                f"coefs_ have the shapes {shown}, and not those that were fitted: with batch_norm=True, the "
                "normalisation that belongs to them is not known"
            )
        layer = build_layer([k for _, k in shown[:-1]], shown[-1][1], self.activation, 0.0, False)
        device = home_of(X) if self.device is None else get_backend(self.device)
        single = array_namespace(X).float32 == X.dtype and "64" not in str(self.coefs_[0].dtype)
        network = Network(layer, shown[0][0], device=device, rng=0, dtype="float32" if single else "float64")
        network.params = self._adopted(network)
        return network

    def _shows(self, network: Network) -> bool:
        """Whether the weights and biases that the estimator shows are those of a network, the same arrays."""
        params, places = network.params, affine_places(network.layer)
        shown = list(zip(self.coefs_[: self.n_layers_ - 1], self.intercepts_, strict=False))
        return len(shown) == len(places) and all(
            [params[i]["w"] is w and params[i]["b"] is b for i, (w, b) in zip(places, shown, strict=True)]
        )

    def _adopted(self, network: Network) -> Tree:
        """The network's parameters, with the weights and biases that the estimator shows and users may change."""
        params = list(network.params)
        places = affine_places(network.layer)
        shown = self._shown_shapes()
        if shown != _shapes(network):
            raise ConfigError(f"coefs_ have the shapes {shown}, and the network to be trained has {_shapes(network)}")
        for place, w, b in zip(places, self.coefs_, self.intercepts_, strict=False):
            if params[place]["w"] is not w or params[place]["b"] is not b:
                params[place] = {
                    "w": network.backend.asarray(w, network.dtype),
                    "b": network.backend.asarray(b, network.dtype),
                }
        same = all(a is b for a, b in zip(params, network.params, strict=True))
        return network.params if same else tuple(params)

    def _shown_shapes(self) -> list[tuple[int, ...]]:
        return [tuple(w.shape) for w in self.coefs_[: self.n_layers_ - 1]]

    @property
    def _first_coef(self) -> Array:
        return self.coefs_[0]

    # ---- scikit-learn's private methods and attributes

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        """The activated outputs for samples, shape (n, outputs); ``check_input`` changes nothing: X is checked."""
        return activate(self.out_activation_, self._outputs(X, "predict"))

    def _forward_pass(self, activations: list[Any]) -> list[Any]:
        """Fill a list, the first of which is X, with the activations of every layer."""
        network = self._network(activations[0])
        x = network.backend.asarray(activations[0], network.dtype)
        places, number = affine_places(network.layer), 0
        with network.backend.context():
            for i, layer in enumerate(network.layer.children()):
                if i in places[1:]:
                    number += 1
                    activations[number] = x
                x = layer.apply(network.params[i], network.state[i], x)
        activations[number + 1] = activate(self.out_activation_, x)
        return activations

    def _unpack(self, packed_parameters: Array) -> None:
        """Set weights and biases from one vector: all weights, then all biases."""
        start = 0
        for arrays in (self.coefs_, self.intercepts_):
            for i, old in enumerate(arrays):
                end = start + int(np.prod(old.shape))
                arrays[i] = array_namespace(packed_parameters).reshape(packed_parameters[start:end], tuple(old.shape))
                start = end

    @property
    def _best_coefs(self) -> list[Array]:
        return self._best_arrays("w", self.coefs_)

    @_best_coefs.setter
    def _best_coefs(self, value: None) -> None:
        self._forget_best("_best_coefs", value)

    @property
    def _best_intercepts(self) -> list[Array]:
        return self._best_arrays("b", self.intercepts_)

    @_best_intercepts.setter
    def _best_intercepts(self, value: None) -> None:
        self._forget_best("_best_intercepts", value)

    def _forget_best(self, name: str, value: Any) -> None:
        if value is not None:
            raise AttributeError(f"{name} can be set to None only, which forgets the best epoch: set coefs_")
        self._best = None

    def _best_arrays(self, key: str, shown: list[Array]) -> list[Array]:
        """Weights or biases of the epoch that scored best, where early stopping keeps them; else the latest."""
        best = self._best
        if best is None:
            return [array_namespace(a).asarray(a, copy=True) for a in shown]
        home = home_of(shown[0])
        own = [part[key] for part in best["params"] if isinstance(part, dict) and "w" in part]
        return [a if home.owns(a) else home.asarray(home_of(a).to_numpy(a)) for a in own]


def _shapes(network: Network) -> list[tuple[int, ...]]:
    params = network.params
    return [tuple(params[i]["w"].shape) for i in affine_places(network.layer)]
