"""`Traced`: arrays that tell a recorder what NumPy is asked to do with them.

NumPy hands every ufunc and most functions over to the types of their arguments (``__array_ufunc__``,
``__array_function__``). What is done in C beside these protocols leaves memory that no instruction has written, which
the recorder refuses to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .numbers import Unrecordable
from .rules import BY_UFUNCS, RULES, assign, copied, here, is_basic, reduced, take, value_of, writer_of
from .words import address, owner, plain, strided

__all__ = ["Traced", "traced"]


class Traced(np.ndarray):
    """An array of a step that is written down."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        given = [value_of(x) for x in inputs]
        keywords = dict(options)
        if out is not None:
            keywords["out"] = tuple(plain(o) for o in out)
        if options.get("where", True) is not True:
            raise Unrecordable(f"{ufunc.__name__} with where=")
        if method == "reduce":
            return reduced(ufunc, inputs[0], given[0], out, **options)
        if method != "__call__" or ufunc.nout != 1 or set(options) - {"where", "casting", "order", "subok"}:
            raise Unrecordable(f"{ufunc.__name__}.{method} with {sorted(options)}")
        result = getattr(ufunc, method)(*given, **keywords)
        if out is None:
            result = np.asarray(result)
            here().made(result)
        else:
            result = out[0]
        written = plain(result)
        writer_of(ufunc)(*[plain(x) for x in inputs], written)
        return result if isinstance(result, Traced) else traced(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = RULES.get(func)
        if rule is not None:
            return rule(*args, **kwargs)
        if func in BY_UFUNCS:
            return super().__array_function__(func, types, args, kwargs)
        raise Unrecordable(f"numpy.{func.__name__}")

    def astype(self, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: Any = True, copy: Any = True) -> Any:
        if np.dtype(dtype) == self.dtype and not copy:
            return self
        return copied(self, np.dtype(dtype))

    def copy(self, order: Any = "C") -> Any:
        return copied(self, self.dtype)

    def take(self, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise") -> Any:
        return take(self, indices, axis, out, mode)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        new = plain(self).reshape(*shape, **options)
        if owner(new) is owner(self):
            return traced(new)
        return copied(self, self.dtype).reshape(*shape, **options)

    def ravel(self, order: Any = "C") -> Any:
        return self.reshape(-1)

    def flatten(self, order: Any = "C") -> Any:
        return copied(self, self.dtype).reshape(-1)

    def __getitem__(self, key: Any) -> Any:
        if not is_basic(key):
            if isinstance(key, np.ndarray) and key.dtype.kind in "iu":
                return take(self, key, 0)
            raise Unrecordable("an index that is an array")
        found = plain(self)[key]
        return traced(found) if isinstance(found, np.ndarray) else traced(strided(_at(self, key), 1, 0).reshape(()))

    def __setitem__(self, key: Any, value: Any) -> None:
        if not is_basic(key):
            raise Unrecordable("an assignment to an index that is an array")
        to = _at(self, key)
        if not (isinstance(value, np.ndarray) and _lies(to) == _lies(value)):  # what ``y[part] += b`` ends with
            assign(to, value)

    def fill(self, value: Any) -> None:
        assign(plain(self), value)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise Unrecordable(f"a value of an array is looked at: {name}")

    return refuse


for _name in ("__bool__", "__float__", "__int__", "__index__", "__contains__", "item", "tolist", "tobytes"):
    setattr(Traced, _name, _refused(_name))
for _name in (
    *("sort", "argsort", "argmax", "argmin", "partition", "argpartition", "repeat", "nonzero", "searchsorted", "put"),
    *("choose", "compress", "dot", "cumsum", "cumprod", "trace", "round", "byteswap", "tofile", "dump", "dumps"),
):
    setattr(Traced, _name, _refused(f"numpy.ndarray.{_name}"))


def _lies(x: Any) -> Any:
    """Where the values of an array are."""
    return address(x), x.shape, x.strides


def traced(x: Any) -> Traced:
    """An array whose uses are seen, on the same memory."""
    return x.view(Traced)  # type: ignore[no-any-return]


def _at(x: Any, key: Any) -> Any:
    """The view that an index says, also of one element."""
    parts = key if isinstance(key, tuple) else (key,)
    return plain(x)[parts if any(part is ... for part in parts) else (*parts, ...)]
