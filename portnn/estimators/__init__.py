"""Estimators with scikit-learn's interface: `MLPClassifier`, `MLPRegressor`, and the pictures of their training."""

from portnn.errors import MissingLibraryError

try:
    import sklearn as _  # noqa: F401
except ImportError:
    raise MissingLibraryError(
        'the estimators need scikit-learn, which is not installed: pip install "scikit-learn>=1.9"'
    ) from None

from portnn.estimators.classifier import MLPClassifier
from portnn.estimators.display import LossCurveDisplay
from portnn.estimators.regressor import MLPRegressor

__all__ = ["LossCurveDisplay", "MLPClassifier", "MLPRegressor"]
