"""Feature scaling, fitted on the training data and applied to any others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace

from portnn._typing import Array
from portnn.backend import Backend, as_host, backend_class_of, backend_of
from portnn.door import check_finite, check_rows, holds_numbers
from portnn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Scaling"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """``(x - offset) / width + low``, feature by feature; made by ``standard`` or ``min_max``.

    Arrays may be of any library and are answered in the same one. float32 and float64 stay what they are, and other
    numbers become float64 (float32, where the device has no other, and for shorter floats).

    Attributes
    ----------
    offset, width : float64 host arrays, shape of one example
        A feature that is always the same, or varies by less than float32 can tell from 0, has width 1.
    low : float
        What ``offset`` becomes: 0, or the ``low`` of `min_max`.

    Examples
    --------
    >>> train, test = np.asarray([[1.0, 5.0], [3.0, 5.0]]), np.asarray([[5.0, 6.0]])
    >>> scaling = Scaling.standard(train)
    >>> scaling(train)
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> scaling(test)
    array([[3., 1.]])
    >>> scaling.inverse(scaling(test))
    array([[5., 6.]])
    """

    offset: NDArray[np.float64]
    width: NDArray[np.float64]
    low: float = 0.0

    @classmethod
    def standard(cls, x: Array) -> Scaling:
        """Every feature with mean 0 and (biased) standard deviation 1 over the examples ``x``, shape (n, ...).

        Raises DataError where ``x`` is empty, or holds NaN or infinity.
        """
        smallest, largest, mean, width = _statistics(x, "min", "max", "mean", "std")
        # Asked of the values: rounding gives equal ones a deviation that is not quite 0.
        width = _usable(np.where(largest > smallest, width, 0.0))
        return cls(np.where(largest > smallest, mean, smallest), width)

    @classmethod
    def min_max(cls, x: Array, low: float = -1.0, high: float = 1.0) -> Scaling:
        """Every feature from ``low``, for its smallest value among the examples ``x``, to ``high``, for its largest.

        Raises DataError as `standard`; ConfigError unless ``low < high``.
        """
        if not low < high:
            raise ConfigError(f"min_max scales to an interval: low must be below high, not {low} and {high}")
        smallest, largest = _statistics(x, "min", "max")
        return cls(smallest, _usable((largest - smallest) / (high - low)), float(low))

    def __call__(self, x: Array) -> Array:
        """The scaled features of ``x``, shape (n, ...) with examples as at the fit."""
        x, offset, width = self._beside(x)
        return (x - offset) / width + self.low

    def inverse(self, z: Array) -> Array:
        """What was scaled to ``z``."""
        z, offset, width = self._beside(z)
        return (z - self.low) * width + offset

    def _beside(self, x: Array) -> tuple[Array, Array, Array]:
        x, backend = _floats(x)
        check_rows(x, self.offset.shape, taker="the scaling")
        dtype = "float64" if backend.supports("float64") and x.dtype == backend.dtype("float64") else "float32"
        return x, backend.asarray(self.offset, dtype), backend.asarray(self.width, dtype)


def _floats(x: Any) -> tuple[Array, Backend]:
    """An array of float32 or float64, and where it lives."""
    x = x if backend_class_of(type(x)) is not None and holds_numbers(x) else as_host(x)
    backend = backend_of(x)
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "real floating"):
        return x, backend
    if not xp.isdtype(x.dtype, ("bool", "integral")):
        raise DataError(f"x has dtype {x.dtype}: real numbers are needed")
    return backend.asarray(x, "float64" if backend.supports("float64") else "float32"), backend


def _usable(width: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 in the place of a width that one cannot divide by, in float32 either."""
    return np.where((width >= np.finfo(np.float32).tiny) & (width < np.inf), width, 1.0)


def _statistics(x: Array, *names: str) -> list[NDArray[np.float64]]:
    """Functions of the namespace over the examples, in float64: sums in float32 would drift."""
    x, backend = _floats(x)
    if x.ndim == 0 or x.shape[0] == 0:
        raise DataError(f"a scaling cannot be fitted to no examples: x has shape {tuple(x.shape)}")
    check_finite(x, backend)
    x = backend.asarray(x, "float64") if backend.supports("float64") else backend.to_numpy(x).astype(np.float64)
    functions = [getattr(array_namespace(x), name) for name in names]
    found = [function(x, axis=0) for function in functions]
    return found if isinstance(x, np.ndarray) else [backend.to_numpy(value) for value in found]
