"""Map over, flatten and rebuild trees: nested dicts and tuples whose leaves are arrays.

Parameters, layer state, gradients and optimizer state are all such trees. Nothing else is a
container: a list is a leaf. Dicts are walked in the order of their keys, which are strings, and not in that of
insertion: a library that rebuilds a tree, as JAX does, may change the latter.
"""

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from portnn._typing import Tree
from portnn.errors import ShapeError

__all__ = ["flatten", "leaves", "map", "rebuild", "unflatten"]


def map(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply ``function`` to the leaves of one tree, or of several trees of equal structure.

    Raises
    ------
    ShapeError
        If the trees differ in structure; the sentence names the first place where they do.

    Examples
    --------
    >>> map(lambda a, b: a + b, {"w": 1, "b": (2, 3)}, {"w": 10, "b": (20, 30)})
    {'b': (22, 33), 'w': 11}
    """
    if rest and not all(_same_structure(tree, other) for other in rest):
        first = next(difference for other in rest if (difference := _difference(tree, other, "")))
        raise ShapeError(f"the trees differ {first}")
    return _map(function, tree, rest)


def _map(function: Callable[..., Any], tree: Tree, rest: tuple[Tree, ...]) -> Tree:
    if isinstance(tree, dict):
        return {key: _map(function, tree[key], tuple([t[key] for t in rest])) for key in sorted(tree)}
    if isinstance(tree, tuple):
        return tuple([_map(function, value, tuple([t[i] for t in rest])) for i, value in enumerate(tree)])
    return function(tree, *rest)


def _same_structure(a: Tree, b: Tree) -> bool:
    """Whether `_difference` would find nothing: the quick look of every step."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all([_same_structure(a[key], b[key]) for key in a])
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(builtins.map(_same_structure, a, b))
    return not isinstance(b, dict | tuple)


def _difference(a: Tree, b: Tree, path: str) -> str | None:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs: Any = ((key, a[key], b[key]) for key in a)
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        pairs = ((i, x, y) for i, (x, y) in enumerate(zip(a, b, strict=True)))
    elif isinstance(a, dict | tuple) or isinstance(b, dict | tuple):
        where = f"at {path!r}" if path else "at the top"
        return f"{where}: {_describe(a)} against {_describe(b)}"
    else:
        return None
    for key, x, y in pairs:
        difference = _difference(x, y, _join(path, key))
        if difference:
            return difference
    return None


def _describe(tree: Tree) -> str:
    if isinstance(tree, dict):
        return f"a dict with keys {sorted(tree)}"
    if isinstance(tree, tuple):
        return f"a tuple of {len(tree)}"
    return f"a leaf of type {type(tree).__name__}"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def rebuild(like: Tree, values: Iterable[Any]) -> Tree:
    """A tree of the structure of ``like`` with these leaves, in the order of `leaves`.

    >>> rebuild({"w": 0, "b": (0, 0)}, [1, 2, 3])
    {'b': (1, 2), 'w': 3}
    """
    remaining = iter(values)
    return _map(lambda _: next(remaining), like, ())


def leaves(tree: Tree) -> list[Any]:
    """The leaves, in the order of dict keys and tuple positions.

    >>> leaves({"w": 1, "b": (2, 3)})
    [2, 3, 1]
    """
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Tree, found: list[Any]) -> None:
    if isinstance(tree, dict):
        for key in sorted(tree):
            _collect(tree[key], found)
    elif isinstance(tree, tuple):
        for value in tree:
            _collect(value, found)
    else:
        found.append(tree)


def flatten(tree: Tree) -> dict[str, Any]:
    """The leaves under their dotted paths.

    >>> flatten(({"w": 1, "b": 2}, {}))
    {'0.b': 2, '0.w': 1}
    """
    return dict(_walk(tree, ""))


def _walk(tree: Tree, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        items: Any = sorted(tree.items())
    elif isinstance(tree, tuple):
        items = enumerate(tree)
    else:
        yield path, tree
        return
    for key, value in items:
        yield from _walk(value, _join(path, key))


def unflatten(like: Tree, flat: Mapping[str, Any]) -> Tree:
    """The inverse of `flatten`: a tree of the structure of ``like`` with the leaves of ``flat``.

    Raises
    ------
    ShapeError
        If a path of ``like`` is not in ``flat``, or the other way round.

    Examples
    --------
    >>> unflatten(({"w": 0, "b": 0}, {}), {"0.b": 2, "0.w": 1})
    ({'b': 2, 'w': 1}, {})
    """
    expected = flatten(like)
    for paths, word in ((expected.keys() - flat.keys(), "missing"), (flat.keys() - expected.keys(), "not expected")):
        if paths:
            raise ShapeError(f"{word} in the tree: {', '.join(sorted(paths))}")
    return rebuild(like, [flat[path] for path in expected])
