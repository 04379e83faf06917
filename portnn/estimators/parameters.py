"""The parameters of the estimators, in one list: type, what scikit-learn allows, and default."""

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from portnn.backend import Backend
from portnn.nn import Layer
from portnn.optim import FullBatch, Optimizer
from portnn.training import Callback

__all__ = ["Parameters", "with_parameters"]

T = TypeVar("T")

_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_SHARE = Interval(Real, 0, 1, closed="left")
_COUNT = Interval(Integral, 1, None, closed="left")


@dataclass_transform(eq_default=False)
def with_parameters(cls: type[T]) -> type[T]:
    """A class whose parameters are its fields: ``name: Annotated[type, *what scikit-learn allows] = default``.

    All else follows from them: ``__init__``, from whose signature scikit-learn knows the names and defaults, and
    ``_parameter_constraints``, which it checks a call of ``fit`` by. As in any dataclass, the fields of the bases come
    first, those of the last base before all.
    """
    made: Any = dataclass(eq=False, repr=False, match_args=False)(cls)
    names = [field.name for field in fields(made)]
    types, all_said = get_type_hints(made), get_type_hints(made, include_extras=True)
    made.__init__.__annotations__ = {name: types[name] for name in names} | {"return": None}  # for those who read it
    made._parameter_constraints = {name: list(all_said[name].__metadata__) for name in names}
    return cls


@with_parameters
class Parameters:
    """What both estimators take; `MLPClassifier` says what each of them means."""

    _parameter_constraints: ClassVar[dict[str, Any]]

    hidden_layer_sizes: Annotated[Any, "array-like", _COUNT] = (100,)
    activation: Annotated[Any, StrOptions({"identity", "logistic", "tanh", "relu"}), "array-like", callable, Layer] = (
        "relu"
    )
    _: KW_ONLY
    solver: Annotated[str, StrOptions({"lbfgs", "sgd", "adam"})] = "adam"
    alpha: Annotated[float, _NOT_NEGATIVE] = 0.0001
    batch_size: Annotated[int | str, StrOptions({"auto"}), _COUNT] = "auto"
    learning_rate: Annotated[str, StrOptions({"constant", "invscaling", "adaptive"})] = "constant"
    learning_rate_init: Annotated[float, _POSITIVE] = 0.001
    power_t: Annotated[float, _NOT_NEGATIVE] = 0.5
    max_iter: Annotated[int, _COUNT] = 200
    shuffle: Annotated[bool, "boolean"] = True
    random_state: Annotated[Any, "random_state"] = None
    tol: Annotated[float, _NOT_NEGATIVE] = 1e-4
    verbose: Annotated[bool, "verbose"] = False
    warm_start: Annotated[bool, "boolean"] = False
    momentum: Annotated[float, Interval(Real, 0, 1, closed="both")] = 0.9
    nesterovs_momentum: Annotated[bool, "boolean"] = True
    early_stopping: Annotated[bool, "boolean"] = False
    validation_fraction: Annotated[float, _SHARE] = 0.1
    beta_1: Annotated[float, _SHARE] = 0.9
    beta_2: Annotated[float, _SHARE] = 0.999
    epsilon: Annotated[float, _POSITIVE] = 1e-8
    n_iter_no_change: Annotated[float, _COUNT, Options(Real, {np.inf})] = 10
    max_fun: Annotated[int, _COUNT] = 15000
    device: Annotated[str | Backend | None, str, Backend, None] = None
    dropout: Annotated[Any, _SHARE, "array-like"] = 0.0
    batch_norm: Annotated[bool, "boolean"] = False
    l1_ratio: Annotated[float, Interval(Real, 0, 1, closed="both")] = 0.0
    optimizer: Annotated[Optimizer | FullBatch | None, Optimizer, FullBatch, None] = None
    validation_data: Annotated[tuple[Any, ...] | None, tuple, list, None] = None
    restore_best: Annotated[bool, "boolean"] = True
    callbacks: Annotated[Iterable[Callback], "array-like"] = ()
    augment: Annotated[Callable[..., Any] | None, callable, None] = None
    progress: Annotated[bool, "boolean"] = False
