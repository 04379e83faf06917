"""The graph of a computation: numbers that the lectures compute by hand, how it is told, and how it is drawn."""

import itertools
import json
import math
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from array_api_compat import array_namespace
from lanes import USABLE64, open_lane
from numpy.testing import assert_allclose, assert_array_equal
from places import ROOT
from programs import script

from portnn import functional
from portnn.autodiff import drawing, grad, graph, stop_gradient
from portnn.errors import ConfigError, MissingLibraryError, ShapeError, TraceError


def square(a, x, y):
    return (a * x - y) ** 2


def shop(apples, apple, oranges, orange, tax):
    return (apples * apple + oranges * orange) * tax


def sigmoid_cross_entropy(x, y):
    xp = array_namespace(x)
    u = 1.0 / (1.0 + xp.exp(-x))
    return -(y * xp.log(u) + (1.0 - y) * xp.log(1.0 - u))


def softmax_cross_entropy(a, b, s):
    xp = array_namespace(a)
    first, second = xp.exp(a), xp.exp(b)
    total = first + second
    return -(s * xp.log(first / total) + (1 - s) * xp.log(second / total))


def network(x1, x2, w11, w12, w21, w22, v1, v2, t):
    xp = array_namespace(x1)
    h1, h2 = xp.tanh(x1 * w11 + x2 * w21), xp.tanh(x1 * w12 + x2 * w22)
    return (h1 * v1 + h2 * v2 - t) ** 2


def shared(x, y):
    """Values that are used up to three times, two of them by the same operation."""
    xp = array_namespace(x)
    s = x * y
    return xp.sin(s) * s + s * s - x / y


def wide(a, b, c, d, e, f):
    """Every argument meets every other one."""
    every = (a, b, c, d, e, f)
    total = a
    for first, second in itertools.combinations(every, 2):
        total = total + first * second
    return total


def loop(x):
    for _ in range(12):
        x = 1.01 * x - x * x * 0.001
    return x


#: Of sigmoid(0.7) for 0.2: log(1 + e^x) - y x.
CROSS_ENTROPY = math.log1p(math.exp(0.7)) - 0.2 * 0.7
#: function, its arguments, its value, its gradients
KNOWN = {
    "square": (square, (3.0, 2.0, 4.0), 4.0, (8.0, 12.0, -4.0)),
    "shop": (shop, (2.0, 100.0, 3.0, 150.0, 1.1), 715.0, (110.0, 2.2, 165.0, 3.3, 650.0)),
    "sigmoid": (sigmoid_cross_entropy, (0.7, 0.2), CROSS_ENTROPY, (0.468187772168166, -0.7)),
    # softmax(a, b) is sigmoid(a - b) and the rest; by s, the loss is -s log(u / (1 - u)) and what has no s
    "softmax": (
        softmax_cross_entropy,
        (0.3, -0.4, 0.2),
        CROSS_ENTROPY,
        (0.468187772168166, -0.468187772168166, -0.7),
    ),
}
EXAMPLES = {name: known[:2] for name, known in KNOWN.items()} | {
    "network": (network, (1.0, 2.0, 0.5, 1.0, 0.5, -1.0, 1.0, -1.0, 0.5)),
    "shared": (shared, (0.7, -1.3)),
    "cube": (lambda x: x * x * x, (2.0,)),
    "wide": (wide, (1.5, -2.25, 3.125, 1e-5, -123456.0, 0.1)),
    "loop": (loop, (0.5,)),
    "alone": (lambda x: x, (1.0,)),
}


@pytest.fixture(params=USABLE64)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def at(backend, numbers, dtype="float64"):
    return [backend.asarray(np.asarray(number), dtype) for number in numbers]


@pytest.fixture
def made():
    return {name: graph(function)(*map(np.asarray, numbers)) for name, (function, numbers) in EXAMPLES.items()}


