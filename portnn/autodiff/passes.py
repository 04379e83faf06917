"""The two passes through a function: forth with tangents, or forth with nodes, and then back over them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from portnn._typing import Array, Namespace
from portnn.autodiff.trace import AutodiffArray, Info, Level, Node, has_traced, lift, strip

__all__ = ["add", "forward", "reached", "reverse", "way_back"]


def reverse(
    function: Callable[..., Sequence[Any]], arguments: Sequence[Array], ns: Namespace, level: Level | None = None
) -> tuple[list[Any], Callable[..., list[Any]], list[Node], list[Node | None]]:
    """The results of a function of arrays, and the way back.

    Parameters
    ----------
    function : callable
        ``function(*arguments) -> sequence of arrays``.
    arguments : sequence of arrays
        To be differentiated.
    ns : Namespace
        Theirs.
    level : Level, optional
        By default a new one.

    Returns
    -------
    results : list of arrays
    pull : callable
        ``pull(gradients, parts=None)`` of the results, each None or an array, gives for each argument None or a pair:
        the gradient, and whether its memory may be that of something else. See `way_back` for ``parts``.
    roots : list of Node
        Of the arguments.
    ends : list of Node or None
        Of the results; None of those that do not depend on the arguments.
    """
    level = Level() if level is None else level
    nested = has_traced(arguments)
    roots = [Node((), None, "input", info=Info((), a) if level.keep else None) for a in arguments]
    made = function(*[AutodiffArray(level, a, node, ns) for a, node in zip(arguments, roots, strict=True)])
    level.ended = True
    ends = [y.node if type(y) is AutodiffArray and y.level is level else None for y in made]

    results = [lift(strip(y, level), ns) if nested else strip(y, level) for y in made]
    # Lower levels may be in what was kept, also where the arguments are not theirs.
    lifted = nested or has_traced(results)
    # All that the results were made of, in the order of the way back; found when it is first gone.
    plan: list[Node] = []

    def pull(gradients: Sequence[Any], parts: dict[tuple[Node, int], Any] | None = None) -> list[Any]:
        if not plan:
            plan.extend(reached([node for node in ends if node is not None]))
        found: dict[Node, Any] = {}
        for node, g in zip(ends, gradients, strict=True):
            if node is not None and g is not None:
                g = lift(g, ns) if lifted else strip(g, None)
                found[node] = add(found[node], g) if node in found else g
        lent = way_back(plan, found, parts)
        own = [found.get(n) for n in roots]
        return [
            None if g is None else (lift(g, ns) if nested else strip(g, None), n in lent)
            for n, g in zip(roots, own, strict=True)
        ]

    return results, pull, roots, ends


def reached(ends: Sequence[Node]) -> list[Node]:
    """What some nodes were made of, and they themselves, the latest first."""
    # An explicit stack: graphs are thousands of nodes deep.
    seen, stack = set(ends), list(ends)
    while stack:
        for parent in stack.pop().parents:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=_order, reverse=True)


def way_back(
    plan: Sequence[Node], found: dict[Node, Any], parts: dict[tuple[Node, int], Any] | None = None
) -> set[Node]:
    """Turn the gradients of the latest nodes into those of the first ones, and say whose memory may be another's.

    ``plan`` has the nodes in the order of the way back. Gradients of those on the way are let go as soon as they are
    used. If there is a dict ``parts``, it receives what each node hands to each of its parents, under ``(node, number
    of the parent)``.
    """
    lent = set(found)
    for node in plan:
        pull = node.pull
        if pull is None:
            continue
        g = found.pop(node, None)
        if g is None:
            continue
        try:
            pulled = pull(g)
        except Exception as error:
            error.add_note(f"on the way back through {node.name}, which the function has called")
            raise
        if parts is not None:
            parts.update({(node, i): part for i, part in enumerate(pulled) if part is not None})
        for parent, part in zip(node.parents, pulled, strict=True):
            if part is None:
                continue
            before = found.get(parent)
            if before is None:
                found[parent] = part
                if node.loan:
                    lent.add(parent)
            else:
                found[parent] = before + part if type(part) not in _UNLIKE_ARRAYS else add(before, part)
                lent.discard(parent)
    return lent


#: What does not simply add up with gradients that are arrays.
_UNLIKE_ARRAYS = (tuple, AutodiffArray)

_order = operator.attrgetter("order")


def add(a: Any, b: Any) -> Any:
    """The sum of two gradients; of several results, each may be None."""
    if isinstance(a, tuple):
        return tuple([q if p is None else p if q is None else add(p, q) for p, q in zip(a, b, strict=True)])
    # array-api-strict has no reflected operators for other types.
    return b + a if type(b) is AutodiffArray and type(a) is not AutodiffArray else a + b


def forward(
    function: Callable[..., Sequence[Any]], arguments: Sequence[Array], tangents: Sequence[Array], ns: Namespace
) -> tuple[list[Any], list[Any]]:
    """The results of a function of arrays, and their derivatives along tangents: None of those that have none."""
    level = Level(forward=True)
    made = function(*[AutodiffArray(level, a, t, ns) for a, t in zip(arguments, tangents, strict=True)])
    level.ended = True
    moved = [y.node if type(y) is AutodiffArray and y.level is level else None for y in made]
    return [strip(y, level) for y in made], moved
