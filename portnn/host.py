"""Arrays of any library, and whatever is like one, as arrays of NumPy on the host."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

from portnn.errors import DataError
from portnn.registry import class_of
from portnn.status import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_host", "numpy"]


def as_host(x: Any, what: str = "x") -> NDArray[Any]:
    """A NumPy array of real numbers in native byte order, from an array of any known library or anything like one.

    Tables of numbers are read too, nullable columns without gaps included, and lists of arrays of one shape. bfloat16
    becomes float32, which holds the same numbers.

    Raises
    ------
    DataError
        If ``x`` cannot be read as an array, or holds anything but real numbers.
    """
    entry = class_of(type(x))
    if isinstance(x, numpy().ma.MaskedArray) and x.mask.any():
        raise DataError(f"{what} has masked values: fill the gaps, or leave those examples out")
    try:
        host = _read(x, entry, what)
        if host.dtype.kind not in "fiub":
            host = import_module("portnn.reading").numbers_of(x, host, what)
        elif entry is None and hasattr(x, "isna"):  # a table of pandas
            import_module("portnn.reading").refuse_gaps(x, what)
    except DataError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:  # a ragged list, an odd dtype ...
        reading = import_module("portnn.reading")
        reading.refuse_sparse(x, what)
        reason = reading.several_shapes(x) or first_line(error)
        raise DataError(f"{what} cannot be read as an array: {reason}") from None
    native: NDArray[Any] = host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))
    return native


def _read(x: Any, entry: type[Any] | None, what: str) -> Any:
    """``x`` in NumPy, of whatever dtype."""
    if entry is not None:
        return numpy().asarray(entry.from_array(x).to_numpy(x))
    np = numpy()
    first = x[0] if isinstance(x, list | tuple) and x else None
    if not isinstance(first, np.ndarray | np.generic) and class_of(type(first)) is not None:
        # NumPy would take arrays of other libraries apart, number by number, and cannot where they are on a GPU.
        return np.stack([as_host(one, what) for one in x])
    return np.asarray(x)


@functools.cache
def numpy() -> Any:
    """The host library, loaded when it is first needed."""
    return import_module("numpy")
