"""Other places for the same numbers: the way back is the inverse, or adds up what was taken more than once."""

from __future__ import annotations

import itertools
from typing import Any

import array_api_extra as xpx
from array_api_compat import device as device_of
from array_api_compat import is_writeable_array

from portnn._typing import Array, Namespace, Shape
from portnn.autodiff.rules.common import along, match, size_of, to_dtype
from portnn.autodiff.rules.forms import Built, Formula, General, Rule
from portnn.autodiff.trace import is_array, plain

__all__ = ["SHAPES", "place", "set_items"]


def _reshaped(xp: Namespace, y: Array, x: Array, *args: Any, **kwargs: Any) -> Any:
    shape = tuple(x.shape)
    return lambda g: xp.reshape(g, shape)


def _permute_dims(xp: Namespace, y: Array, x: Array, axes: tuple[int, ...]) -> Any:
    back = tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))
    return lambda g: xp.permute_dims(g, back)


def _matrix_transpose(xp: Namespace, y: Array, x: Array) -> Any:
    return lambda g: xp.matrix_transpose(g)


def _moveaxis(xp: Namespace, y: Array, x: Array, source: Any, destination: Any) -> Any:
    return lambda g: xp.moveaxis(g, destination, source)


def _flip(xp: Namespace, y: Array, x: Array, *, axis: Any = None) -> Any:
    return lambda g: xp.flip(g, axis=axis)


def _roll(xp: Namespace, y: Array, x: Array, shift: Any, *, axis: Any = None) -> Any:
    back = tuple([-s for s in shift]) if isinstance(shift, tuple) else -shift
    return lambda g: xp.roll(g, back, axis=axis)


def _broadcast_to(xp: Namespace, y: Array, x: Array, shape: Shape) -> Any:
    own, dtype = tuple(x.shape), x.dtype
    return lambda g: match(xp, g, own, dtype)


def _tril(xp: Namespace, y: Array, x: Array, *, k: int = 0) -> Any:
    return lambda g: xp.tril(g, k=k)


def _triu(xp: Namespace, y: Array, x: Array, *, k: int = 0) -> Any:
    return lambda g: xp.triu(g, k=k)


def _concat(xp: Namespace, y: Array, *arrays: Array, axis: int | None = 0) -> Any:
    lengths = [size_of(a) if axis is None else a.shape[axis] for a in arrays]
    k = axis or 0

    def part(start: int, stop: int, shape: Shape, dtype: Any) -> Any:
        def pull(g: Array) -> Array:
            own = g[along(k, g.ndim, slice(start, stop))]
            return to_dtype(xp, xp.reshape(own, shape) if axis is None else own, dtype)

        return pull

    ends = itertools.pairwise(itertools.accumulate(lengths, initial=0))
    return [part(i, j, tuple(a.shape), a.dtype) for (i, j), a in zip(ends, arrays, strict=True)]


def _stack(xp: Namespace, y: Array, *arrays: Array, axis: int = 0) -> Any:
    def part(i: int, dtype: Any) -> Any:
        return lambda g: to_dtype(xp, g[along(axis, g.ndim, i)], dtype)

    return [part(i, a.dtype) for i, a in enumerate(arrays)]