@pytest.mark.parametrize("name", KNOWN)
def test_numbers_of_the_lectures(lane, name):
    function, numbers, value, gradients = KNOWN[name]
    arguments = at(lane, numbers)
    found = graph(function)(*arguments)
    assert_allclose(lane.to_numpy(found.nodes[-1].value), value, rtol=1e-14)
    assert lane.to_numpy(found.nodes[-1].gradient) == 1.0
    for node, argument, gradient in zip(found.nodes, arguments, gradients, strict=False):
        assert_array_equal(lane.to_numpy(node.value), lane.to_numpy(argument))
        assert_allclose(lane.to_numpy(node.gradient), gradient, rtol=2e-14)


@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_are_those_of_grad_to_the_last_bit(backend, name):
    function, numbers = EXAMPLES[name]
    arguments = at(backend, numbers, "float32")
    found = graph(function)(*arguments)
    for node, gradient in zip(found.nodes, grad(function, tuple(range(len(numbers))))(*arguments), strict=False):
        assert type(node.gradient) is type(node.value)
        assert_array_equal(backend.to_numpy(node.gradient), backend.to_numpy(gradient))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_node_has_the_sum_of_the_parts_on_its_edges(backend, name):
    function, numbers = EXAMPLES[name]
    found = graph(function)(*at(backend, numbers, "float32"))
    for i, node in enumerate(found.nodes[:-1]):
        parts = [backend.to_numpy(edge.gradient) for edge in found.edges if edge.start == i]
        assert parts
        # In the order of the backward pass, in the precision of the arrays.
        assert_allclose(backend.to_numpy(node.gradient), sum(parts), rtol=2e-6)
    assert not [edge for edge in found.edges if edge.start == len(found.nodes) - 1]


def test_a_network_number_by_number():
    """2-2-1; x1 = 1, x2 = 2. The first hidden unit sees 1.5, the second -1."""
    function, numbers = EXAMPLES["network"]
    found = graph(function)(*map(np.asarray, numbers))
    h1, h2 = math.tanh(1.5), math.tanh(-1.0)
    out = h1 - h2 - 0.5
    g = 2 * out
    a1, a2 = g * (1 - h1**2), -g * (1 - h2**2)
    names = ["x1", "x2", "w11", "w12", "w21", "w22", "v1", "v2", "t"]
    names += ["multiply", "multiply", "add", "tanh", "multiply", "multiply", "add", "tanh"]
    names += ["multiply", "multiply", "add", "subtract", "pow"]
    assert len(names) == 22
    assert len(found.edges) == 23
    # Python computes both hidden units before it multiplies them by v1 and v2.
    assert [node.name for node in found.nodes] == names
    values = [*numbers, 0.5, 1.0, 1.5, h1, 1.0, -2.0, -1.0, h2, h1, -h2, h1 - h2, out, out**2]
    assert_allclose([node.value for node in found.nodes], values, rtol=1e-15)
    inputs = [0.5 * a1 + a2, 0.5 * a1 - a2, a1, a2, 2 * a1, 2 * a2, g * h1, g * h2, -g]
    gradients = [*inputs, a1, a1, a1, g, a2, a2, a2, -g, g, g, g, g, 1.0]
    assert_allclose([node.gradient for node in found.nodes], gradients, rtol=1e-14)
    parts = {
        (0, 9): 0.5 * a1,
        (2, 9): a1,
        (1, 10): 0.5 * a1,
        (4, 10): 2 * a1,
        (9, 11): a1,
        (10, 11): a1,
        (11, 12): a1,
        (0, 13): a2,
        (3, 13): a2,
        (1, 14): -a2,
        (5, 14): 2 * a2,
        (13, 15): a2,
        (14, 15): a2,
        (15, 16): a2,
        (12, 17): g,
        (6, 17): g * h1,
        (16, 18): -g,
        (7, 18): g * h2,
        (17, 19): g,
        (18, 19): g,
        (19, 20): g,
        (8, 20): -g,
        (20, 21): g,
    }
    assert {(edge.start, edge.end) for edge in found.edges} == set(parts)
    for edge in found.edges:
        assert_allclose(edge.gradient, parts[edge.start, edge.end], rtol=1e-14)


