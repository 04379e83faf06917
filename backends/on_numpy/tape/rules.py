"""What a recorder is told of functions of NumPy that are written in C, and of ufuncs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..recording import recorder
from .numbers import StepFloat, StepInt, Unrecordable, plain_number
from .recorder import Recorder
from .words import address, owner, plain, strided

__all__ = ["BY_UFUNCS", "RULES", "assign", "copied", "here", "is_basic", "reduced", "take", "value_of", "writer_of"]


def here() -> Recorder:
    """The recorder of this thread."""
    found: Recorder | None = recorder()
    if found is None:
        raise Unrecordable("an array of a recorded step is used after it")
    return found


def _wrapped(x: Any) -> Any:
    return here().wrap(x)


def value_of(x: Any) -> Any:
    """What NumPy is given for a traced array or a number of the step."""
    return plain(plain_number(x))


def is_basic(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is ... or isinstance(part, slice | int | np.integer) for part in parts)


def writer_of(ufunc: np.ufunc) -> Callable[..., None]:
    """What writes down a call of a ufunc."""
    if ufunc.signature is None:
        return _elementwise(ufunc)
    if ufunc is np.matmul:
        return here().matmul
    if ufunc is getattr(np, "vecdot", None):
        return here().vecdot
    raise Unrecordable(f"numpy.{ufunc.__name__}")


def _elementwise(ufunc: np.ufunc) -> Callable[..., None]:
    def write(*arrays: Any) -> None:
        *inputs, output = arrays
        for x in inputs:
            if not isinstance(x, np.ndarray) or owner(x) is not owner(output) or not np.may_share_memory(x, output):
                continue
            if (address(x), x.strides, x.shape) != (address(output), output.strides, output.shape):
                raise Unrecordable(f"{ufunc.__name__} into memory that overlaps with what it reads")
        here().ufunc(ufunc, inputs, output)

    return write


def reduced(
    ufunc: np.ufunc,
    x: Any,
    given: Any,
    out: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    if out is not None:
        raise Unrecordable(f"{ufunc.__name__}.reduce with out=")
    # Without one, NumPy's functions hand on a value that stands for none.
    options: dict[str, Any] = {"initial": initial} if isinstance(initial, int | float | np.generic) else {}
    axes = tuple(range(given.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % max(given.ndim, 1) for a in axes)
    result = np.asarray(ufunc.reduce(given, axis=axis, dtype=dtype, keepdims=keepdims, **options))
    result = np.ascontiguousarray(result).reshape(result.shape)
    here().made(result)
    shape = tuple(1 if i in axes else n for i, n in enumerate(given.shape))
    here().reduce(ufunc, given, axes, result.reshape(shape), options.get("initial"))
    return _wrapped(result)


def copied(x: Any, dtype: Any) -> Any:
    made = here().empty(x.shape, dtype)
    assign(plain(made), x)
    return made


def assign(to: Any, value: Any) -> None:
    """``to[...] = value``, done and written down."""
    if isinstance(value, StepFloat | StepInt):
        to[...] = value_of(value)
        here().ufunc(np.positive, [value], to)
        return
    value = plain(np.asarray(value, to.dtype) if not isinstance(value, np.ndarray) else value)
    to[...] = value
    while value.ndim > to.ndim and value.shape[0] == 1:
        value = value[0]
    here().convert(value, to)


def take(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise") -> Any:
    axis = 0 if axis is None and x.ndim == 1 else axis
    if axis != 0 or out is not None or mode != "raise" or indices.ndim != 1:
        raise Unrecordable("numpy.take along another axis than the first, or of an index with more than one")
    rows, index = plain(x), plain(indices)
    made = here().empty((len(index), *rows.shape[1:]), rows.dtype)
    made_ = plain(made)
    made_[...] = rows[index]
    values, to = rows.reshape(len(rows), -1), made_.reshape(len(index), -1)
    if rows.dtype.kind not in "fiub" or not np.may_share_memory(values, rows):
        raise Unrecordable(f"numpy.take from an array of {rows.dtype} whose rows do not lie in one piece")
    now = here()
    now.reads(rows)
    now.reads(index)
    now.writes(made_)
    if rows.dtype.kind == "b":
        values, to = values.view(np.uint8), to.view(np.uint8)
    now.call("copied_rows", values, index, to, whole=1)
    return made


def _where(condition: Any, a: Any, b: Any) -> Any:
    given = [value_of(v) for v in (condition, a, b)]
    result = np.asarray(np.where(*given))
    now = here()
    now.made(result)
    kinds = np.dtype(bool), result.dtype, result.dtype
    # As its axes lie in memory, which NumPy takes over from what it is given.
    axes = sorted(range(result.ndim), key=lambda axis: -result.strides[axis])
    to = result.transpose(axes)
    if not to.flags.c_contiguous:
        raise Unrecordable("numpy.where whose result does not lie in one piece")
    flat = []
    for value, dtype in zip((condition, a, b), kinds, strict=True):
        if isinstance(value, StepFloat | StepInt):
            x = plain(now.empty((), dtype))
            assign(x, value)
        else:
            x = plain(np.asarray(value))
        if x.dtype != dtype:
            y = np.empty(x.shape, dtype)
            now.made(y)
            now.convert(x, y)
            x = y
        now.reads(x)
        if x.size == 1:
            flat.append(strided(x, result.size, 0))
            continue
        x = np.broadcast_to(x, result.shape).transpose(axes)
        if not x.flags.c_contiguous:
            y = np.empty(to.shape, dtype)
            now.made(y)
            now.convert(x, y)
            x = y
        flat.append(x.reshape(-1))
    now.writes(result)
    now.call("chosen", *flat, to.reshape(-1))
    return _wrapped(result)


def _view_of(function: Any) -> Callable[..., Any]:
    def view(x: Any, *args: Any, **kwargs: Any) -> Any:
        new = function(plain(x), *args, **kwargs)
        if owner(new) is not owner(x):
            raise Unrecordable(f"numpy.{function.__name__} of an array that lies otherwise in memory")
        return _wrapped(new)

    return view


def _broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    x = plain(x)
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    strides = np.broadcast_to(x, shape).strides
    base = owner(x)
    return _wrapped(np.ndarray(shape, x.dtype, base, address(x) - address(base), strides))


def _filled(value: Any) -> Callable[..., Any]:
    def fill(x: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, **_: Any) -> Any:
        made = here().empty(x.shape if shape is None else shape, np.dtype(dtype) if dtype is not None else x.dtype)
        if value is not None:
            made.fill(value)
        return made

    return fill


def _full_like(x: Any, fill_value: Any, dtype: Any = None, **_: Any) -> Any:
    return _filled(fill_value)(x, dtype)


def _joined(arrays: Any, axis: int = 0, out: Any = None, **options: Any) -> Any:
    if out is not None or options:
        raise Unrecordable("numpy.concatenate with out= or dtype=")
    parts = [plain(a) for a in arrays]
    axis %= parts[0].ndim
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    made, start = here().empty(tuple(shape), np.result_type(*parts)), 0
    for part in parts:
        stop = start + part.shape[axis]
        assign(plain(made)[(slice(None),) * axis + (slice(start, stop),)], part)
        start = stop
    return made


def _stacked(arrays: Any, axis: int = 0, **options: Any) -> Any:
    parts = [plain(a) for a in arrays]
    at = axis % (parts[0].ndim + 1)
    return _joined([p.reshape((*p.shape[:at], 1, *p.shape[at:])) for p in parts], at, **options)


def _tile(x: Any, repeats: Any) -> Any:
    if x.ndim != 1 or not isinstance(repeats, int):
        raise Unrecordable("numpy.tile of an array with several axes")
    made = here().empty((repeats, x.size), x.dtype)
    assign(plain(made), x)
    return made.reshape(-1)


def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0.0, **options: Any) -> Any:
    widths = [tuple(pair) for pair in pad_width]
    if mode != "constant" or options or len(widths) != x.ndim or not isinstance(constant_values, int | float):
        raise Unrecordable("numpy.pad with other than one constant")
    made = here().empty(tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)), x.dtype)
    made.fill(constant_values)
    assign(plain(made)[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))], x)
    return made


def _copy_to(to: Any, value: Any, casting: Any = "same_kind", where: Any = True) -> None:
    if where is not True:
        raise Unrecordable("numpy.copyto with where=")
    assign(plain(to), value)


def _reshape(x: Any, *args: Any, **kwargs: Any) -> Any:
    return _wrapped(x).reshape(*args, **{k: v for k, v in kwargs.items() if k != "copy"})


def _shares(a: Any, b: Any, *_: Any) -> bool:
    return bool(np.may_share_memory(plain(a), plain(b)))


#: What NumPy does in C.
RULES: dict[Any, Callable[..., Any]] = {
    np.take: take,
    np.where: _where,
    np.concatenate: _joined,
    np.stack: _stacked,
    np.tile: _tile,
    np.pad: _pad,
    np.copyto: _copy_to,
    np.reshape: _reshape,
    np.ravel: lambda x, order="C": _wrapped(x).reshape(-1),
    np.copy: lambda x, order="K", subok=False: copied(x, x.dtype),
    np.broadcast_to: _broadcast_to,
    np.empty_like: _filled(None),
    np.zeros_like: _filled(0),
    np.ones_like: _filled(1),
    np.full_like: _full_like,
    np.may_share_memory: _shares,
    np.shares_memory: _shares,
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
    np.result_type: lambda *args: np.result_type(*[plain(a) for a in args]),
    **{f: _view_of(f) for f in (np.transpose, np.squeeze, np.swapaxes, np.diagonal)},
}

#: Written in Python on top of ufuncs, methods and the functions above.
BY_UFUNCS = frozenset(
    {
        *(np.sum, np.mean, np.var, np.std, np.max, np.min, np.amax, np.amin, np.prod, np.any, np.all, np.clip),
        *(np.expand_dims, np.moveaxis, np.flip, np.atleast_1d, np.atleast_2d, np.split, np.array_split),
    }
)
