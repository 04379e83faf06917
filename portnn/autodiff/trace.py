"""What derivatives are recorded on: levels, nodes and the traced array.

Each call of a transformation has a level of its own, with a number higher than that of any before it. An operation
works on the highest level among its arguments: it takes the wrappers of that level off, computes with what is inside,
which may be traced by lower levels, and wraps the result. What belongs to lower levels is constant for this one. So
derivatives of derivatives do not mix, and there is no state besides the arrays themselves: threads need no lock.

In reverse, a node remembers what it was made of and how gradients go back there; in forward mode the tangent is in the
place of the node. A node knows its parents alone, so nothing is referred to in a circle, and memory is free as soon as
the last array is.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from array_api_compat import device as device_of
from array_api_compat import is_array_api_obj

from portnn._typing import Array, Namespace, Shape
from portnn.errors import TraceError

__all__ = [
    "CONSTANT",
    "OPERATORS",
    "AutodiffArray",
    "Info",
    "Level",
    "Node",
    "has_traced",
    "is_array",
    "lift",
    "like",
    "plain",
    "refuse",
    "strip",
    "traced_among",
]

_count = itertools.count(1).__next__  # one step of C: no two threads get the same number


class Level:
    """One call of a transformation.

    Attributes
    ----------
    number : int
        Higher than that of every level made before.
    forward : bool
        Whether arrays of this level carry tangents; else nodes.
    keep : bool
        Whether nodes keep their `Info`.
    ended : bool
        Whether the function has returned: what is left of the level then was kept by somebody.
    """

    __slots__ = ("ended", "forward", "keep", "number")

    def __init__(self, forward: bool = False, keep: bool = False) -> None:
        self.number, self.forward, self.keep, self.ended = _count(), forward, keep, False


#: Of what is not differentiated, but has to be of the same namespace as what is.
CONSTANT = Level()


class Info:
    """What a drawing of the graph says of a node: the values of its arguments, and its own."""

    __slots__ = ("operands", "value")

    def __init__(self, operands: Sequence[Any], value: Any) -> None:
        self.operands, self.value = tuple(operands), value


class Node:
    """How a value was made, for the way back.

    Attributes
    ----------
    order : int
        Higher than that of its parents.
    parents : sequence of Node
    pull : callable or None
        ``pull(g)`` gives the part of the gradient of each parent, or None; None for what is differentiated.
    name : str
        Of the operation.
    loan : bool
        Whether ``pull`` may give a view, or ``g`` itself, and not an array of its own.
    info : Info or None
    """

    __slots__ = ("info", "loan", "name", "order", "parents", "pull")

    def __init__(
        self,
        parents: Sequence[Node],
        pull: Callable[[Any], Sequence[Any]] | None,
        name: str,
        loan: bool = False,
        info: Info | None = None,
    ) -> None:
        self.order, self.parents, self.pull, self.name, self.loan, self.info = _count(), parents, pull, name, loan, info


def refuse(what: str) -> NoReturn:
    """Raise TraceError: what cannot be done, and what to write."""
    raise TraceError(
        f"{what}: write it with operators and the functions of xp = x.__array_namespace__(), "
        "or take the value out with portnn.autodiff.stop_gradient(x)"
    )


class AutodiffArray:
    """An array that is being differentiated: what a function is called with by `portnn.autodiff`.

    It has the operators and attributes of the array API standard, and ``__array_namespace__``. Assignment to a part of
    it makes a new array under the old name: views that were taken before do not follow.
    """

    __slots__ = ("level", "node", "ns", "value")

    __array_priority__ = 1000
    __array_ufunc__ = None  # so that NumPy leaves operators to this type, and refuses its ufuncs by name
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, level: Level, value: Any, node: Any, ns: Namespace) -> None:
        self.level, self.value, self.node, self.ns = level, value, node, ns

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        """That of the library."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.value.shape)

    @property
    def device(self) -> Any:
        """Where the array is; that of the library."""
        return device_of(self.value)

    @property
    def mT(self) -> Array:
        """The transposes of the matrices along the last two axes."""
        return self.ns.matrix_transpose(self)

    @property
    def T(self) -> Array:
        """The transpose of a matrix."""
        return self.ns.permute_dims(self, tuple(range(self.ndim))[::-1])

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self.ns

    def __wrapped_array__(self) -> Array:
        return plain(self)

    def __repr__(self) -> str:
        return f"AutodiffArray({self.value!r})"

    def __len__(self) -> int:
        if not self.value.shape:
            raise TypeError("a 0-d array has no length")
        return self.value.shape[0]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Array]:
        # Without it, Python would count up to an IndexError, which JAX never raises.
        return iter([self[(i, ...)] for i in range(len(self))])

    def __getitem__(self, key: Any) -> Array:
        return self.ns.getitem(self, key=plain(key))

    def __setitem__(self, key: Any, new: Any) -> None:
        if not is_array(new):
            new = self.ns.asarray(new, dtype=self.dtype, device=self.device)
        made = self.ns.setitem(self, new, key=plain(key))
        self.level, self.value, self.node = made.level, made.value, made.node

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"an array that is being differentiated has no .{name}: call a function of its namespace, such as xp.sum(x)"
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        refuse(f"{function.__module__}.{function.__name__}() cannot be differentiated")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # torch asks here for `tensor * traced` as well.
        name = _TORCH_OPERATORS.get(getattr(function, "__name__", "").strip("_"))
        if name is None or len(args) != 2 or kwargs:
            refuse(f"torch.{getattr(function, '__name__', function)}() cannot be differentiated")
        ns = next(a.ns for a in args if type(a) is AutodiffArray)
        return getattr(ns, f"operator_{name}")(*args)


