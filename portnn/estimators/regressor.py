"""`MLPRegressor`."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from sklearn import config_context
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from portnn import losses
from portnn._typing import Array
from portnn.backend import Backend
from portnn.errors import ConfigError, DataError
from portnn.estimators.arrays import on_host
from portnn.estimators.base import BaseMLP
from portnn.estimators.fitted import activate
from portnn.estimators.parameters import with_parameters
from portnn.estimators.solvers import check_stochastic

__all__ = ["MLPRegressor"]


@with_parameters
class _WithLoss:
    """The first argument of `MLPRegressor`, before those of both estimators."""

    loss: Annotated[str | losses.Loss, StrOptions({"squared_error", "poisson"}), losses.Loss] = "squared_error"


@with_parameters
class MLPRegressor(RegressorMixin, BaseMLP, _WithLoss):
    """A multilayer perceptron that predicts numbers, with the interface of scikit-learn's.

    Everything of `sklearn.neural_network.MLPRegressor` 1.9 is here; see `MLPClassifier` for what that means. One thing
    differs: for several outputs, the loss is the sum of theirs, of which the gradient is taken (scikit-learn takes the
    same gradient, and shows the mean).

    Parameters
    ----------
    loss : {"squared_error", "poisson"} or Loss, default "squared_error"
        Half of the squared error; half of the Poisson deviance, where the network gives the logarithm of the rate; or
        an object of `portnn.losses` that compares numbers. Targets of Poisson losses are >= 0.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter,
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction,
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun, device, dropout, batch_norm, l1_ratio, optimizer,
    validation_data, restore_best, callbacks, augment, progress
        As in `MLPClassifier`. The score of early stopping is the coefficient of determination.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, history_, n_iter_,
    t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in `MLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import MLPRegressor
    >>> X = np.linspace(-2, 2, 100)[:, None]
    >>> regressor = MLPRegressor(hidden_layer_sizes=16, activation="tanh", solver="lbfgs", random_state=0, max_iter=500)
    >>> regressor.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.999
    True
    """

    _numeric_targets = True

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train on samples.

        Parameters
        ----------
        X : array, sparse matrix or table, shape (n, n_features)
        y : array-like of numbers, shape (n,) or (n, n_outputs)
        sample_weight : array-like, shape (n,), optional
            How much each sample counts, >= 0.

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, incremental=False)
        return self

    @available_if(check_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch more, on these samples; arguments and result as of `fit`."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """The predicted numbers, shape (n,) or, for several outputs, (n, n_outputs)."""
        return self._numbers(self._outputs(X, "predict"))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination of `predict`, at most 1; a Python float."""
        predicted = on_host(self.predict(X))
        with config_context(array_api_dispatch=False):
            return float(r2_score(on_host(y), predicted, sample_weight=on_host(sample_weight)))

    def _learn_targets(self, y: Any, home: Backend, incremental: bool) -> None:
        """Numbers are taken as they are."""

    def _encode(self, y: Any) -> Any:
        # Held-out samples, which no loss sees, included.
        if self._loss_and_outputs(1)[0].targets == "counts" and (y < 0).any():
            raise DataError(f"y holds counts, which are >= 0, and the smallest is {y.min()}")
        return y[:, None] if y.ndim == 1 else y

    def _loss_and_outputs(self, columns: int) -> tuple[losses.Loss, int, str]:
        if isinstance(self.loss, str):
            if self.loss == "poisson":
                return losses.HalfPoissonDeviance(), columns, "exp"
            return losses.HalfSquaredError(), columns, "identity"
        if self.loss.targets not in ("numbers", "counts"):
            raise ConfigError(f"{self.loss} compares classes, and not numbers: take a loss such as HalfSquaredError()")
        return self.loss, columns, "exp" if self.loss.targets == "counts" else "identity"

    def _loss_target(self, targets: Any) -> Any:
        return targets

    def _numbers(self, outputs: Array) -> Array:
        y = activate(self.out_activation_, outputs)
        return y[:, 0] if y.shape[1] == 1 else y

    def _score_outputs(self, targets: Any, outputs: Any, sample_weight: Any) -> float:
        predicted = self._numbers(outputs)
        if not np.isfinite(predicted).all():
            return float("nan")
        with config_context(array_api_dispatch=False):
            return float(r2_score(targets, predicted, sample_weight=sample_weight))
