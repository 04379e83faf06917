"""The graph of a computation at a point: every value, and every gradient as the backward pass finds it.

An edge carries its own part of a gradient, and a node the sum of the parts on the edges that leave it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portnn import tree
from portnn._typing import Array, Namespace, Tree
from portnn.autodiff import drawing
from portnn.autodiff.namespace import namespace_of
from portnn.autodiff.passes import add, reached
from portnn.autodiff.trace import CONSTANT, Node, is_array, plain, refuse, traced_among
from portnn.autodiff.tracing import TracedFunction, check_one_number
from portnn.host import as_host

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Graph", "GraphEdge", "GraphNode", "graph"]

#: How people write what is computed from two values.
_SIGNS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "pow": "^", "matmul": "@", "product": "@"}
#: Values without a name are numbered behind the first of these that no argument is numbered behind.
_LETTERS = ("v", "u", "n", "value ")


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class GraphNode:
    """A value of the computation.

    Attributes
    ----------
    name : str
        Of the argument, or of the operation that made the value.
    value : array
        Of a function with several results, such as ``linalg.eigh``, a tuple of them, and each is a node behind it.
    gradient : array
        That of the result with respect to the value: the sum of what its edges carry. Like the value.
    operands : tuple of int and str
        What the operation was given, in its order: the positions of nodes, and constants as text. Empty for arguments,
        which are the first nodes.
    """

    name: str
    value: Array
    gradient: Array
    operands: tuple[int | str, ...] = ()

    @property
    def label(self) -> str:
        """What is written into the node: its name; of an operation on two values its sign, and a constant beside it."""
        sign = _SIGNS.get(self.name)
        if sign is None:
            return self.name
        left, right = ([o for o in some if isinstance(o, str)] for some in (self.operands[:1], self.operands[1:]))
        return " ".join([*left, sign, *right])


@dataclass(frozen=True, eq=False)
class GraphEdge:
    """A value on its way into an operation, and the part of its gradient that comes back.

    Attributes
    ----------
    start, end : int
        From which node, and to which, by their positions.
    gradient : array
        Like the value; what this use of the value adds to its gradient.
    """

    start: int
    end: int
    gradient: Array


class Graph:
    """What was computed, and the gradients; made by `graph`.

    ``str(...)`` is the table of the backward pass.

    Attributes
    ----------
    nodes : tuple of GraphNode
        In the order of computation: the arguments, then each operation; the last one is the result.
    edges : tuple of GraphEdge
        In the order in which the backward pass goes over them.
    """

    def __init__(self, nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]) -> None:
        self.nodes, self.edges = tuple(nodes), tuple(edges)

    def _titles(self) -> list[str]:
        """A name for each node that no other one has: those of arguments, and numbers behind a letter."""
        arguments = [node.name for node in self.nodes if not node.operands]
        letter = next(x for x in _LETTERS if not any(re.fullmatch(rf"{x}\d+", name) for name in arguments))
        return [*arguments, *[f"{letter}{i + 1}" for i in range(len(self.nodes) - len(arguments))]]

    def __str__(self) -> str:
        titles = self._titles()
        rows = [("backward", "node", "value", "gradient", "sum of")]
        for step, i in enumerate(reversed(range(len(self.nodes))), 1):
            node = self.nodes[i]
            operands = [o if isinstance(o, str) else titles[o] for o in node.operands]
            sign = _SIGNS.get(node.name)
            made = f" {sign} ".join(operands) if sign else f"{node.name}({', '.join(operands)})"
            title = f"{titles[i]} = {made}" if operands else titles[i]
            parts = [f"{_text(e.gradient)} from {titles[e.end]}" for e in self.edges if e.start == i]
            rows.append((f"{step:8d}", title, _text(node.value), _text(node.gradient), ", ".join(parts)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{step}  {title:<{widths[1]}}  {value:>{widths[2]}}  {gradient:>{widths[3]}}  {parts}".rstrip()
            for step, title, value, gradient, parts in rows
        ]
        return "\n".join(lines)

    def dot(self) -> str:
        """The graph in the language of Graphviz (`dot -Tsvg`), which is not needed for anything else here."""
        nodes = [f"  {i} [label={_quoted(*_lines(node))}];" for i, node in enumerate(self.nodes)]
        edges = [f"  {edge.start} -> {edge.end} [label={_quoted(_text(edge.gradient))}];" for edge in self.edges]
        return "\n".join(["digraph {", "  node [shape=box, style=rounded];", *nodes, *edges, "}"])

    def draw(self) -> Figure:
        """A drawing, from the arguments at the top to the result.

        Each node says what it is, its value and its gradient, each edge its part of the gradient of the node where it
        comes from. Arrays of more than one number are told by their shapes.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        MissingLibraryError
            Without matplotlib.
        """
        edges = sorted(self.edges, key=lambda edge: (edge.start, edge.end))
        return drawing.draw([_lines(node) for node in self.nodes], [(e.start, e.end, _text(e.gradient)) for e in edges])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the drawing, whole or not at all, as ``.svg`` or ``.png``.

        Raises
        ------
        ConfigError
            For any other ending.
        MissingLibraryError
            Without matplotlib.
        OSError
            If the file cannot be written.
        """
        drawing.write(self.draw(), path)


