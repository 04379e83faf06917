"""A faster twin of a portable function, and the guard that says which arrays it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portnn._typing import Array, DType
from portnn.registry import class_of

__all__ = ["Kernel"]


@dataclass(frozen=True)
class Kernel:
    """A backend's twin of a portable function, with the guard that says which arrays it takes.

    Parameters
    ----------
    function : callable
        Has the parameters of the portable function, behind its ``options`` if it has some (`differentiable`): the same
        names, kinds and defaults. Returns ``NotImplemented`` where it cannot take its arguments, before it has written
        into any of them.
    dtypes : frozenset of dtype
        Dtypes, as the library has them; every array argument must have the same one of them. Empty accepts all.
    ndims : tuple of int
        Numbers of dimensions of the first array; empty accepts every one.
    layout : callable, optional
        Says of one array whether it lies in memory as the twin needs it; every array argument is asked.
    many : callable, optional
        Of an update rule: the same for several leaves at once, ``many([(p, g, *slots), ...], **hyper)`` to
        ``[(p, *slots), ...]``, or ``NotImplemented``; see `update_leaves`.
    """

    function: Callable[..., Any]
    dtypes: frozenset[DType] = frozenset()
    ndims: tuple[int, ...] = ()
    layout: Callable[[Array], bool] | None = None
    many: Callable[..., list[tuple[Any, ...]]] | None = None

    def accepts(self, arrays: tuple[Any, ...]) -> bool:
        """Whether the twin takes these arrays."""
        first, kind, dtypes, layout = arrays[0], type(arrays[0]), self.dtypes, self.layout
        if self.ndims and first.ndim not in self.ndims:
            return False
        if dtypes and first.dtype not in dtypes:
            return False
        if dtypes or layout is not None:
            for a in arrays:
                if type(a) is not kind and class_of(type(a)) is not class_of(kind):
                    return False
                if (dtypes and a.dtype != first.dtype) or (layout is not None and not layout(a)):
                    return False
        return True
