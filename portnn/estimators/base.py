"""What `MLPClassifier` and `MLPRegressor` have in common: parameters, training, and outputs."""

from __future__ import annotations

import copy
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from portnn import nn, tree
from portnn._typing import Array, Tree
from portnn.backend import Backend, get_backend
from portnn.errors import ConfigError, DataError, DivergenceError
from portnn.estimators.architecture import affine_places, build_layer, draw_first_parameters
from portnn.estimators.arrays import home_of, validate_examples, validate_targets, validate_weights
from portnn.estimators.fitted import Fitted
from portnn.estimators.monitoring import Convergence, Validation
from portnn.estimators.solvers import LearningRate, ShuffledOrder, make_optimizer
from portnn.estimators.warning import warn
from portnn.losses import Loss
from portnn.nn import Network
from portnn.optim import FullBatch, Optimizer
from portnn.regularizers import ElasticNet
from portnn.training import Callback, History, ProgressBar, Trainer

__all__ = ["BaseMLP"]

_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class BaseMLP(Fitted, BaseEstimator, ABC):
    """A multilayer perceptron with scikit-learn's parameters; see `MLPClassifier`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"}), "array-like", callable, nn.Layer],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "device": [str, Backend, None],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "batch_norm": ["boolean"],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "optimizer": [Optimizer, FullBatch, None],
        "validation_data": [tuple, list, None],
        "restore_best": ["boolean"],
        "callbacks": ["array-like"],
        "augment": [callable, None],
        "progress": ["boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: str | Loss,
        device: str | Backend | None = None,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        l1_ratio: float = 0.0,
        optimizer: Optimizer | FullBatch | None = None,
        validation_data: tuple[Any, ...] | None = None,
        restore_best: bool = True,
        callbacks: Iterable[Callback] = (),
        augment: Callable[..., Any] | None = None,
        progress: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.device = device
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.l1_ratio = l1_ratio
        self.optimizer = optimizer
        self.validation_data = validation_data
        self.restore_best = restore_best
        self.callbacks = callbacks
        self.augment = augment
        self.progress = progress

    #: Whether targets are numbers, or labels of classes.
    _numeric_targets: ClassVar[bool]

    @abstractmethod
    def _encode(self, y: Any) -> Any:
        """Validated targets as a matrix on the host, shape (n, columns)."""

    @abstractmethod
    def _loss_and_outputs(self, columns: int) -> tuple[Loss, int, str]:
        """The loss, how many outputs it needs, and the activation that makes predictions of them, by its name."""

    @abstractmethod
    def _loss_target(self, targets: Any) -> Any:
        """What the loss takes, from what `_encode` gave."""

    @abstractmethod
    def _score_outputs(self, targets: Any, outputs: Any, sample_weight: Any) -> float:
        """The estimator's score for outputs of the network, all on the host."""

    def _learn_targets(self, y: Any, home: Backend, incremental: bool) -> None:
        """Remember of validated targets what `_encode` needs, or compare them with what is known."""

    def _class_weights(self, y: Any, incremental: bool) -> Any:
        """A weight for each example that comes from its target; None where there is none."""
        return None

    def _stratify(self, targets: Any) -> Any:
        """What the parts of a split for early stopping are to have in equal shares; None for nothing."""
        return None

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
        self.history_: History = trainer.history
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
        self._best: Tree = None
        stops = not isinstance(make_optimizer(self), FullBatch)
        for name in ("validation_scores_", "best_validation_score_"):
            if hasattr(self, name):
                delattr(self, name)
        if stops or self.validation_data is not None:  # scikit-learn has no scores of its solver "lbfgs"
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
        if stops:
            self.loss_curve_: list[float] = []
            self.best_loss_ = None if self.early_stopping else math.inf

    def _begin_what_is_new(self, validated: bool, stops: bool) -> None:
        """Curves that an earlier call, which is continued, had no use for."""
        if getattr(self, "validation_scores_", None) is None and (validated or stops):
            self.validation_scores_ = self.best_validation_score_ = None
        if validated and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -math.inf
        if stops and not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
        if stops and not self.early_stopping and getattr(self, "best_loss_", None) is None:
            self.best_loss_ = math.inf
        if stops and self.early_stopping and self.restore_best and self._best is None:
            self._keep_best()

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
        self._optimizer: LearningRate | None = self._new_learning_rate()
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

    def _new_learning_rate(self) -> LearningRate:
        # scikit-learn's solver "adam" has no schedule.
        schedule: Any = "constant" if self.optimizer is None and self.solver == "adam" else self.learning_rate
        return LearningRate(self.learning_rate_init, schedule, self.power_t)

    def _publish(self, home: Backend) -> None:
        """Show weights and biases as arrays of the library and the device of X."""
        self.coefs_, self.intercepts_ = _shown(self._trainer.network, home)

    def _train(self, X: Array, targets: Any, weights: Any, by_class: Any, incremental: bool) -> None:
        """Train with two weights for each sample, or None: the user's, and by class, which no score sees."""
        trainer = self._trainer
        backend, dtype = trainer.network.backend, trainer.network.dtype
        trainer.loss, trainer.optimizer = self._loss_and_outputs(targets.shape[1])[0], make_optimizer(self)
        trainer.augment, trainer.regularizer = self.augment, ElasticNet(self.alpha, self.l1_ratio)
        stops = not isinstance(trainer.optimizer, FullBatch)
        x = backend.asarray(X, dtype)
        if self.validation_data is not None:
            validation: Validation | None = self._given_validation(self.validation_data)
        elif self.early_stopping and stops:
            train, held_out = self._split(targets, weights)
            validation = self._validation(_take(x, held_out, backend), targets[held_out], _part(weights, held_out))
            x, targets = _take(x, train, backend), targets[train]
            weights, by_class = _part(weights, train), _part(by_class, train)
        else:
            validation = None
        n = x.shape[0]
        if by_class is not None:
            weights = by_class if weights is None else by_class * weights
        rate = getattr(self, "_optimizer", None)  # somebody may have dropped it, to make a file smaller
        if rate is None or rate.settings != self._new_learning_rate().settings:
            self._optimizer, trainer.lr_factor = self._new_learning_rate(), 1.0
        epochs = 1 if incremental else self.max_iter
        watch = Convergence(self, validation, n, 0 if incremental else epochs, stops)
        trainer.order = ShuffledOrder(self._random_state if self.shuffle else None)
        trainer.callbacks = (*([ProgressBar()] if self.progress else []), watch, *self.callbacks)
        self.n_iter_ = 0
        self._begin_what_is_new(validation is not None, stops)
        try:
            trainer.fit(
                x,
                self._loss_target(targets),
                epochs=epochs,
                batch_size=self._batch_size(n) if stops else None,
                sample_weight=weights,
            )
            if not stops:
                self._note_minimum(trainer.history)
        except DivergenceError as error:
            watch.note_divergence()
            if not (self.early_stopping and self.restore_best):
                self._refuse_bad_parameters(error)
                raise
        except KeyboardInterrupt:
            warn("Training interrupted by user.")
        finally:
            trainer.callbacks, trainer.order = (), None
        if self.early_stopping and self.restore_best and stops:
            trainer.network.trees.take(self._best["params"], self._best["state"])

    def _keep_best(self) -> None:
        network = self._trainer.network
        with network.trees.reading() as (params, state):
            self._best = tree.map(network.backend.copy, {"params": params, "state": state})

    def _batch_size(self, n: int) -> int:
        if isinstance(self.batch_size, str):  # "auto"
            return min(200, n)
        if self.batch_size > n:
            warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
        return int(min(self.batch_size, n))

    def _split(self, targets: Any, weights: Any) -> tuple[Any, Any]:
        """The numbers of the samples to train on, and of those held out."""
        train, held_out = train_test_split(
            np.arange(len(targets)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._stratify(targets),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return train, held_out

    def _given_validation(self, data: tuple[Any, ...]) -> Validation:
        if len(data) not in (2, 3):
            raise ConfigError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weights = data
        X = validate_examples(self, X, reset=False)
        targets = self._encode(validate_targets(self, X, y, numeric=self._numeric_targets))
        return self._validation(X, targets, validate_weights(weights[0] if weights else None, X))

    def _validation(self, x: Array, targets: Any, weights: Any) -> Validation:
        network = self._trainer.network
        backend, dtype = network.backend, network.dtype
        targets_here = self._loss_target(targets)
        return Validation(
            backend.asarray(x, dtype),
            backend.asarray(targets_here, None if targets_here.dtype.kind in "iu" else dtype),
            None if weights is None else backend.asarray(weights, dtype),
            functools.partial(self._score_outputs, targets),  # no lambda: it can be pickled while the fit goes on
        )

    def _refuse_bad_parameters(self, error: DivergenceError) -> None:
        network = self._trainer.network
        arrays = [network.backend.to_numpy(a) for i in affine_places(network.layer) for a in network.params[i].values()]
        if not all(np.isfinite(a).all() for a in arrays):
            raise DataError(_NON_FINITE) from error

    def _note_minimum(self, history: History) -> None:
        """What scikit-learn says after its solver "lbfgs"."""
        self.loss_ = history.minimum
        if history.status != 0 and not history.stopped:
            advice = ""
            if self.n_iter_ == self.max_iter:
                advice = f"\nIncrease the number of iterations to improve the convergence (max_iter={self.max_iter})."
            warn(
                f"{self._solver_name} failed to converge after {self.n_iter_} iteration(s) (status={history.status}):\n"
                f"{history.message}\n{advice}\n"
                "You might also want to scale the data as shown in:\n"
                "    https://scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning,
            )

    def _check_solver(self) -> bool:
        if isinstance(make_optimizer(self), FullBatch):
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self._solver_name} is not stochastic."
            )
        return True

    @property
    def _solver_name(self) -> str:
        return self.solver if self.optimizer is None else type(self.optimizer).__name__

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


def _take(x: Array, numbers: Any, backend: Backend) -> Array:
    return array_namespace(x).take(x, backend.asarray(numbers), axis=0)


def _part(weights: Any, numbers: Any) -> Any:
    return None if weights is None else weights[numbers]
