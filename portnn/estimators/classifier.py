"""`MLPClassifier`."""

from __future__ import annotations

from dataclasses import KW_ONLY
from types import SimpleNamespace
from typing import Annotated, Any

from array_api_compat import array_namespace
from sklearn import config_context
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from portnn import losses
from portnn._typing import Array
from portnn.errors import ConfigError
from portnn.estimators.arrays import home_of, on_host
from portnn.estimators.base import BaseMLP
from portnn.estimators.classes import Classes
from portnn.estimators.log_loss import ClippedSigmoidCrossEntropy, ClippedSoftmaxCrossEntropy
from portnn.estimators.parameters import with_parameters
from portnn.estimators.solvers import check_stochastic

__all__ = ["MLPClassifier"]


@with_parameters
class MLPClassifier(ClassifierMixin, Classes, BaseMLP):
    """A multilayer perceptron that tells classes apart, with the interface of scikit-learn's.

    Everything of `sklearn.neural_network.MLPClassifier` 1.9 is here: parameters, defaults, fitted attributes, messages
    and warnings; with the same ``random_state`` also its draws, so that training takes the same course, to rounding.
    What rounding does grows with the course: with L-BFGS, and with large steps on data that are not scaled, a last
    digit may be a percent after some tens of epochs, in scikit-learn against itself as well. Samples may be arrays of
    any library that portnn knows: predictions, ``coefs_`` and the like are of the library and on the device of ``X``.
    Sparse matrices are made dense. uint8 are numbers like all others, and not pixels, as to a `Network`.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}, nn.Layer, callable, or a sequence of them, default "relu"
        After each hidden layer; a sequence has one for each. A callable is a function ``x -> (y, backward)`` by
        elements, such as those of `portnn.functional`.
    solver : {"lbfgs", "sgd", "adam"}, default "adam"
    alpha : float, default 0.0001
        Strength of the penalty on the weights, which the examples of a batch share.
    batch_size : int or "auto", default "auto"
        "auto" is 200, or all samples where there are fewer. Not used by full-batch methods.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        With ``solver="sgd"`` or an ``optimizer``: constant; ``learning_rate_init / (samples seen + 1)^power_t`` after
        each epoch; or a fifth whenever ``n_iter_no_change`` epochs have brought nothing.
    learning_rate_init, power_t : float, default 0.001 and 0.5
        May be set to others between two calls of ``partial_fit``: the next one begins with them (scikit-learn goes on
        with the old rate).
    max_iter : int, default 200
        Most epochs of a call of ``fit``, or iterations of a full-batch method.
    shuffle : bool, default True
        Whether each epoch has its own order of the samples.
    random_state : int, RandomState or None, default None
        Source of the first parameters, the split for early stopping, the order of the samples, and dropout.
    tol : float, default 1e-4
        Training ends when ``n_iter_no_change`` epochs have not made the loss (with early stopping: the score) better by
        this. With ``solver="lbfgs"``: when no derivative is larger.
    verbose : bool or int, default False
        Whether to print a line for each epoch.
    warm_start : bool, default False
        Whether ``fit`` goes on from where the last call ended, the memory of the optimizer included (scikit-learn
        begins that anew). Parameters that the network is built by (``hidden_layer_sizes``, ``activation``, ``dropout``,
        ``batch_norm``, ``device``) must be those of the first call; samples of another dtype or device warn.
    momentum, nesterovs_momentum : float and bool, default 0.9 and True
        Of ``solver="sgd"``.
    early_stopping : bool, default False
        Whether to hold out ``validation_fraction`` of the samples, to end when their score grows no better, and to go
        back to the parameters that scored best. Not with full-batch methods.
    validation_fraction : float, default 0.1
    beta_1, beta_2, epsilon : float, default 0.9, 0.999 and 1e-8
        Of ``solver="adam"``.
    n_iter_no_change : int or inf, default 10
    max_fun : int, default 15000
        Most evaluations of the loss by ``solver="lbfgs"``.
    loss : "log_loss" or Loss, default "log_loss"
        "log_loss" is the cross-entropy of a softmax, or of a sigmoid for two classes and for several labels, with
        probabilities kept at 2e-16 (float32: 1e-7) from 0 and 1, as in scikit-learn. An object of `portnn.losses`
        compares either scores of classes (then two classes have two outputs) or columns of probabilities.
    class_weight : dict, "balanced", list of dict or None, default None
        As in `sklearn.utils.compute_sample_weight`. In ``partial_fit`` no "balanced", and a part may lack a class.
        Scores on validation data do not see them.
    device : str, Backend or None, default None
        Where to compute; see `portnn.get_backend`. None: on the device of ``X``.
    dropout : float or sequence of float, default 0.0
        Probability to drop a unit of the hidden layers, in [0, 1).
    batch_norm : bool, default False
        Whether each hidden layer is normalised over the batch before its activation.
    l1_ratio : float, default 0.0
        Share of ``alpha`` that goes to the absolute values of the weights, in [0, 1]; the rest goes to half their
        squares.
    optimizer : Optimizer, FullBatch or None, default None
        An object of `portnn.optim` in the place of the solver and its parameters.
    validation_data : (X, y), (X, y, sample_weight) or None, default None
        Measured after every epoch; early stopping looks at them, and holds nothing out.
    restore_best : bool, default True
        Whether early stopping ends with the parameters of its best epoch.
    callbacks : sequence of Callback, default ()
        See `portnn.training`.
    augment : callable or None, default None
        ``augment(x, rng) -> x`` for the rows of each batch; see `Trainer`.
    progress : bool, default False
        Whether to show a bar over the steps of each epoch.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The labels; labels that are no numbers stay in NumPy.
    coefs_, intercepts_ : list of array
        Weights, shape (inputs, units), and biases, shape (units,), of each layer. Training and prediction use what
        stands here, also where all attributes were set by hand, and nothing was ever fitted.
    loss_, best_loss_, loss_curve_ : float, float or None, list of float
        The loss of the latest epoch, of the best one (None with early stopping), and of all; with its penalty.
    validation_scores_, best_validation_score_ : list of float, float; or None
        The accuracy on validation data, epoch by epoch; None where there are none. Not after a full-batch method
        without ``validation_data``.
    history_ : History
        All epochs with their losses, times, ``val_loss`` and ``val_score``.
    n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from portnn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier(solver="lbfgs", hidden_layer_sizes=8, alpha=0.1, random_state=0, max_iter=500)
    >>> classifier.fit(X, y).score(X, y) > 0.97
    True
    """

    _: KW_ONLY
    loss: Annotated[str | losses.Loss, StrOptions({"log_loss"}), losses.Loss] = "log_loss"
    class_weight: Annotated[Any, dict, StrOptions({"balanced"}), list, None] = None

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Train on samples.

        Parameters
        ----------
        X : array, sparse matrix or table, shape (n, n_features)
        y : array-like, shape (n,) or, for several labels a sample, (n, n_classes) of 0 and 1
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch more, on these samples.

        Parameters
        ----------
        X, y, sample_weight
            As of `fit`.
        classes : array-like, shape (n_classes,), optional
            All classes that there will be; needed in the first call.

        Returns
        -------
        self
        """
        known = SimpleNamespace(classes_=self._label_binarizer.classes_ if hasattr(self, "_label_binarizer") else None)
        with config_context(array_api_dispatch=False):
            if _check_partial_fit_first_call(known, on_host(classes)):
                labels = on_host(y)
                several = type_of_target(labels).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(labels if several else on_host(classes))
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Any:
        """The classes of samples, shape (n,) or, for several labels a sample, (n, n_classes)."""
        return self._labels(self._outputs(X, "predict"))

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class for each sample, shape (n, n_classes)."""
        return self._probabilities(self._outputs(X, "predict_proba"))

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`, shape (n, n_classes)."""
        p = self._probabilities(self._outputs(X, "predict_log_proba"))
        with home_of(p).context():
            return array_namespace(p).log(p)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of samples whose class (whose labels, all of them) `predict` gives; a Python float."""
        predicted = on_host(self.predict(X))
        with config_context(array_api_dispatch=False):
            return float(accuracy_score(on_host(y), predicted, sample_weight=on_host(sample_weight)))

    def _loss_and_outputs(self, columns: int) -> tuple[losses.Loss, int, str]:
        multiclass = self._label_binarizer.y_type_ == "multiclass"
        if isinstance(self.loss, str):
            if multiclass:
                return ClippedSoftmaxCrossEntropy(), columns, "softmax"
            return ClippedSigmoidCrossEntropy(), columns, "logistic"
        if self.loss.targets == "probabilities":
            return self.loss, columns, "logistic"
        if self.loss.targets != "classes" or isinstance(self.loss, losses.NegativeLogLikelihood) or self._is_multilabel:
            what = "several labels" if self._is_multilabel else "classes"
            raise ConfigError(
                f"{self.loss} does not compare {what} with scores: take "
                f"{'SigmoidCrossEntropy' if self._is_multilabel else 'SoftmaxCrossEntropy or SigmoidCrossEntropy'}"
            )
        return self.loss, max(columns, 2), "softmax"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