def _unstack(xp: Namespace, x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    return tuple([x[along(axis, x.ndim, i)] for i in range(x.shape[axis])])


def _broadcast_arrays(xp: Namespace, *arrays: Array) -> Any:
    shape = tuple(xp.raw.broadcast_arrays(*[plain(a) for a in arrays])[0].shape)
    return [xp.broadcast_to(a, shape) for a in arrays]


def _meshgrid(xp: Namespace, *arrays: Array, indexing: str = "xy") -> Any:
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    lengths = [size_of(a) for a in arrays]
    shape = tuple([lengths[i] for i in order])
    rows = [xp.reshape(a, tuple([lengths[i] if j == i else 1 for j in order])) for i, a in enumerate(arrays)]
    return [xp.broadcast_to(a, shape) for a in rows]


def _tile(xp: Namespace, x: Array, repetitions: tuple[int, ...], /) -> Array:
    n = max(x.ndim, len(repetitions))
    own = (1,) * (n - x.ndim) + tuple(x.shape)
    times = (1,) * (n - len(repetitions)) + tuple(repetitions)
    apart = tuple(itertools.chain.from_iterable((1, length) for length in own))
    side_by_side = tuple(itertools.chain.from_iterable(zip(times, own, strict=True)))
    whole = tuple([t * length for t, length in zip(times, own, strict=True)])
    return xp.reshape(xp.broadcast_to(xp.reshape(x, apart), side_by_side), whole)


def _repeat(xp: Namespace, y: Array, x: Array, repeats: Any, /, *, axis: int | None = None) -> Any:
    repeats = plain(repeats)
    if axis is None:
        return _picked(xp, x, lambda places: xp.raw.repeat(xp.raw.reshape(places, (size_of(x),)), repeats))
    return _rows(xp, x, lambda rows: xp.raw.repeat(rows, repeats), axis)


def _take(xp: Namespace, y: Array, x: Array, indices: Array, /, *, axis: int | None = None) -> Any:
    indices = plain(indices)
    return _rows(xp, x, lambda rows: xp.raw.take(rows, indices, axis=0), 0 if axis is None else axis)


def _rows(xp: Namespace, x: Array, pick: Any, axis: int) -> Any:
    """What was taken along one axis: ``pick`` takes the same from the numbers of the places."""
    axis %= x.ndim
    rows = (x.shape[axis], *x.shape[:axis], *x.shape[axis + 1 :])
    dtype = x.dtype
    places = pick(xp.raw.arange(rows[0], device=device_of(plain(x))))

    def pull(g: Array) -> Array:
        zeros = xp.zeros(rows, dtype=dtype, device=device_of(g))
        return xp.moveaxis(xp.scatter_add(zeros, places, xp.moveaxis(g, axis, 0)), 0, axis)

    return pull


def _picked(xp: Namespace, x: Array, pick: Any) -> Any:
    """What was taken anywhere: ``pick`` takes the same from an array of the numbers of the places."""
    shape, size = tuple(x.shape), size_of(x)
    numbers = xp.raw.reshape(xp.raw.arange(size, device=device_of(plain(x))), shape)
    places = pick(numbers)
    places = xp.raw.reshape(places, (size_of(places),))

    def pull(g: Array) -> Array:
        zeros = xp.zeros((size,), dtype=g.dtype, device=device_of(g))
        return xp.reshape(xp.scatter_add(zeros, places, xp.reshape(g, (size_of(g),))), shape)

    return pull


def _take_along_axis(xp: Namespace, y: Array, x: Array, indices: Array, /, *, axis: int = -1) -> Any:
    indices = plain(indices)
    return _picked(xp, x, lambda places: xp.raw.take_along_axis(places, indices, axis=axis))


def _sort(
    xp: Namespace, y: Array, x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Any:
    order = xp.raw.argsort(plain(x), axis=axis, descending=descending, stable=stable)
    return _take_along_axis(xp, y, x, order, axis=axis)


def _scatter_add(xp: Namespace, y: Array, x: Array, index: Array, values: Array) -> Any:
    index = plain(index)
    return [lambda g: g, None, lambda g: xp.take(g, index, axis=0)]


def _getitem(xp: Namespace, y: Array, x: Array, *, key: Any) -> Any:
    shape = tuple(x.shape)
    return lambda g: xp.place(g, key=key, shape=shape)


def _place(xp: Namespace, y: Array, g: Array, *, key: Any, shape: Shape) -> Any:
    return lambda h: h[key]


def _setitem(xp: Namespace, y: Array, x: Array, v: Array, *, key: Any) -> Any:
    shape, dtype = tuple(v.shape), v.dtype

    def of_the_rest(g: Array) -> Array:
        return xp.setitem(g, xp.zeros((), dtype=g.dtype, device=device_of(g)), key=key)

    return of_the_rest, lambda g: match(xp, g[key], shape, dtype)


def set_items(raw: Namespace) -> Any:
    """``x`` with other values at a key: a new array."""

    def setitem(x: Array, v: Array, *, key: Any) -> Array:
        if v.dtype != x.dtype:
            v = raw.astype(v, x.dtype)
        return xpx.at(x, key).set(v, copy=True, xp=raw)

    return setitem


#: Parts of keys that are no arrays.
_BASIC = (int, slice, type(None), type(...))


def place(raw: Namespace, scatter_add: Any) -> Any:
    """Zeros with values where a key takes them from; what it takes twice adds up. The adjoint of ``x[key]``."""

    writable = is_writeable_array(raw.zeros(0))

    def place(g: Array, *, key: Any, shape: Shape) -> Array:
        parts = key if type(key) is tuple else (key,)
        if not any([type(k) not in _BASIC and is_array(k) and not raw.isdtype(k.dtype, "bool") for k in parts]):
            zeros = raw.zeros(shape, dtype=g.dtype, device=device_of(g))
            if any([k is None for k in parts]):
                # New axes are for taking, the standard says, not for assigning.
                key = tuple([k for k in parts if k is not None])
                g = raw.reshape(g, tuple(zeros[key].shape))
            if writable:
                zeros[key] = g
                return zeros
            return xpx.at(zeros, key).set(g, xp=raw)
        size = 1
        for n in shape:
            size *= n
        places = raw.reshape(raw.arange(size, device=device_of(g)), shape)[key]
        zeros = raw.zeros((size,), dtype=g.dtype, device=device_of(g))
        flat = (size_of(g),)
        return raw.reshape(scatter_add(zeros, raw.reshape(places, flat), raw.reshape(g, flat)), shape)

    return place


SHAPES: dict[str, Rule] = {
    "reshape": General(_reshaped, (0,)),
    "expand_dims": General(_reshaped, (0,)),
    "squeeze": General(_reshaped, (0,)),
    "permute_dims": General(_permute_dims, (0,)),
    "matrix_transpose": General(_matrix_transpose, (0,)),
    "moveaxis": General(_moveaxis, (0,)),
    "flip": General(_flip, (0,)),
    "roll": General(_roll, (0,)),
    "broadcast_to": General(_broadcast_to, (0,)),
    "tril": General(_tril, (0,)),
    "triu": General(_triu, (0,)),
    "concat": General(_concat, ()),
    "stack": General(_stack, ()),
    "unstack": Built(_unstack),
    "broadcast_arrays": Built(_broadcast_arrays),
    "meshgrid": Built(_meshgrid),
    "tile": Formula(_tile),
    "repeat": General(_repeat, (0,)),
    "take": General(_take, (0,)),
    "take_along_axis": General(_take_along_axis, (0,)),
    "sort": General(_sort),
    "scatter_add": General(_scatter_add, (0, 2)),
    "getitem": General(_getitem, (0,)),
    "place": General(_place, (0,)),
    "setitem": General(_setitem, (0, 1)),
}
