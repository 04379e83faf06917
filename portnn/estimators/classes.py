"""Targets that are labels: how a classifier numbers, weighs and tells its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.sparse import csr_matrix, issparse
from sklearn import config_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import unique_labels

from portnn._typing import Array
from portnn.backend import Backend
from portnn.estimators.arrays import home_of, on_host
from portnn.estimators.fitted import activate
from portnn.estimators.fitting import Fitting

__all__ = ["Classes"]


class Classes(Fitting):
    """What a classifier makes of labels, and of outputs; a base of `MLPClassifier`."""

    _numeric_targets = False
    _label_binarizer: LabelBinarizer
    class_weight: Any
    classes_: Any

    def _learn_targets(self, y: Any, home: Backend, incremental: bool) -> None:
        if not hasattr(self, "_label_binarizer") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
        else:
            self._compare_classes(y)
        known = self._label_binarizer.classes_
        self.classes_ = home.asarray(known) if known.dtype.kind in "biuf" else known

    def _compare_classes(self, y: Any) -> None:
        known, classes = self._label_binarizer.classes_, unique_labels(y)
        if self.warm_start and set(classes) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {known}, `y` has {classes}"
            )
        self._refuse_new_classes(classes)

    def _refuse_new_classes(self, classes: Any) -> None:
        known = self._label_binarizer.classes_
        if len(np.setdiff1d(classes, known, assume_unique=True)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {known}. 'y' has {classes}.")

    def _encode(self, y: Any) -> Any:
        self._refuse_new_classes(unique_labels(y))
        # As bool: `train_test_split` names the classes of a bad split so, and there is no wider type to fall into.
        return self._label_binarizer.transform(y).astype(bool)

    def _class_weights(self, y: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return None
        given = self.class_weight if isinstance(self.class_weight, list) else [self.class_weight]
        if incremental and "balanced" in given:
            raise ValueError(
                'class_weight="balanced" needs all samples, and partial_fit sees some: give the weights as a dict, as '
                "sklearn.utils.compute_class_weight finds them"
            )
        outputs = y.shape[1] if self._is_multilabel else 1
        if "balanced" in given or isinstance(self.class_weight, list) != self._is_multilabel or len(given) != outputs:
            return compute_sample_weight(self.class_weight, y)  # which also refuses what does not fit
        # By all classes that are known, and not those of y: a part of the data may lack one.
        if not self._is_multilabel:
            return _weights_of(self.class_weight, self._label_binarizer.classes_, y)
        labels = y.toarray() if issparse(y) else y
        each = [_weights_of(weight, np.asarray([0, 1]), labels[:, i]) for i, weight in enumerate(given)]
        return np.prod(each, axis=0)

    def _stratify(self, targets: Any) -> Any:
        return targets if targets.shape[1] == 1 else None  # as scikit-learn does it: two classes only

    @property
    def _is_multilabel(self) -> bool:
        return bool(self._labels_binarizer().y_type_.startswith("multilabel"))

    def _labels_binarizer(self) -> LabelBinarizer:
        """Numbers of classes and their labels; from `classes_` where these were set by hand."""
        if hasattr(self, "_label_binarizer"):
            return self._label_binarizer
        return LabelBinarizer().fit(on_host(self.classes_))

    def _loss_target(self, targets: Any) -> Any:
        if self.out_activation_ != "softmax":
            return targets
        return _as_numbers(targets)

    def _decisions(self, outputs: Array) -> Array:
        """Numbers of classes, shape (n,); for several labels a sample 0 and 1, shape (n, n_classes)."""
        xp = array_namespace(outputs)
        integers = xp.int64 if home_of(outputs).supports("int64") else xp.int32
        middle = 0.0 if self.out_activation_ == "logistic" else 0.5
        if self._is_multilabel:
            return xp.astype(outputs > middle, integers)
        if outputs.shape[1] == 1:
            return xp.astype(outputs[:, 0] > middle, integers)
        return xp.argmax(outputs, axis=1)

    def _labels(self, outputs: Array) -> Any:
        chosen = self._decisions(outputs)
        if self._is_multilabel:
            # A sparse matrix of labels is answered by one.
            return csr_matrix(chosen) if self._labels_binarizer().sparse_input_ else chosen
        known = self._labels_binarizer().classes_
        if len(known) == 1:  # a single class has one output nevertheless, and is never left
            chosen = 0 * chosen
        home = home_of(outputs)
        if known.dtype.kind in "bf" or known.dtype in (np.int32, np.int64):
            return array_namespace(outputs).take(home.asarray(known), chosen, axis=0)
        # Of the others, such as uint16, not every library can take elements.
        answer = known[home.to_numpy(chosen)]
        return home.asarray(answer) if known.dtype.kind in "iu" else answer

    def _probabilities(self, outputs: Array) -> Array:
        xp, p = array_namespace(outputs), activate(self.out_activation_, outputs)
        if p.shape[1] == 1:
            return xp.concat([1.0 - p, p], axis=1)
        if self.out_activation_ != "logistic" or self._is_multilabel:
            return p
        return p / xp.sum(p, axis=1, keepdims=True)  # a loss of the user's, of one output for each class

    def _score_outputs(self, targets: Any, outputs: Any, sample_weight: Any) -> float:
        right = targets if self._is_multilabel else _as_numbers(targets)
        with config_context(array_api_dispatch=False):
            return float(accuracy_score(right, self._decisions(outputs), sample_weight=sample_weight))


def _weights_of(class_weight: Any, classes: Any, y: Any) -> Any:
    """The weight of the class of each sample."""
    return compute_class_weight(class_weight, classes=classes, y=y)[np.searchsorted(classes, y)]


def _as_numbers(targets: Any) -> Any:
    """Numbers of classes, shape (n,), from the columns of a `LabelBinarizer`."""
    return targets[:, 0].astype(np.int64) if targets.shape[1] == 1 else np.argmax(targets, axis=1)
