"""Computational graphs: each value of a formula is a node, and the chain rule goes from node to node, backwards.

    python scripts/lectures/computational_graph.py --device cpu

Forward, each node computes its value from those before it. Backward, each node is told its gradient, the derivative of
the result with respect to its value; it multiplies that with its own derivatives, and hands a part to each value that
it was computed from. A value that is used more than once adds up the parts: so x1 below, which both hidden units see.
The tables tell all numbers in the order of the backward pass. Where there is a formula for a gradient, it is computed
from that, too: behind sigmoid or softmax, cross-entropy leaves no more than prediction minus target.

The picture is that of a network with two inputs, two hidden units and one output: values in blue, gradients in orange,
and on each edge the part that goes back over it. Nothing is drawn at random here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace
from lecture import Lecture, present

from portnn._typing import Array
from portnn.autodiff import Graph, graph


def square(a: Array, x: Array, y: Array) -> Array:
    return (a * x - y) ** 2


def shop(apples: Array, apple: Array, oranges: Array, orange: Array, tax: Array) -> Array:
    """What so many apples and oranges at these prices cost with tax."""
    return (apples * apple + oranges * orange) * tax


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + array_namespace(x).exp(-x))


def cross_entropy(x: Array, y: Array) -> Array:
    """Of the prediction sigmoid(x) for the target y."""
    xp, u = array_namespace(x), sigmoid(x)
    return -(y * xp.log(u) + (1.0 - y) * xp.log(1.0 - u))


def softmax_cross_entropy(a: Array, b: Array, s: Array) -> Array:
    """Of the prediction softmax(a, b) for the target (s, 1 - s)."""
    xp = array_namespace(a)
    first, second = xp.exp(a), xp.exp(b)
    total = first + second
    return -(s * xp.log(first / total) + (1.0 - s) * xp.log(second / total))


def network(
    x1: Array, x2: Array, w11: Array, w12: Array, w21: Array, w22: Array, v1: Array, v2: Array, t: Array
) -> Array:
    """The squared error of a 2-2-1 network without biases: w21 leads from x2 to the first hidden unit."""
    xp = array_namespace(x1)
    return (xp.tanh(x1 * w11 + x2 * w21) * v1 + xp.tanh(x1 * w12 + x2 * w22) * v2 - t) ** 2


@dataclass(frozen=True)
class Example:
    """A formula at a point, and what its gradients are according to the rules of differentiation."""

    title: str
    function: Callable[..., Array]
    at: Mapping[str, float]
    by_formula: Mapping[str, tuple[str, float]]


U = 1 / (1 + math.exp(-0.7))  # sigmoid(0.7), and the first of softmax(0.3, -0.4)
H1, H2 = math.tanh(1 * 0.5 + 2 * 0.5), math.tanh(1 * 1.0 + 2 * -1.0)
DY = 2 * (H1 * 1.0 + H2 * -1.0 - 0.5)
EXAMPLES = (
    Example(
        "z = (a x - y)^2",
        square,
        {"a": 3.0, "x": 2.0, "y": 4.0},
        {"a": ("2 x (a x - y)", 8.0), "x": ("2 a (a x - y)", 12.0), "y": ("-2 (a x - y)", -4.0)},
    ),
    Example(
        "two apples and three oranges, with tax",
        shop,
        {"apples": 2.0, "apple": 100.0, "oranges": 3.0, "orange": 150.0, "tax": 1.1},
        {"apples": ("apple tax", 110.0), "orange": ("oranges tax", 3.3), "tax": ("price without tax", 650.0)},
    ),
    Example(
        "cross-entropy of u = sigmoid(x) for the target y",
        cross_entropy,
        {"x": 0.7, "y": 0.2},
        {"x": ("u - y", U - 0.2), "y": ("-x", -0.7)},
    ),
    Example(
        "cross-entropy of (u, 1 - u) = softmax(a, b) for the target (s, 1 - s)",
        softmax_cross_entropy,
        {"a": 0.3, "b": -0.4, "s": 0.2},
        {"a": ("u - s", U - 0.2), "b": ("s - u", 0.2 - U)},
    ),
    Example(
        "the squared error of a 2-2-1 network with tanh: (y - t)^2",
        network,
        {"x1": 1.0, "x2": 2.0, "w11": 0.5, "w12": 1.0, "w21": 0.5, "w22": -1.0, "v1": 1.0, "v2": -1.0, "t": 0.5},
        {
            "v1": ("2 (y - t) h1", DY * H1),
            "w21": ("2 (y - t) v1 (1 - h1^2) x2", DY * (1 - H1**2) * 2.0),
            "x1": ("sum over both hidden units", DY * ((1 - H1**2) * 0.5 - (1 - H2**2) * 1.0)),
        },
    ),
)


def graph_of(example: Example, lecture: Lecture) -> Graph:
    dtype = "float64" if lecture.backend.supports("float64") else "float32"
    return graph(example.function)(*[lecture.backend.asarray(number, dtype) for number in example.at.values()])


def main(lecture: Lecture) -> None:
    for example in EXAMPLES:
        found = graph_of(example, lecture)
        print(f"{example.title}\n{found}")
        gradients: dict[str, Any] = {node.name: node.gradient for node in found.nodes if not node.operands}
        for name, (formula, expected) in example.by_formula.items():
            difference = abs(float(lecture.backend.to_numpy(gradients[name])) - expected)
            print(f"  by {name}, from its formula {formula}: {expected:.4g}, {difference:.0e} away")
        print()
    lecture.save(found.draw())


if __name__ == "__main__":
    present(main, __doc__, __file__)
