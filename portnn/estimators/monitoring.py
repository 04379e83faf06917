"""What watches the training of an estimator: its score on validation data, its curves, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from portnn._typing import Array
from portnn.estimators.warning import warn
from portnn.training import Callback, Training
from portnn.training.showing import say

__all__ = ["Convergence", "Validation"]


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
    """Fills the curves of an estimator, and ends its training by scikit-learn's rules.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    validation : Validation or None
    samples : int
        How many samples an epoch has.
    epochs : int
        How many epochs there will be at most; reaching them warns. 0 for a single call of ``partial_fit``.
    stops : bool
        Whether the rules for the end, and the learning rate, apply: not to a full-batch method.
    """

    def __init__(self, estimator: Any, validation: Validation | None, samples: int, epochs: int, stops: bool) -> None:
        self.estimator, self.validation = estimator, validation
        self.samples, self.epochs, self.stops = samples, epochs, stops

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        est = self.estimator
        if self.validation is not None:
            record |= self.validation.measure(trainer)
        est.n_iter_ += 1
        est.loss_ = record["loss"]
        if est.verbose:
            say(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        if self.validation is not None:
            self._note_score(record["val_score"])
        if self.stops:
            est.t_ += self.samples
            est.loss_curve_.append(est.loss_)
            self._note_progress()
            self._go_on_or_stop(trainer)

    def _note_score(self, score: float) -> None:
        est = self.estimator
        est.validation_scores_.append(score)
        if est.verbose:
            say(f"Validation score: {score:f}")
        if est.early_stopping and self.stops:
            self._count(score < est.best_validation_score_ + est.tol)
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            if est.early_stopping and est.restore_best:
                est._keep_best()

    def _note_progress(self) -> None:
        est = self.estimator
        if est.early_stopping:
            return
        self._count(est.loss_ > est.best_loss_ - est.tol)
        est.best_loss_ = min(est.best_loss_, est.loss_)

    def _count(self, no_better: bool) -> None:
        self.estimator._no_improvement_count = self.estimator._no_improvement_count + 1 if no_better else 0

    def _go_on_or_stop(self, trainer: Training) -> None:
        est = self.estimator
        est._optimizer.end_epoch(est.t_)
        if est._no_improvement_count > est.n_iter_no_change:
            what = "Validation score" if est.early_stopping else "Training loss"
            done = est._optimizer.plateau()
            if est.verbose:
                say(
                    f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive epochs. "
                    f"{done}"
                )
            if done.endswith("Stopping."):
                trainer.stop()
                return
            est._no_improvement_count = 0
        if est._optimizer.factor != 1.0:  # a callback of the user's may have changed it otherwise
            trainer.lr_factor = est._optimizer.factor
        if est.n_iter_ == self.epochs:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self.epochs}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
            )

    def note_divergence(self) -> None:
        """The epoch that came to no end, because its loss is not a number any more."""
        est = self.estimator
        est.n_iter_ += 1
        est.loss_ = math.nan
        if self.stops:
            est.loss_curve_.append(math.nan)
        if self.validation is not None:
            est.validation_scores_.append(math.nan)
