"""What watches the training of an estimator: its score on validation data, its curves, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from portnn import tree
from portnn._typing import Array
from portnn.estimators.fitted import Fitted
from portnn.estimators.warning import warn
from portnn.training import Callback, Training
from portnn.training.showing import say

__all__ = ["Convergence", "Monitored", "Validation"]


@dataclass
class Validation:
    """Data to judge a network by while it is trained.

    Parameters
    ----------
    x, y : array
        Examples and the loss's targets, on the network's device.
    weight : array, optional
    score : callable
        ``score(outputs, sample_weight) -> float`` for the network's outputs on the host.
    """

    x: Array
    y: Array
    weight: Array | None
    score: Callable[[Any, Any], float]

    def measure(self, trainer: Training) -> dict[str, float]:
        """Loss and score of the network as it is: ``val_loss`` and ``val_score``, NaN if its outputs are not finite."""
        backend = trainer.network.backend
        outputs = trainer.network.predict(self.x)
        total, weight = backend.to_floats(list(trainer.loss.totals(outputs, self.y, self.weight)))
        host = backend.to_numpy(outputs)
        if not np.isfinite(host).all():
            return {"val_loss": math.nan, "val_score": math.nan}
        weights = None if self.weight is None else backend.to_numpy(self.weight)
        return {"val_loss": total / weight if weight else 0.0, "val_score": float(self.score(host, weights))}


class Convergence(Callback):
    """Tells an estimator of the end of every epoch.

    Parameters
    ----------
    validation : Validation or None
    samples : int
        How many samples an epoch has.
    epochs : int
        How many epochs there will be at most; reaching them warns. 0 for a single call of ``partial_fit``.
    stops : bool
        Whether the rules for the end, and the learning rate, apply: not to a full-batch method.
    end_epoch : callable
        ``end_epoch(convergence, trainer, record)`` of the estimator.
    """

    def __init__(
        self, validation: Validation | None, samples: int, epochs: int, stops: bool, end_epoch: Callable[..., None]
    ) -> None:
        self.validation, self.samples, self.epochs, self.stops = validation, samples, epochs, stops
        self.end_epoch = end_epoch

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        self.end_epoch(self, trainer, record)


class Monitored(Fitted):
    """What fills an estimator's curves, and ends its training by scikit-learn's rules; a base of the estimators."""

    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    # None where a run has no use for them; see `MLPClassifier`.
    best_loss_: Any
    validation_scores_: Any
    best_validation_score_: Any
    #: The `LearningRate`, under scikit-learn's name; users may drop it.
    _optimizer: Any
    _no_improvement_count: int

    def _keep_best(self) -> None:
        """Remember parameters and state as they are."""
        network = self._trainer.network
        with network.trees.reading() as (params, state):
            self._best = tree.map(network.backend.copy, {"params": params, "state": state})

    def _end_epoch(self, watch: Convergence, trainer: Training, record: dict[str, float]) -> None:
        if watch.validation is not None:
            record |= watch.validation.measure(trainer)
        self.n_iter_ += 1
        self.loss_ = record["loss"]
        if self.verbose:
            say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
        if watch.validation is not None:
            self._note_score(watch, record["val_score"])
        if watch.stops:
            self.t_ += watch.samples
            self.loss_curve_.append(self.loss_)
            self._note_progress()
            self._go_on_or_stop(watch, trainer)

    def _note_score(self, watch: Convergence, score: float) -> None:
        self.validation_scores_.append(score)
        if self.verbose:
            say(f"Validation score: {score:f}")
        if self.early_stopping and watch.stops:
            self._count(score < self.best_validation_score_ + self.tol)
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            if self.early_stopping and self.restore_best:
                self._keep_best()

    def _note_progress(self) -> None:
        if self.early_stopping:
            return
        self._count(self.loss_ > self.best_loss_ - self.tol)
        self.best_loss_ = min(self.best_loss_, self.loss_)

    def _count(self, no_better: bool) -> None:
        self._no_improvement_count = self._no_improvement_count + 1 if no_better else 0

    def _go_on_or_stop(self, watch: Convergence, trainer: Training) -> None:
        self._optimizer.end_epoch(self.t_)
        if self._no_improvement_count > self.n_iter_no_change:
            what = "Validation score" if self.early_stopping else "Training loss"
            done = self._optimizer.plateau()
            if self.verbose:
                say(
                    f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive "
                    f"epochs. {done}"
                )
            if done.endswith("Stopping."):
                trainer.stop()
                return
            self._no_improvement_count = 0
        if self._optimizer.factor != 1.0:  # a callback of the user's may have changed it otherwise
            trainer.lr_factor = self._optimizer.factor
        if self.n_iter_ == watch.epochs:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({watch.epochs}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
            )

    def _note_divergence(self, watch: Convergence) -> None:
        """The epoch that came to no end, because its loss is not a number any more."""
        self.n_iter_ += 1
        self.loss_ = math.nan
        if watch.stops:
            self.loss_curve_.append(math.nan)
        if watch.validation is not None:
            self.validation_scores_.append(math.nan)
