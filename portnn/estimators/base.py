"""What `MLPClassifier` and `MLPRegressor` have in common: a network for what is given, and its trainer."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from portnn._typing import Array
from portnn.backend import Backend, get_backend
from portnn.errors import ConfigError
from portnn.estimators.architecture import affine_places, build_layer, draw_first_parameters
from portnn.estimators.arrays import home_of, validate_examples, validate_targets, validate_weights
from portnn.estimators.fitting import Fitting
from portnn.estimators.solvers import make_optimizer
from portnn.estimators.warning import warn
from portnn.nn import Network
from portnn.training import Trainer
from portnn.training.courses import needs_all

__all__ = ["BaseMLP"]


class BaseMLP(Fitting, BaseEstimator):
    """A multilayer perceptron with scikit-learn's parameters; see `MLPClassifier`."""

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> BaseMLP:
        sizes = self._hidden_sizes()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        home = home_of(X)
        X = validate_examples(self, X, reset=first)
        y = validate_targets(self, X, y, numeric=self._numeric_targets)
        self._learn_targets(y, home, incremental)
        targets = self._encode(y)
        weights = validate_weights(sample_weight, X)
        by_class = self._class_weights(y, incremental)
        self._random_state = check_random_state(self.random_state)
        if first or not hasattr(self, "t_"):  # weights may be set by hand, and nothing else
            self._begin()
        if first or not hasattr(self, "_trainer"):
            self._build(X, sizes, targets.shape[1], draw=first)
        else:
            self._refuse_changes(X, sizes, incremental)
        trainer = self._trainer
        trainer.network.params = self._adopted(trainer.network)
        with trainer.network.backend.context():
            self._train(X, targets, weights, by_class, incremental)
        self._publish(home)
        self.history_ = trainer.history
        return self

    def _hidden_sizes(self) -> list[int]:
        given = self.hidden_layer_sizes
        sizes = list(given) if hasattr(given, "__iter__") else [given]
        if np.any(np.asarray(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _begin(self) -> None:
        """The fitted attributes before the first epoch."""
        self.n_iter_ = 0
        self.t_ = 0
        self._no_improvement_count = 0
        self._best = None
        stops = not needs_all(make_optimizer(self))
        for name in ("validation_scores_", "best_validation_score_"):
            if hasattr(self, name):
                delattr(self, name)
        if stops or self.validation_data is not None:  # scikit-learn has no scores of its solver "lbfgs"
            self.validation_scores_ = None
            self.best_validation_score_ = None
        if stops:
            self.loss_curve_ = []
            self.best_loss_ = None if self.early_stopping else math.inf

    def _build(self, X: Array, sizes: list[int], columns: int, draw: bool) -> None:
        """A network, and its trainer, for data like these."""
        loss, outputs, self.out_activation_ = self._loss_and_outputs(columns)
        self.n_outputs_, self.n_layers_ = outputs, len(sizes) + 2
        layer = build_layer(sizes, outputs, self.activation, self.dropout, self.batch_norm)
        dtype = "float32" if X.dtype == array_namespace(X).float32 else "float64"
        device = home_of(X) if self.device is None else get_backend(self.device)
        # Of a copy, so that what scikit-learn draws, too, comes out the same.
        seed = int(copy.deepcopy(self._random_state).randint(2**31 - 1))
        network = Network(layer, X.shape[1], device=device, rng=seed, dtype=dtype)
        places = affine_places(layer)
        if draw:
            host = draw_first_parameters(network.params, places, self.activation, self._random_state)
            for place in places:
                network.params[place].update({k: device.asarray(v, dtype) for k, v in host[place].items()})
            self.coefs_ = [network.params[i]["w"] for i in places]
            self.intercepts_ = [network.params[i]["b"] for i in places]
        self._built = self._settings(sizes)
        self._optimizer = self._new_learning_rate()
        self._trainer = Trainer(network, loss, make_optimizer(self), rng=seed)
        self.history_ = self._trainer.history

    def _settings(self, sizes: list[int]) -> dict[str, Any]:
        """The parameters that a network is built by."""
        return {
            "hidden_layer_sizes": sizes,
            "activation": _entries(self.activation),
            "dropout": _entries(self.dropout),
            "batch_norm": self.batch_norm,
        }

    def _refuse_changes(self, X: Array, sizes: list[int], incremental: bool) -> None:
        """Raise ConfigError if the network at hand was built by other parameters; warn if X is of another kind."""
        how, network = "partial_fit" if incremental else "fit with warm_start=True", self._trainer.network
        built, wanted = self._built | {"device": str(network.backend)}, self._settings(sizes)
        if self.device is not None:
            wanted["device"] = str(get_backend(self.device))
        for name, value in wanted.items():
            if built[name] != value:
                raise ConfigError(
                    f"{how} goes on with the network that there is, of {name}={built[name]!r}, and not of {value!r}: "
                    f"set {name} back, or begin anew by fit with warm_start=False"
                )
        dtype = "float32" if X.dtype == array_namespace(X).float32 else "float64"
        if self.warm_start and dtype != network.dtype:
            warn(f"X has dtype {dtype}, and {how} goes on in {network.dtype}, in which the network was begun")
        if self.warm_start and self.device is None and home_of(X) != network.backend:
            warn(f"X lives on device {home_of(X)}, and {how} goes on on {network.backend}, where the network lives")

    def _publish(self, home: Backend) -> None:
        """Show weights and biases as arrays of the library and the device of X."""
        self.coefs_, self.intercepts_ = _shown(self._trainer.network, home)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())  # a copy: attributes may be added while it is copied or pickled
        trainer = state.get("_trainer")
        if trainer is not None and trainer.within_fit:  # by a callback, or another thread: as the network is then
            state["_trainer"] = trainer = copy.copy(trainer)
            state["coefs_"], state["intercepts_"] = _shown(trainer.network, home_of(state["coefs_"][0]))
            state["history_"] = trainer.history
        if trainer is not None and state.get("_optimizer") is None:
            # Somebody has dropped it to make a file smaller: without what it remembers. Predictions need `coefs_` only,
            # and what normalises.
            state["_best"] = None
            del state["_trainer"]
            if self.batch_norm:
                state["_trainer"] = Trainer(trainer.network, trainer.loss, trainer.optimizer, rng=trainer.rng)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_trainer" in vars(self) and "_built" not in vars(self):  # of version 0.1, which did not note it
            self._built = self._settings(self._hidden_sizes())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


def _entries(value: Any) -> Any:
    """A parameter that may be a sequence, so that equal ones compare equal."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else value


def _shown(network: Network, home: Backend) -> tuple[list[Array], list[Array]]:
    """Weights and biases of all layers on another backend."""
    params, backend = network.params, network.backend

    def shown(a: Array) -> Array:
        return a if home == backend else home.asarray(np.array(backend.to_numpy(a)))

    places = affine_places(network.layer)
    return [shown(params[i]["w"]) for i in places], [shown(params[i]["b"]) for i in places]
