"""`MLPRegressor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

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
from portnn.optim import FullBatch, Optimizer
from portnn.training import Callback

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):
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
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"}), losses.Loss],
    }

    def __init__(
        self,
        loss: str | losses.Loss = "squared_error",
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
        device: str | Backend | None = None,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        l1_ratio: float = 0.0,
        optimizer: Optimizer | FullBatch | None = None,
        validation_data: tuple[Any, ...] | None = None,
        restore_best: bool = True,
        callbacks: Sequence[Callback] = (),
        augment: Callable[..., Any] | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            loss=loss,
            device=device,
            dropout=dropout,
            batch_norm=batch_norm,
            l1_ratio=l1_ratio,
            optimizer=optimizer,
            validation_data=validation_data,
            restore_best=restore_best,
            callbacks=callbacks,
            augment=augment,
            progress=progress,
        )

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

    @available_if(lambda estimator: estimator._check_solver())
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