def test_edges_stand_in_the_order_of_the_backward_pass(made):
    for found in made.values():
        ends = [edge.end for edge in found.edges]
        assert ends == sorted(ends, reverse=True)
        assert all(edge.start < edge.end for edge in found.edges)


def test_labels_tell_constants():
    def f(x, y):
        xp = array_namespace(x)
        # NumPy's floats are Python's, too: a constant, beside values that are none.
        return (2 * x - 1.5) ** 3 / y + xp.exp(x + 10) * np.float64(0.25) - stop_gradient(y)

    found = graph(f)(np.asarray(1.0), np.asarray(2.0))
    labels = ["x", "y", "2 ×", "− 1.5", "^ 3", "÷", "+ 10", "exp", "× 0.25", "+", "− 2"]
    assert [node.label for node in found.nodes] == labels
    assert found.nodes[2].operands == ("2", 0)
    assert found.nodes[5].operands == (4, 1)


def test_names_of_arguments():
    def f(w, /, *rest):
        return sum(rest, w["b"] * w["a"][0])

    one = np.asarray(1.0)
    found = graph(f)({"b": one, "a": (one,)}, one, one)
    assert [node.name for node in found.nodes[:4]] == ["w.a.0", "w.b", "rest0", "rest1"]
    found = graph(lambda x, unused: x * 2.0)(one, one)
    assert [(node.name, node.gradient) for node in found.nodes[:2]] == [("x", 2.0), ("unused", 0.0)]


def test_larger_arrays_and_functions_of_the_library(backend):
    def f(x, w):
        xp = array_namespace(x)
        return xp.sum(functional.sigmoid(x @ w)[0] ** 2)

    x, w = backend.asarray(np.ones((4, 3)), "float32"), backend.asarray(np.ones((3, 2)), "float32")
    found = graph(f)(x, w)
    labels = [node.label for node in found.nodes]
    assert labels == ["x", "w", "@", "sigmoid", "^ 2", "sum"]
    assert [tuple(node.gradient.shape) for node in found.nodes] == [(4, 3), (3, 2), (4, 2), (4, 2), (4, 2), ()]
    assert re.search(r"^ +5  w +\(3, 2\) +\(3, 2\)  \(3, 2\) from v1$", str(found), re.MULTILINE)
    assert_array_equal(backend.to_numpy(found.nodes[1].gradient), backend.to_numpy(grad(f, 1)(x, w)))


def test_one_of_several_results():
    def f(a):
        xp = array_namespace(a)
        values, vectors = xp.linalg.eigh(a)
        return xp.sum(values * values) + vectors[0, 0] * 0.0

    a = np.asarray([[2.0, 1.0], [1.0, 3.0]])
    found = graph(f)(a)
    assert_allclose(found.nodes[0].gradient, 2 * a, rtol=1e-13)
    nodes = {node.name: node for node in found.nodes}
    both = nodes["linalg.eigh"]
    assert [part.shape for part in both.value] == [part.shape for part in both.gradient] == [(2,), (2, 2)]
    assert_array_equal(both.gradient[0], nodes["linalg.eigh[0]"].gradient)
    assert nodes["linalg.eigh[1]"].operands == (1,)
    assert re.search(r"linalg\.eigh\(a\) +(\(\(2,\), \(2, 2\)\)  ){2}\(\(2,\), \(2, 2\)\) from v3, ", str(found))


def test_complex_numbers_are_told():
    found = graph(lambda z: array_namespace(z).abs(z * 2.0))(np.asarray(3.0 + 4.0j))
    assert "6+8j" in str(found)
    assert_allclose(found.nodes[0].gradient, 1.2 + 1.6j)


def test_a_graph_of_a_gradient():
    """The derivative of x^3 at 2, and of that, 12, once more."""
    found = graph(grad(lambda x: x**3))(np.asarray(2.0))
    assert (found.nodes[-1].value, found.nodes[0].gradient) == (12.0, 12.0)


