"""How data come in: everything follows X, the library and the device of which are called its home.

What comes from NumPy, pandas, SciPy's sparse matrices or lists goes through scikit-learn's own validation; arrays of
other libraries stay where they are, and are checked there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from portnn._typing import Array
from portnn.backend import Backend, as_host, backend_class_of, get_backend
from portnn.door import check_finite
from portnn.errors import DataError, ShapeError
from portnn.estimators.warning import warn
from portnn.reading import cure_of, refuse_sparse, widened

__all__ = ["home_of", "on_host", "validate_examples", "validate_targets", "validate_weights"]


_COLUMN = (
    "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples, ), for "
    "example using ravel()."
)


def home_of(X: Any) -> Backend:
    """The backend of an array; that of NumPy for anything else."""
    if _is_foreign(X):
        refuse_sparse(X, "X")
    known = backend_class_of(type(X))
    return get_backend("cpu") if known is None else known.from_array(X)


def on_host(values: Any) -> Any:
    """An array of another library as one of NumPy; anything else as it is."""
    known = backend_class_of(type(values))
    return values if known is None else widened(known.from_array(values).to_numpy(values))


def _is_foreign(X: Any) -> bool:
    known = backend_class_of(type(X))
    return known is not None and known is not backend_class_of(np.ndarray)


def validate_examples(estimator: Any, X: Any, reset: bool) -> Array:
    """``X`` as a dense float array at home, shape (n, k), without NaN or infinity.

    With ``reset``, the estimator remembers number and names of the features; else they are compared.
    """
    if not _is_foreign(X):
        X = widened(X) if isinstance(X, np.ndarray) else X
        with config_context(array_api_dispatch=False):
            try:
                X = validate_data(
                    estimator, X, reset=reset, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32)
                )
            except ValueError as error:
                if not str(error).startswith("could not convert string"):
                    raise
                raise DataError(f"{error}{cure_of(X, np.asarray(X), 'X')}") from None  # it does not say where
        return X.toarray() if issparse(X) else X
    refuse_sparse(X, "X")
    if X.ndim != 2:
        hint = "; for a single sample, write X[None]" if X.ndim == 1 else ""
        raise ShapeError(f"Expected 2D array, got an array of shape {tuple(X.shape)}: one row for each sample{hint}")
    if 0 in X.shape:
        raise DataError(f"Found array of shape {tuple(X.shape)}: a sample and a feature at least are needed")
    with config_context(array_api_dispatch=False):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    xp, home = array_namespace(X), home_of(X)
    if not xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
        raise DataError(f"X has dtype {X.dtype}: real numbers are needed")
    widest = "float64" if home.supports("float64") else "float32"
    if X.dtype not in (xp.float32, home.dtype(widest)):
        X = home.asarray(X, widest if xp.isdtype(X.dtype, ("bool", "integral")) else "float32")
    check_finite(X, home, "X")
    return X


def validate_targets(estimator: Any, X: Array, y: Any, numeric: bool) -> Any:
    """``y`` on the host, as scikit-learn wants it, shape (n,) or (n, outputs)."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    y = on_host(y)
    with config_context(array_api_dispatch=False):
        y = _check_y(y, multi_output=True, y_numeric=numeric, estimator=estimator)
        if numeric and y.dtype.kind in "US":
            as_host(y, "y")  # which says what to do
        check_consistent_length(X, y)
        if y.ndim == 2 and y.shape[1] == 1:
            warn(_COLUMN, DataConversionWarning)
            y = column_or_1d(y)
        return y


def validate_weights(sample_weight: Any, X: Array) -> Any:
    """Sample weights on the host, shape (n,); None stays None."""
    if sample_weight is None:
        return None
    with config_context(array_api_dispatch=False):
        return _check_sample_weight(on_host(sample_weight), X)
