"""Pictures of graphs whose nodes stand in layers, by matplotlib alone, which is imported where something is drawn.

The layout is that of Sugiyama, Tagawa and Toda (1981, IEEE Trans. SMC 11, 109-125): layers, order within a layer,
places. What a graph means is not known here: nodes are lines of text, and edges have a text each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from portnn.errors import ConfigError, MissingLibraryError
from portnn.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "layered", "write"]

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top

SWEEPS = 16
#: Sizes in inches, and of letters in points; the head is that of an arrow.
LETTERS, LINE, BETWEEN_LAYERS, MARGIN, HEAD = 9.0, 0.155, 0.85, 0.12, 0.12
#: As in scripts/drawing.py: they stay apart in print and for colour-blind readers.
VALUE, GRADIENT, EDGE = "#0072B2", "#D55E00", "#808080"
#: What is written into a node, line by line.
PARTS: dict[str, dict[str, Any]] = {
    "label": {"weight": "bold"},
    "value": {"color": VALUE},
    "gradient": {"color": GRADIENT},
}


def layered(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[tuple[float, int]], list[list[Point]]]:
    """Where nodes stand, and where edges pass between them.

    Parameters
    ----------
    count : int
        The number of nodes. The order of computation is theirs: an edge leads to a higher number.
    edges : sequence of (int, int)
        From where, and to where. The same pair may come twice.

    Returns
    -------
    places : list of (float, int)
        Of each node: its place within its layer, at least 1 from the next and 0 or more, and the number of its layer.
    bends : list of lists of (float, int)
        Of each edge: its places in the layers that it passes.
    """
    # Edges between the same two nodes come apart where they pass a layer.
    lengths = [1 if edges.count(edge) == 1 else 2 for edge in edges]
    layer = [0] * count
    for (start, end), length in sorted(zip(edges, lengths, strict=True), key=lambda pair: pair[0][1]):
        layer[end] = max(layer[end], layer[start] + length)
    for node in range(count):
        if all(end != node for _, end in edges):
            uses = [layer[end] - n for (start, end), n in zip(edges, lengths, strict=True) if start == node]
            layer[node] = min(uses, default=0)
    chains: list[list[int]] = []
    short: list[tuple[int, int]] = []
    for start, end in edges:
        passed = range(layer[start] + 1, layer[end])
        chains.append([start, *range(len(layer), len(layer) + len(passed)), end])
        layer.extend(passed)
        short += pairwise(chains[-1])
    rows = [[item for item in range(len(layer)) if layer[item] == i] for i in range(max(layer, default=-1) + 1)]
    above: list[list[int]] = [[] for _ in layer]
    below: list[list[int]] = [[] for _ in layer]
    for start, end in short:
        below[start].append(end)
        above[end].append(start)
    at = _apart(_untangled(rows, above, below, short), above, below)
    leftmost = min(at, default=0.0)
    places = [(x - leftmost, row) for x, row in zip(at, layer, strict=True)]
    return places[:count], [[places[item] for item in chain[1:-1]] for chain in chains]


def _untangled(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], edges: Sequence[tuple[int, int]]
) -> list[list[int]]:
    """The rows, each in the order that lets the fewest edges cross: of those that sweeps back and forth come by."""
    at = {item: float(i) for row in rows for i, item in enumerate(row)}
    layer = {item: i for i, row in enumerate(rows) for item in row}
    between: list[list[tuple[int, int]]] = [[] for _ in rows]
    for start, end in edges:
        between[layer[start]].append((start, end))

    def crossings() -> int:
        return sum(
            (at[a] - at[c]) * (at[b] - at[d]) < 0 for some in between for (a, b), (c, d) in combinations(some, 2)
        )

    best, fewest = [list(row) for row in rows], crossings()
    for sweep in range(SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            row.sort(key=lambda item: _mean([at[other] for other in near[item]], at[item]))
            at.update({item: float(i) for i, item in enumerate(row)})
        if (found := crossings()) < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _apart(rows: Sequence[Sequence[int]], above: list[list[int]], below: list[list[int]]) -> list[float]:
    """Places near those of the neighbours, in the order of the rows and at least 1 apart."""
    at = [0.0] * len(above)
    for row in rows:
        for i, item in enumerate(row):
            at[item] = i - (len(row) - 1) / 2
    for sweep in range(4 * SWEEPS):
        for row in rows if sweep % 2 else rows[::-1]:
            wanted = [_mean([at[other] for other in (*above[item], *below[item])], at[item]) for item in row]
            for i, (item, x) in enumerate(zip(row, _rising([x - i for i, x in enumerate(wanted)]), strict=True)):
                at[item] = x + i
    return at


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _rising(numbers: Sequence[float]) -> list[float]:
    """The numbers that never fall and are nearest to these in the mean square: neighbours that do fall are pooled."""
    pools: list[list[float]] = []
    for number in numbers:
        pools.append([number])
        while len(pools) > 1 and _mean(pools[-2], 0.0) > _mean(pools[-1], 0.0):
            last = pools.pop()
            pools[-1] += last
    return [_mean(pool, 0.0) for pool in pools for _ in pool]


def draw(nodes: Sequence[Sequence[str]], edges: Sequence[tuple[int, int, str]]) -> Figure:
    """A drawing from top to bottom.

    Parameters
    ----------
    nodes : sequence of (str, str, str)
        What is written into each node: its label, its value, its gradient. An edge leads to a later node.
    edges : sequence of (int, int, str)
        From where, to where, and what is written on it.

    Returns
    -------
    matplotlib Figure
        It belongs to no window. The texts of nodes have the id ``"node 0 label"`` and so on, ``value`` and ``gradient``
        likewise; those of edges ``"edge 0"`` and so on.

    Raises
    ------
    MissingLibraryError
        Without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch
    except ImportError:
        raise MissingLibraryError("drawing needs matplotlib, which is not installed: pip install matplotlib") from None
    places, bends = layered(len(nodes), [(start, end) for start, end, _ in edges])
    figure = Figure()
    renderer = FigureCanvasAgg(figure).get_renderer()

    def text(words: str, gid: str, **style: Any) -> tuple[Any, float]:
        """A text, and its width in inches."""
        style |= {"ha": "center", "va": "center_baseline", "size": LETTERS, "zorder": 4, "parse_math": False}
        made = figure.text(0, 0, words, gid=gid, **style)
        return made, made.get_window_extent(renderer).width / figure.dpi

    lines = [
        [text(words, f"node {i} {line}", **PARTS[line]) for words, line in zip(node, PARTS, strict=True)]
        for i, node in enumerate(nodes)
    ]
    labels = [text(words, f"edge {i}", color=GRADIENT) for i, (_, _, words) in enumerate(edges)]
    widest = max([width for node in lines for _, width in node])
    half, tall = widest / 2 + 0.06, 1.5 * LINE + 0.05
    across, down = 2 * half + 0.12, 2 * tall + BETWEEN_LAYERS
    every = [*places, *[bend for some in bends for bend in some]]
    width = across * max([x for x, _ in every]) + 2 * (half + MARGIN)
    height = down * max([row for _, row in every]) + 2 * (tall + MARGIN)

    def inches(place: Point) -> Point:
        return MARGIN + half + across * place[0], height - MARGIN - tall - down * place[1]

    figure.set_size_inches(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    boxes: list[Box] = []
    for place, node in zip(places, lines, strict=True):
        x, y = inches(place)
        boxes.append((x - half, y - tall, x + half, y + tall + HEAD))
        shape = "round,pad=0,rounding_size=0.08"
        axes.add_patch(FancyBboxPatch((x - half, y - tall), 2 * half, 2 * tall, shape, fc="white", ec=EDGE, zorder=3))
        for i, (words, _) in enumerate(node):
            words.set_position((x / width, (y + (1 - i) * LINE) / height))
    routes = [
        _route(inches(places[start]), [inches(bend) for bend in some], inches(places[end]), tall)
        for (start, end, _), some in zip(edges, bends, strict=True)
    ]
    for route in routes:
        axes.plot(*zip(*route, strict=True), color=EDGE, linewidth=1.0, zorder=1)
        arrow = {"arrowstyle": "-|>", "color": EDGE, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", route[-1], route[-2], arrowprops=arrow, zorder=2)
    for i, (words, wide) in enumerate(labels):
        box = _label(i, (wide / 2 + 0.05, LINE / 2 + 0.01), routes, boxes)
        boxes.append(box)
        words.set_position(((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height))
        words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    return figure


def _route(start: Point, bends: Sequence[Point], end: Point, tall: float) -> list[Point]:
    """From the foot of one node to the head of another; past the nodes of layers between them upright."""
    passed = [(x, y + side) for x, y in bends for side in (tall, -tall)]
    return [(start[0], start[1] - tall), *passed, (end[0], end[1] + tall)]


def _label(i: int, half: Point, routes: Sequence[Sequence[Point]], boxes: Sequence[Box]) -> Box:
    """Where an edge is labelled: on no node and no other label, and on other edges as few as can be.

    First of all at a third of the edge, where it comes from: there, labels of edges that meet in a node are apart, and
    in the middle those of edges that cross coincide.
    """
    best: tuple[int, int] | None = None
    for x, y in _along(routes[i]):
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        covers = sum(_overlap(box, other) for other in boxes)
        if best is not None and covers > best[0]:
            continue
        hides = sum(_meets(line, box) for j, route in enumerate(routes) if j != i for line in pairwise(route))
        if best is None or (covers, hides) < best:
            best, place = (covers, hides), box
        if best == (0, 0):
            break
    return place


def _along(route: Sequence[Point]) -> Iterator[Point]:
    """Points of an edge, the ones for its label first."""
    lengths = [((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5 for a, b in pairwise(route)]
    for part in sorted([i / 48 for i in range(4, 45)], key=lambda part: abs(part - 1 / 3)):
        left = part * sum(lengths)
        for (a, b), length in zip(pairwise(route), lengths, strict=True):
            if left <= length:
                yield a[0] + (b[0] - a[0]) * left / length, a[1] + (b[1] - a[1]) * left / length
                break
            left -= length


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _meets(line: tuple[Point, Point], box: Box) -> bool:
    """Whether a line comes into a box: cut off what is beyond each of its sides (Liang and Barsky 1984)."""
    (x, y), (to_x, to_y) = line
    first, last = 0.0, 1.0
    for step, room in ((x - to_x, x - box[0]), (to_x - x, box[2] - x), (y - to_y, y - box[1]), (to_y - y, box[3] - y)):
        if step == 0.0:
            if room < 0.0:
                return False
        elif step < 0.0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    return first <= last


def write(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a drawing, whole or not at all, as the ending of the path says: ``.svg`` or ``.png``."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise ConfigError(f"a drawing is written as .svg or .png, not as {os.fspath(path)!r}: name such a file")
    from matplotlib import rc_context

    content = BytesIO()
    with rc_context({"svg.hashsalt": "portnn"}):  # the same graph gives the same file
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    write_atomically(path, content.getvalue())