def test_a_result_that_depends_on_nothing_leaves_the_arguments():
    pytest.importorskip("matplotlib")
    found = graph(lambda x: stop_gradient(x) * 2.0)(np.asarray(3.0))
    assert [(node.name, node.value, node.gradient) for node in found.nodes] == [("x", 3.0, 0.0)]
    assert found.edges == ()
    assert found.draw()


def test_what_is_no_number():
    with pytest.raises(ShapeError, match=r"a graph is that of one number; the value has shape \(2,\): sum it up"):
        graph(lambda x: x)(np.ones(2))
    with pytest.raises(ShapeError, match="the value has the type tuple"):
        graph(lambda x: (x, x))(np.asarray(1.0))
    with pytest.raises(TraceError, match="not to a float"):
        graph(square)(3.0, 2.0, 4.0)


def test_a_graph_within_a_derivative():
    def slope(x):
        return graph(lambda y: y * x)(np.asarray(2.0)).nodes[0].gradient

    with pytest.raises(TraceError, match="a graph of what is being differentiated would lose the derivative"):
        grad(lambda x: x * graph(lambda y: y**2)(x).nodes[0].gradient)(np.asarray(3.0))
    with pytest.raises(TraceError, match="would lose the derivative"):
        grad(slope)(np.asarray(3.0))
    assert grad(lambda x: x * graph(lambda y: y**2)(stop_gradient(x)).nodes[0].gradient)(np.asarray(3.0)) == 6.0


def test_the_table():
    found = graph(network)(*map(np.asarray, EXAMPLES["network"][1]))
    lines = str(found).splitlines()
    assert lines[0].split() == ["backward", "node", "value", "gradient", "sum", "of"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, 23))
    # v1 and v2 are weights: what has no name is numbered behind another letter.
    assert lines[2].split("  ")[-1] == "2.333 from u13"
    assert re.fullmatch(r" +22  x1 +1 +-0.7692  -0.98 from u5, 0.2108 from u1", lines[-1])


