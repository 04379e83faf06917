"""The namespace of traced arrays: that of a library, where every function knows its derivative."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from portnn._typing import Array, DType
from portnn._typing import Namespace as LibraryNamespace
from portnn.autodiff.apply import binary, built, general, unary, undifferentiated
from portnn.autodiff.rules import CREATION, NO_DERIVATIVE, RULES
from portnn.autodiff.rules.forms import Binary, Built, Formula, General, Unary
from portnn.autodiff.rules.shapes import place, set_items
from portnn.autodiff.trace import OPERATORS, AutodiffArray
from portnn.functional.linear import matmul
from portnn.functional.rows import scatter_add
from portnn.functional.sums import sum_over

__all__ = ["Namespace", "namespace_of"]

#: Two names for one function.
_ALIASES = {f"linalg.{name}": name for name in ("matmul", "matrix_transpose", "tensordot", "vecdot")}


class _DtypesOf(dict[DType, bool]):
    """Whether a dtype is of some kinds; asked once for each, as that takes a library longer than a sum does."""

    def __init__(self, raw: LibraryNamespace, *kinds: str) -> None:
        super().__init__()
        self._raw, self._kinds = raw, kinds

    def __missing__(self, dtype: DType) -> bool:
        found = self[dtype] = bool(self._raw.isdtype(dtype, self._kinds))
        return found


class Namespace:
    """What ``x.__array_namespace__()`` of a traced array gives.

    Everything that its functions make is of this namespace, masks and new arrays included. It has a name of its own, so
    that nobody takes it for the library's, and hands traced arrays to functions that know nothing of them.

    Parameters
    ----------
    raw : module
        The library's, as `array_api_compat.array_namespace` gives it.
    outer : Namespace, optional
        The one that this is a part of.
    prefix : str
        ``"linalg."`` or ``"fft."`` for the extensions.
    for_rules : bool
        Whether what is made of plain arrays stays plain, as rules want it.

    Attributes
    ----------
    inner : Namespace
        The one for rules.
    face : Namespace
        The one for people.
    complex_dtypes, float_dtypes : mapping
        Whether a dtype is complex; whether it is real or complex, and can be differentiated.
    """

    def __init__(
        self, raw: LibraryNamespace, outer: Namespace | None = None, prefix: str = "", for_rules: bool = False
    ) -> None:
        self.raw, self._prefix, self._for_rules = raw, prefix, for_rules
        self.__name__ = f"portnn.autodiff of {raw.__name__}"
        real, imaginary = "real floating", "complex floating"
        self.complex_dtypes: Any = outer.complex_dtypes if outer else _DtypesOf(raw, imaginary)
        self.float_dtypes: Any = outer.float_dtypes if outer else _DtypesOf(raw, real, imaginary)
        if outer is None:
            self.face: Namespace = self
            self.inner: Namespace = Namespace(raw, self, for_rules=True)
        elif prefix:
            self.face, self.inner = outer.face, outer.inner
        else:
            self.face, self.inner = outer, self

    def __repr__(self) -> str:
        return (
            f"<{self.__name__}: of arrays that are being differentiated; others become theirs by xp.asarray(), or "
            "as arguments of the function>"
        )

    def __getattr__(self, name: str) -> Any:
        made = self._make(name)
        self.__dict__[name] = made  # from now on it is found without this method
        return made

    def _make(self, name: str) -> Any:
        if name in ("linalg", "fft") and not self._prefix:
            operator.attrgetter(name)(self.raw)  # AttributeError where the library lacks it
            return Namespace(self.raw, self, f"{name}.", self._for_rules)
        name = self._prefix + name
        xp, wrap, name = self.inner, not self._for_rules, _ALIASES.get(name, name)
        if name.startswith("operator_"):
            name = name.removeprefix("operator_")
            raw = OPERATORS[name]
        elif name in _INTERNAL:
            raw = _INTERNAL[name](self.raw)
        else:
            raw = operator.attrgetter(name)(self.raw)
        match RULES.get(name):
            case Unary() as rule:
                return unary(xp, name, raw, rule, wrap)
            case Binary() as rule:
                return binary(xp, name, raw, rule, wrap)
            case General() | Formula() as rule:
                return general(xp, name, raw, rule, wrap)
            case Built(function):
                return built(xp, raw, function, wrap)
        if isinstance(raw, type) or not callable(raw):
            return raw  # dtypes and numbers
        return undifferentiated(xp, name, raw, name in NO_DERIVATIVE or name in CREATION, wrap)


def _take_items(raw: LibraryNamespace) -> Callable[..., Array]:
    return lambda x, *, key: x[key]


def _cast(raw: LibraryNamespace) -> Callable[..., Array]:
    return lambda x, *, dtype: raw.astype(x, dtype)


#: What rules need beside the standard.
_INTERNAL: dict[str, Callable[[LibraryNamespace], Callable[..., Any]]] = {
    "getitem": _take_items,
    "setitem": set_items,
    "place": lambda raw: place(raw, scatter_add),
    "cast": _cast,
    "product": lambda raw: matmul,
    "scatter_add": lambda raw: scatter_add,
    "sum_over": lambda raw: sum_over,
}

_namespaces: dict[Any, Namespace] = {}


def namespace_of(x: Array) -> Namespace:
    """The namespace of traced arrays of a library; that of an array which is traced."""
    if type(x) is AutodiffArray:
        return x.ns  # type: ignore[no-any-return]
    raw = array_namespace(x)
    found = _namespaces.get(raw)
    return _namespaces.setdefault(raw, Namespace(raw)) if found is None else found
