"""The training of one call of ``fit`` or ``partial_fit``: on which samples, by which rules, and how it may end."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from portnn._typing import Array
from portnn.backend import Backend
from portnn.errors import ConfigError, DataError, DivergenceError
from portnn.estimators.architecture import affine_places
from portnn.estimators.arrays import validate_examples, validate_targets, validate_weights
from portnn.estimators.monitoring import Convergence, Monitored, Validation
from portnn.estimators.solvers import LearningRate, ShuffledOrder, make_optimizer, solver_name
from portnn.estimators.targets import Targets
from portnn.estimators.warning import warn
from portnn.regularizers import ElasticNet
from portnn.training import History, ProgressBar, Trainer
from portnn.training.courses import needs_all

__all__ = ["Fitting"]

_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Fitting(Monitored, Targets):
    """What trains the network that there is; a base of the estimators."""

    _trainer: Trainer
    _random_state: np.random.RandomState
    history_: History

    def _train(self, X: Array, targets: Any, weights: Any, by_class: Any, incremental: bool) -> None:
        """Train with two weights for each sample, or None: the user's, and by class, which no score sees."""
        trainer = self._trainer
        backend, dtype = trainer.network.backend, trainer.network.dtype
        trainer.loss, trainer.optimizer = self._loss_and_outputs(targets.shape[1])[0], make_optimizer(self)
        trainer.augment, trainer.regularizer = self.augment, ElasticNet(self.alpha, self.l1_ratio)
        stops = not needs_all(trainer.optimizer)
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
        watch = Convergence(validation, n, 0 if incremental else epochs, stops, self._end_epoch)
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
            self._note_divergence(watch)
            if not (self.early_stopping and self.restore_best):
                self._refuse_bad_parameters(error)
                raise
        except KeyboardInterrupt:
            warn("Training interrupted by user.")
        finally:
            trainer.callbacks, trainer.order = (), None
        if self.early_stopping and self.restore_best and stops:
            trainer.network.trees.take(self._best["params"], self._best["state"])

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
                f"{solver_name(self)} failed to converge after {self.n_iter_} iteration(s) (status={history.status}):\n"
                f"{history.message}\n{advice}\n"
                "You might also want to scale the data as shown in:\n"
                "    https://scikit-learn.org/stable/modules/preprocessing.html",
                ConvergenceWarning,
            )

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

    def _new_learning_rate(self) -> LearningRate:
        # scikit-learn's solver "adam" has no schedule.
        schedule: Any = "constant" if self.optimizer is None and self.solver == "adam" else self.learning_rate
        return LearningRate(self.learning_rate_init, schedule, self.power_t)


def _take(x: Array, numbers: Any, backend: Backend) -> Array:
    return array_namespace(x).take(x, backend.asarray(numbers), axis=0)


def _part(weights: Any, numbers: Any) -> Any:
    return None if weights is None else weights[numbers]
