"""What is no plain array of numbers, such as a table or a list of images: made one, or refused in words that help.

`portnn.backend.as_host` comes here with what NumPy cannot read as numbers by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from portnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cure_of", "name_in_code", "numbers_of", "refuse_gaps", "refuse_sparse", "several_shapes", "widened"]


def widened(host: NDArray[Any]) -> NDArray[Any]:
    """An array of a type that NumPy has from the package ml_dtypes, such as bfloat16, in one of NumPy's own."""
    if host.dtype.kind != "V" or host.dtype.type.__module__ != "ml_dtypes":
        return host
    return host.astype(np.int64 if "int" in host.dtype.name else np.float32)


def name_in_code(what: str) -> str:
    """How an array is called in code: "validation y" is y."""
    return what.rpartition(" ")[2]


def numbers_of(x: Any, host: NDArray[Any], what: str) -> NDArray[Any]:
    """The real numbers in ``host``, which is ``np.asarray(x)`` and has a dtype that is none of them.

    Objects are taken if all of them are numbers: that is how a table of nullable columns comes.

    Raises DataError that names the column, what stands there, and what to do.
    """
    refuse_sparse(x, what)
    host = widened(host)
    if host.dtype.kind == "O" and host.ndim:
        try:
            inferred = np.asarray(host.tolist())
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{what} cannot be read as an array: {several_shapes(host) or error}") from None
        host = inferred if inferred.dtype.kind in "fiub" else host
    if host.dtype.kind not in "fiub":
        raise DataError(f"{what} has dtype {host.dtype}: real numbers are needed{cure_of(x, host, what)}")
    return host


def refuse_gaps(x: Any, what: str) -> None:
    """Raise DataError if a nullable column of a table, or a nullable column by itself, has a gap.

    NumPy gets a NaN for it where all columns are nullable floats, and something that is no number else.
    """
    many = hasattr(x, "columns")
    for number, name in enumerate(x.columns if many else [None]):
        column = x.iloc[:, number] if many else x
        if type(getattr(column.dtype, "na_value", None)).__name__ != "NAType":
            continue
        gaps = np.flatnonzero(np.asarray(column.isna()))
        if gaps.size:
            where = f"column {name!r} of {what}" if many else what
            raise DataError(f"{where} has gaps, the first in row {gaps[0]}: fill them, or leave those examples out")


def refuse_sparse(x: Any, what: str) -> None:
    """Raise DataError if ``x`` is a sparse matrix of any library."""
    kind = type(x)
    if "sparse" in kind.__module__ or "sparse" in str(getattr(x, "layout", "")):
        library, name = kind.__module__.partition(".")[0], name_in_code(what)
        method = next((name for name in ("toarray", "to_dense", "todense") if hasattr(x, name)), "todense")
        other = ", or take MLPClassifier or MLPRegressor, which take it" if (library, name) == ("scipy", "x") else ""
        raise DataError(
            f"{what} is a sparse matrix, {library}'s {kind.__name__}, and a dense array is needed: write "
            f"{name}.{method}(){other}"
        )


def several_shapes(x: Any) -> str:
    """What is wrong with a list whose examples have several shapes, and what to do; "" if they have not."""
    try:
        shapes = list(dict.fromkeys(tuple(np.shape(one)) for one in x))
    except (TypeError, ValueError):  # no list of arrays
        return ""
    if len(shapes) < 2:
        return ""
    return (
        f"its examples have {len(shapes)} shapes, such as {shapes[0]} and {shapes[1]}: bring them to one, images by "
        "scaling or cropping, rows by filling up"
    )


def cure_of(x: Any, host: NDArray[Any], what: str) -> str:
    """The end of a sentence about the first thing in an array, ``np.asarray(x)``, that is no number."""
    if host.dtype.kind not in "OUST":
        return ""
    if host.ndim == 0:
        return f", and this is {'None' if x is None else f'a single {type(x).__name__}'}"
    found = next(((place, value) for place, value in np.ndenumerate(host) if not _is_number(value)), None)
    if found is None:
        return ""
    place, value = found
    columns = list(getattr(x, "columns", ()))
    inside = host.ndim == 2 and len(columns) == host.shape[1]
    where = f"column {columns[place[1]]!r}" if inside else "it" if host.ndim < 2 else f"column {place[1]}"
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return f"; {where} has gaps, the first in row {place[0]}: fill them, or leave those examples out"
    if not isinstance(value, str | bytes):
        return f"; {where} holds values of type {type(value).__name__}: make numbers of them, such as by astype(float)"
    value = value if isinstance(value, bytes) else str(value)  # NumPy's text shows its type
    if host.ndim < 2:
        name = name_in_code(what)
        return (
            f"; it holds text, such as {value!r}: number it, names, {name} = np.unique({name}, return_inverse=True), "
            "or take MLPClassifier, whose labels may be text"
        )
    return (
        f"; {where} holds text, such as {value!r}: make numbers of it, np.unique(column, return_inverse=True)[1], or a "
        "column of 0 and 1 for each word, as pandas.get_dummies does"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.number | np.bool_)