def test_the_table_on_the_page(made):
    blocks = re.findall(
        r"^```text\n(.*?)^```$", (ROOT / "docs/autodiff.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert f"{made['shop']}\n" in blocks


@pytest.mark.slow
def test_the_lecture(tmp_path):
    """What formulas give for its examples, and what the graph does."""
    pytest.importorskip("matplotlib")
    done = script("scripts/lectures/computational_graph.py", "--backend", "numpy", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    away = [float(number) for number in re.findall(r"^  by .*, (\S+) away$", done.stdout, re.MULTILINE)]
    assert len(away) == 13
    assert max(away) < 1e-12
    assert f"{graph(square)(*map(np.asarray, EXAMPLES['square'][1]))}\n" in done.stdout
    assert (tmp_path / "computational_graph.png").read_bytes().startswith(b"\x89PNG")


def test_dot(made):
    for found in made.values():
        text = found.dot()
        nodes = dict(re.findall(r"^  (\d+) \[label=(\".*\")\];$", text, re.MULTILINE))
        assert {int(i): json.loads(label).split("\n")[0] for i, label in nodes.items()} == {
            i: node.label for i, node in enumerate(found.nodes)
        }
        edges = re.findall(r"^  (\d+) -> (\d+) \[label=\"(.*)\"\];$", text, re.MULTILINE)
        assert [(int(start), int(end)) for start, end, _ in edges] == [(edge.start, edge.end) for edge in found.edges]
        assert [float(label) for *_, label in edges] == [float(f"{e.gradient:.4g}") for e in found.edges]
        assert len(text.splitlines()) == len(found.nodes) + len(found.edges) + 3


def crossing(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def parts_of(figure):
    """What a drawing has: boxes of all texts by their ids, of nodes, and the lines of edges, all in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patches import FancyBboxPatch

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = {text.get_gid(): text.get_window_extent(canvas.get_renderer()).extents for text in figure.texts}
    axes = figure.axes[0]
    nodes = [patch.get_window_extent().extents for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    lines = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    return texts, nodes, lines


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_in_a_drawing_covers_anything_else(made, name):
    pytest.importorskip("matplotlib")
    found = made[name]
    figure = found.draw()
    texts, nodes, lines = parts_of(figure)
    assert len(texts) == 3 * len(found.nodes) + len(found.edges)
    assert (len(nodes), len(lines)) == (len(found.nodes), len(found.edges))
    for (one, a), (other, b) in itertools.combinations(texts.items(), 2):
        assert not crossing(a, b), (one, other)
    for a, b in itertools.combinations(nodes, 2):
        assert not crossing(a, b)
    width, height = figure.get_size_inches() * figure.dpi
    for key, box in texts.items():
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= width
        assert box[3] <= height
        inside = [i for i, node in enumerate(nodes) if crossing(box, node)]
        assert inside == ([int(key.split()[1])] if key.startswith("node") else []), key
    for (start, end), line in zip(sorted((e.start, e.end) for e in found.edges), lines, strict=True):
        through = np.concatenate([np.linspace(a, b, 200)[1:-1] for a, b in itertools.pairwise(line)])
        for i, (left, bottom, right, top) in enumerate(nodes):
            x, y = through.T
            assert not np.any((left < x) & (x < right) & (bottom + 1 < y) & (y < top - 1)), (start, end, i)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_label_stands_on_its_edge(made, name):
    pytest.importorskip("matplotlib")
    texts, _, lines = parts_of(made[name].draw())
    for i, line in enumerate(lines):
        left, bottom, right, top = texts[f"edge {i}"]
        middle = np.asarray([(left + right) / 2, (bottom + top) / 2])
        through = np.concatenate([np.linspace(a, b, 400) for a, b in itertools.pairwise(line)])
        assert np.min(np.linalg.norm(through - middle, axis=1)) < 3.0


def test_layers():
    """Down with every edge; an argument stands above its first use; an edge bends in each layer that it passes."""
    edges = [(0, 2), (1, 2), (2, 4), (3, 4), (0, 5), (4, 5), (5, 6), (5, 6)]
    places, bends = drawing.layered(7, edges)
    assert [row for _, row in places] == [0, 0, 1, 1, 2, 3, 5]
    assert [[row for _, row in some] for some in bends] == [[], [], [], [], [1, 2], [], [4], [4]]
    assert bends[6] != bends[7]
    every = [*places, *[bend for some in bends for bend in some]]
    for (x, row), (other, other_row) in itertools.combinations(every, 2):
        assert row != other_row or abs(x - other) >= 1 - 1e-9
    assert min(x for x, _ in every) == 0.0


def test_what_can_be_untangled_is():
    """Three pairs that are numbered so that each edge crosses each other one."""
    places, _ = drawing.layered(6, [(0, 5), (1, 4), (2, 3)])
    assert [x for x, _ in places[:3]] == [x for x, _ in places[:2:-1]]


def test_files(made, tmp_path):
    pytest.importorskip("matplotlib")
    found = made["network"]
    for name in ("a.svg", "b.svg", "a.png"):
        found.save(tmp_path / name)
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    ids = {element.get("id") for element in root.iter()}
    assert {f"edge {i}" for i in range(23)} | {f"node {i} value" for i in range(22)} <= ids
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"a drawing is written as \.svg or \.png, not as 'a\.pdf'"):
        found.save("a.pdf")


def test_without_matplotlib(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingLibraryError, match="pip install matplotlib"):
        made["square"].draw()
    assert "digraph" in made["square"].dot()


def test_a_graph_keeps_its_numbers():
    x = np.asarray(2.0)
    found = graph(lambda x: x * 3.0)(x)
    x[...] = 5.0
    assert [(node.name, node.value, node.gradient, node.operands) for node in found.nodes] == [
        ("x", 2.0, 3.0, ()),
        ("multiply", 6.0, 1.0, (0, "3")),
    ]
    assert [(edge.start, edge.end, edge.gradient) for edge in found.edges] == [(0, 1, 3.0)]