def is_array(a: Any) -> bool:
    """Whether it is an array, traced or not."""
    return type(a) is AutodiffArray or bool(is_array_api_obj(a))


#: Python's operators by the names that the standard has for them.
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pow": operator.pow,
    "matmul": operator.matmul,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift,
    "bitwise_right_shift": operator.rshift,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "negative": operator.neg,
    "positive": operator.pos,
    "abs": operator.abs,
    "bitwise_invert": operator.invert,
}
_ONE_ARGUMENT = ("negative", "positive", "abs", "bitwise_invert")
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
_TORCH_OPERATORS = {
    **{name: name for name in OPERATORS if name not in _ONE_ARGUMENT},
    **{function.__name__.strip("_"): name for name, function in OPERATORS.items() if name not in _ONE_ARGUMENT},
    "div": "divide",
    "true_divide": "divide",
    "eq": "equal",
}


def _operator(name: str, reflected: bool = False) -> Callable[..., Any]:
    attribute = f"operator_{name}"
    if name in _ONE_ARGUMENT:
        return lambda a: getattr(a.ns, attribute)(a)
    if reflected:
        return lambda a, b: getattr(a.ns, attribute)(b, a)
    return lambda a, b: getattr(a.ns, attribute)(a, b)


def _of_constants(name: str, convert: Callable[..., Any]) -> Callable[..., Any]:
    def conversion(self: AutodiffArray, *args: Any, **kwargs: Any) -> Any:
        if self.level is not CONSTANT:
            refuse(f"{name}() of an array that is being differentiated would lose the derivative")
        return convert(self.value, *args, **kwargs)

    return conversion


def _as_numpy(value: Any, dtype: Any = None, copy: bool | None = None) -> Any:
    return value.__array__() if dtype is None else value.__array__(dtype)


for _name, _function in OPERATORS.items():
    _word = _function.__name__.strip("_")
    setattr(AutodiffArray, f"__{_word}__", _operator(_name))
    if _name not in (*_ONE_ARGUMENT, *_COMPARISONS):
        setattr(AutodiffArray, f"__r{_word}__", _operator(_name, reflected=True))
_CONVERSIONS: dict[str, Callable[..., Any]] = {
    "bool": bool,
    "float": float,
    "int": int,
    "complex": complex,
    "index": operator.index,
    "array": _as_numpy,
}
for _name, _function in _CONVERSIONS.items():
    setattr(AutodiffArray, f"__{_name}__", _of_constants("numpy.asarray" if _name == "array" else _name, _function))


def plain(a: Any) -> Any:
    """What is inside all wrappers, also of the parts of keys and lists: no derivative goes through it."""
    while type(a) is AutodiffArray:
        a = a.value
    return type(a)(map(plain, a)) if type(a) in (tuple, list) else a


def traced_among(args: Sequence[Any]) -> Iterator[AutodiffArray]:
    """The traced arrays among arguments, also within tuples and lists."""
    for a in args:
        if type(a) is AutodiffArray:
            yield a
        elif type(a) in (list, tuple):
            yield from traced_among(a)


def has_traced(args: Sequence[Any]) -> bool:
    """Whether an argument is traced; also within tuples and lists."""
    for a in args:  # noqa: SIM110 (half the time of any(), and asked at every step)
        if type(a) is AutodiffArray or (type(a) in (list, tuple) and has_traced(a)):
            return True
    return False


def like(y: Any, parts: Sequence[Any]) -> Any:
    """A tuple or list of the type of ``y``, which may have named fields."""
    return type(y)._make(parts) if hasattr(y, "_make") else type(y)(parts)


def lift(a: Any, ns: Namespace) -> Any:
    """Arrays as constants of a namespace; also those within tuples and lists. What is traced, or no array, stays."""
    if isinstance(a, tuple | list):
        return like(a, [lift(v, ns) for v in a])
    return AutodiffArray(CONSTANT, a, None, ns) if type(a) is not AutodiffArray and is_array_api_obj(a) else a


def strip(a: Any, level: Level | None) -> Any:
    """What is inside the wrapper of this level, or of a constant; anything else stays."""
    return a.value if type(a) is AutodiffArray and (a.level is level or a.level is CONSTANT) else a
