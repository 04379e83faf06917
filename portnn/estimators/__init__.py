"""Estimators with scikit-learn's interface: `MLPClassifier`, `MLPRegressor`, and the pictures of their training.

They are no instances of scikit-learn's classes, as they can be what those cannot (normalised, on a GPU). A program that
asks ``isinstance(model, sklearn.neural_network.MLPClassifier)`` is told so by
``sklearn.neural_network.MLPClassifier.register(portnn.MLPClassifier)``, as those classes are abstract base classes.

skl2onnx writes them as ONNX once it knows that its converters of scikit-learn's networks fit, which they do where
``activation`` is a name and ``batch_norm`` is off::

    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes
    from skl2onnx.operator_converters import multilayer_perceptron as mlp

    options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
    update_registered_converter(
        MLPClassifier, "PortnnMLPClassifier", shapes.calculate_linear_classifier_output_shapes,
        mlp.convert_sklearn_mlp_classifier, options=options,
    )
    update_registered_converter(
        MLPRegressor, "PortnnMLPRegressor", shapes.calculate_linear_regressor_output_shapes,
        mlp.convert_sklearn_mlp_regressor,
    )

skops writes and reads estimators whose network lives on NumPy.
"""

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
