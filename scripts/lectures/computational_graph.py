"""
Computational graphs
====================

A formula is computed in small steps: a product, a sum, a logarithm. Draw each value as a node, and an arrow from each
value to those that are computed from it: that is its computational graph. On it, the chain rule becomes a walk from
node to node, backwards, and that walk is backpropagation.
"""

from lecture import asked, show

DEVICE, SEED = asked(__doc__)

# %%
# There and back
# --------------
#
# Forward, each node computes its value from those before it. Backward, each node is told its gradient, the derivative
# of the result :math:`L` by its value :math:`v`. It multiplies that with its own derivatives, and hands a part to each
# value that it was computed from. A value that is used more than once adds up the parts:
#
# .. math:: \frac{\partial L}{\partial v} = \sum_{u \text{ computed from } v}
#           \frac{\partial L}{\partial u} \frac{\partial u}{\partial v}
#
# `autodiff.graph` makes the graph of a function at a point. Printed, it tells the nodes in the order of the backward
# pass. Below each table stand gradients that were found by differentiating the formula on paper, and how far the graph
# is away from them.

from collections.abc import Callable, Mapping
from typing import Any

from portnn import get_backend
from portnn._typing import Array
from portnn.autodiff import Graph, graph

BACKEND = get_backend(DEVICE)


def compare(
    title: str, function: Callable[..., Array], at: Mapping[str, float], on_paper: Mapping[str, tuple[str, float]]
) -> Graph:
    """Print the graph of a function, and some of its gradients beside what their formulas give."""
    dtype = "float64" if BACKEND.supports("float64") else "float32"
    found = graph(function)(*[BACKEND.asarray(number, dtype) for number in at.values()])
    print(f"{title}\n{found}")
    gradients: dict[str, Any] = {node.name: node.gradient for node in found.nodes if not node.operands}
    for name, (formula, expected) in on_paper.items():
        away = abs(float(BACKEND.to_numpy(gradients[name])) - expected)
        print(f"  by {name}, from its formula {formula}: {expected:.4g}, {away:.0e} away")
    return found


def square(a: Array, x: Array, y: Array) -> Array:
    return (a * x - y) ** 2


_ = compare(
    "z = (a x - y)^2",
    square,
    at={"a": 3.0, "x": 2.0, "y": 4.0},
    on_paper={"a": ("2 x (a x - y)", 8.0), "x": ("2 a (a x - y)", 12.0), "y": ("-2 (a x - y)", -4.0)},
)

# %%
# A sum hands its gradient on as it is; a product hands it on times the *other* factor. With these two rules one can go
# shopping: what would one more apple cost, and what a tax that is one point higher?


def shop(apples: Array, apple: Array, oranges: Array, orange: Array, tax: Array) -> Array:
    return (apples * apple + oranges * orange) * tax


_ = compare(
    "two apples and three oranges, with tax",
    shop,
    at={"apples": 2.0, "apple": 100.0, "oranges": 3.0, "orange": 150.0, "tax": 1.1},
    on_paper={"apples": ("apple tax", 110.0), "orange": ("oranges tax", 3.3), "tax": ("price without tax", 650.0)},
)

# %%
# What is left of a long way
# --------------------------
#
# The cross-entropy of the prediction :math:`u = 1 / (1 + e^{-x})` for the target :math:`y` is
#
# .. math:: L = -y \log u - (1 - y) \log (1 - u), \qquad \frac{\partial L}{\partial x} = u - y.
#
# The graph has to go through a dozen nodes for what on paper is no more than prediction minus target. A library that
# knows the short formula computes both at once, which is faster, and right also where :math:`u` is rounded to 0 or 1.

import math

from array_api_compat import array_namespace


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + array_namespace(x).exp(-x))


def cross_entropy(x: Array, y: Array) -> Array:
    xp, u = array_namespace(x), sigmoid(x)
    return -(y * xp.log(u) + (1.0 - y) * xp.log(1.0 - u))


U = 1 / (1 + math.exp(-0.7))  # sigmoid(0.7), and the first of softmax(0.3, -0.4)
_ = compare(
    "cross-entropy of u = sigmoid(x) for the target y",
    cross_entropy,
    at={"x": 0.7, "y": 0.2},
    on_paper={"x": ("u - y", U - 0.2), "y": ("-x", -0.7)},
)

# %%
# With softmax it is the same, for each of the classes: prediction minus target.


def softmax_cross_entropy(a: Array, b: Array, s: Array) -> Array:
    xp = array_namespace(a)
    first, second = xp.exp(a), xp.exp(b)
    total = first + second
    return -(s * xp.log(first / total) + (1.0 - s) * xp.log(second / total))


_ = compare(
    "cross-entropy of (u, 1 - u) = softmax(a, b) for the target (s, 1 - s)",
    softmax_cross_entropy,
    at={"a": 0.3, "b": -0.4, "s": 0.2},
    on_paper={"a": ("u - s", U - 0.2), "b": ("s - u", 0.2 - U)},
)

# %%
# The graph of a network
# ----------------------
#
# A network is a formula like any other. This one has two inputs, two hidden tanh units and one output, without biases;
# :math:`w_{21}` leads from :math:`x_2` to the first hidden unit:
#
# .. math:: L = (v_1 h_1 + v_2 h_2 - t)^2, \qquad h_j = \tanh(x_1 w_{1j} + x_2 w_{2j})


def network(
    x1: Array, x2: Array, w11: Array, w12: Array, w21: Array, w22: Array, v1: Array, v2: Array, t: Array
) -> Array:
    xp = array_namespace(x1)
    return (xp.tanh(x1 * w11 + x2 * w21) * v1 + xp.tanh(x1 * w12 + x2 * w22) * v2 - t) ** 2


H1, H2 = math.tanh(1 * 0.5 + 2 * 0.5), math.tanh(1 * 1.0 + 2 * -1.0)
DY = 2 * (H1 * 1.0 + H2 * -1.0 - 0.5)
of_network = compare(
    "the squared error of a 2-2-1 network with tanh: (y - t)^2",
    network,
    at={"x1": 1.0, "x2": 2.0, "w11": 0.5, "w12": 1.0, "w21": 0.5, "w22": -1.0, "v1": 1.0, "v2": -1.0, "t": 0.5},
    on_paper={
        "v1": ("2 (y - t) h1", DY * H1),
        "w21": ("2 (y - t) v1 (1 - h1^2) x2", DY * (1 - H1**2) * 2.0),
        "x1": ("sum over both hidden units", DY * ((1 - H1**2) * 0.5 - (1 - H2**2) * 1.0)),
    },
)

# %%
# ``draw`` makes a picture of it: values in blue, gradients in orange, and on each edge the part that goes back over it.
# Both hidden units see :math:`x_1`, so its gradient is the sum of two parts.

from io import BytesIO

import matplotlib.pyplot as plt

drawing, content = of_network.draw(), BytesIO()
drawing.savefig(content, format="png", dpi=200)
axis = plt.figure(figsize=drawing.get_size_inches()).add_axes((0, 0, 1, 1))
content.seek(0)
axis.imshow(plt.imread(content), aspect="auto")
axis.set_axis_off()
show()

# %%
# What to try
# -----------
#
# - Write ``a * x - y`` as ``(-y) + x * a``. Which numbers of the first table stay?
# - Let ``shop`` buy a crate of ``apples * apples`` apples: the node ``apples`` then has two parts to add up.
# - Set ``w11`` to 3: the unit is saturated, its slope nearly 0. What is left of the gradients of ``w11`` and ``w21``?