def graph(function: Callable[..., Any]) -> Callable[..., Graph]:
    """A function that gives the graph of another one, whose value is one number, at a point.

    It is for looking at: arrays of one number each make the graph of a formula as it is drawn on paper. Larger ones
    are nodes, too, as are functions of `portnn.functional`, layers and losses.

    Parameters
    ----------
    function : callable
        ``function(*args)``, an array of one element. The nodes of the arguments have the names of its parameters; of
        trees, with the paths of the leaves.

    Returns
    -------
    callable
        Called as ``function`` is, with floating-point arrays or trees of them, gives a `Graph`. What the result does
        not depend on is not in it, except for arguments.

    Raises
    ------
    TraceError, ShapeError
        When called; as `value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> def z(a, x, y):
    ...     return (a * x - y) ** 2
    >>> found = graph(z)(np.asarray(3.0), np.asarray(2.0), np.asarray(4.0))
    >>> print(found)
    backward  node         value  gradient  sum of
           1  v3 = v2 ^ 2      4         1
           2  v2 = v1 − y      2         4  4 from v3
           3  v1 = a × x       6         4  4 from v2
           4  y                4        -4  -4 from v2
           5  x                2        12  12 from v1
           6  a                3         8  8 from v1
    """

    def graph_at(*args: Tree) -> Graph:
        traced = TracedFunction(function, args, keep=True)
        y = traced.y
        check_one_number(y, "a graph", "sum it up")
        if any(a.level is not CONSTANT for a in traced_among([*tree.leaves(args), y])):
            refuse("a graph of what is being differentiated would lose the derivative")
        ns = namespace_of(y)
        one = ns.inner.ones_like(y)
        parts: dict[tuple[Node, int], Any] = {}
        traced.pull(one, parts)
        ends = [node for node in traced.ends if node is not None]
        made = [node for node in reached(ends)[::-1] if node.pull is not None]
        # In the order in which the backward pass has added them up, so that sums are the same to the last bit.
        gradients: dict[Node, Any] = dict.fromkeys(ends, one)
        for (node, i), part in parts.items():
            parent = node.parents[i]
            gradients[parent] = add(gradients[parent], part) if parent in gradients else part

        order = {node: i for i, node in enumerate([*traced.roots, *made])}
        names = dict(zip(traced.roots, _names(function, args), strict=True))
        nodes = []
        for node in order:
            value = _shown(node.info.value if node.info is not None else None, ns)
            gradient = _shown(gradients.get(node), ns, value)
            operands = () if node in names else _operands(node, order)
            nodes.append(GraphNode(names.get(node, node.name), value, gradient, operands))
        edges = [
            GraphEdge(order[parent], order[node], _shown(parts.get((node, i)), ns, nodes[order[parent]].value))
            for node in reversed(made)
            for i, parent in enumerate(node.parents)
        ]
        return Graph(nodes, edges)

    return graph_at


def _names(function: Callable[..., Any], args: tuple[Tree, ...]) -> list[str]:
    """Of the leaves of the arguments; numbered where a function of C tells none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "x")
    names = [*names, *[f"{rest}{i}" for i in range(len(args) - len(names))]][: len(args)]
    leaves = [(name, path) for name, argument in zip(names, args, strict=True) for path in tree.flatten(argument)]
    return [f"{name}.{path}" if path else name for name, path in leaves]


def _operands(node: Node, order: dict[Node, int]) -> tuple[int | str, ...]:
    """Positions of those that are nodes, and texts of the constants among them."""
    parents, found = list(node.parents), list[int | str]()
    for operand in node.info.operands if node.info is not None else ():
        # A parent is known by its value. An equal constant array, used beside it, may be taken for it: both are equal.
        if parents and _holds(parents[0], operand):
            found.append(order[parents.pop(0)])
        elif type(operand) in (int, float):  # values of NumPy are floats, too
            found.append(f"{operand:g}")
        elif is_array(operand):
            found.append(_text(plain(operand)))
    return tuple(found) if not parents else tuple([order[parent] for parent in node.parents])


def _holds(node: Node, operand: Any) -> bool:
    return node.info is not None and plain(node.info.value) is plain(operand)


def _shown(a: Any, ns: Namespace, value: Any = None) -> Any:
    """An array of its own, or a tuple of several results; zeros like those of a value where there is none."""
    a = plain(a)
    if isinstance(value if a is None else a, tuple | list):
        found = [None] * len(value) if a is None else a
        return tuple([_shown(*both) for both in zip(found, [ns] * len(found), value or found, strict=True)])
    return ns.inner.zeros_like(value) if a is None else ns.raw.asarray(a, copy=True)


def _text(a: Any) -> str:
    """One number, to four digits, or the shape; of several results, in parentheses."""
    if isinstance(a, tuple):
        return f"({', '.join(map(_text, a))})"
    if math.prod(a.shape) != 1:
        return str(tuple(a.shape))
    ns: Namespace = namespace_of(a)
    number: Any = complex(ns.raw.reshape(a, ())) if ns.complex_dtypes[a.dtype] else as_host(a).item()
    return f"{number:.4g}"


def _lines(node: GraphNode) -> tuple[str, str, str]:
    return node.label, _text(node.value), _text(node.gradient)


def _quoted(*lines: str) -> str:
    return json.dumps("\n".join(lines), ensure_ascii=False)
