"""The drawing of the house: rooms of portnn as boxes, imports as arrows, as the code has them.

Called by ``conf.py``. A room is drawn above all that it imports; an arrow that others imply is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["ROOMS", "drawing", "imports", "levels", "reduced"]

#: What each box stands for: its name, a word on it, and its modules, files or packages of portnn.
ROOMS = {
    "estimators": ("scikit-learn's interface", ["estimators"]),
    "training": ("the rooms of a run", ["training"]),
    "autodiff": ("derivatives of any function", ["autodiff"]),
    "nn": ("layers, Network", ["nn"]),
    "losses, metrics": ("what is trained on, and measured", ["losses", "metrics"]),
    "optim": ("update rules, schedules", ["optim", "regularizers"]),
    "data": ("data sets, augmentation", ["data"]),
    "functional": ("the mathematics", ["functional"]),
    "testing": ("gradient checks, and the suite's for others", ["gradcheck", "numerical", "testing"]),
    "kernels": ("a function, its shapes, its twins", ["kernels", "shapes"]),
    "backend": (
        "what a backend is; how one is found",
        ["backend", "registry", "loop", "forward", "status", "host", "twins", "groups"],
    ),
    "random": ("counter-based streams", ["random"]),
    "door": ("how data and files come in", ["door", "reading", "storage", "scale"]),
    "tree": ("dicts and tuples of arrays", ["tree"]),
    "errors": ("sentences; checks of numbers", ["errors", "checks", "_typing", "_deprecated"]),
}

#: Faces, which import from everywhere and are imported by nobody.
FACES = {"__init__", "__main__", "ahead", "environment"}

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 200, 46, 22, 44, 12


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    """The files of a package, each with the name of its module or package directly below it."""
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).parts[0].removesuffix(".py"), path


def imports(package: Path) -> dict[str, set[str]]:
    """Which rooms each room imports; ValueError for a module that is in no room."""
    room_of = {module: room for room, (_, members) in ROOMS.items() for module in members}
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in modules(package):
        if module in FACES:
            continue
        if module not in room_of:
            raise ValueError(f"portnn.{module} is in no room of docs/house_drawing.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported(node):
                other = room_of.get(name)
                if other not in (None, room_of[module]):
                    found[room_of[module]].add(other)
    return found


def _imported(node: ast.AST) -> Iterator[str]:
    """The modules directly below portnn that a statement imports from."""
    if isinstance(node, ast.ImportFrom) and node.module == "portnn":
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("portnn."):
        yield str(node.module).split(".")[1]
    elif isinstance(node, ast.Import):
        yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("portnn."))


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """The rooms, from the ground up: each one above all that it imports. Raises CycleError where there is a circle."""
    level: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        level[room] = max((level[other] + 1 for other in graph[room]), default=0)
    return [[room for room in graph if level[room] == height] for height in range(max(level.values()) + 1)]


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that others imply."""
    reach: dict[str, set[str]] = {}
    for room in TopologicalSorter(graph).static_order():
        reach[room] = set().union(*({other} | reach[other] for other in graph[room]))
    return {
        room: {other for other in others if not any(other in reach[third] for third in others)}
        for room, others in graph.items()
    }


def drawing(package: Path) -> str:
    """The picture, as SVG, for a light ground, which the theme gives to pictures on dark pages, too."""
    graph = imports(package)
    rows = levels(graph)
    arrows = reduced(graph)
    widest = max(map(len, rows))
    total = 2 * MARGIN + widest * WIDTH + (widest - 1) * GAP_X
    places: dict[str, tuple[float, float]] = {}
    for height, row in enumerate(reversed(rows)):
        # Near what stands above it: fewer arrows cross.
        above = {room: [places[one][0] for one in places if room in arrows[one]] for room in row}
        row.sort(key=lambda room: sum(above[room]) / len(above[room]) if above[room] else total / 2)
        left = (total - len(row) * WIDTH - (len(row) - 1) * GAP_X) / 2
        for i, room in enumerate(row):
            places[room] = left + i * (WIDTH + GAP_X), MARGIN + height * (HEIGHT + GAP_Y)
    tall = 2 * MARGIN + len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y
    lines = [_arrow(places[room], places[other]) for room, others in arrows.items() for other in sorted(others)]
    boxes = [_box(room, ROOMS[room][0], *places[room]) for room in ROOMS]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:g} {tall:g}" role="img" '
            'font-family="sans-serif" text-anchor="middle">',
            "<title>The rooms of portnn, and which of them import which</title>",
            "<style>text{fill:#222}rect{fill:#eef3f8;stroke:#456}"
            "path{fill:none;stroke:#789}marker path{fill:#789}</style>",
            '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z"/></marker></defs>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _arrow(begin: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = begin[0] + WIDTH / 2, begin[1] + HEIGHT
    x2, y2 = end[0] + WIDTH / 2, end[1]
    # Into the gaps between the rows, where no box stands in the way for long.
    bend = GAP_Y * 0.8
    return f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" marker-end="url(#to)"/>'


def _box(name: str, words: str, x: float, y: float) -> str:
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{middle:g}" y="{y + 19:g}" font-size="14" font-weight="bold">{escape(name)}</text>'
        f'<text x="{middle:g}" y="{y + 36:g}" font-size="9.5">{escape(words)}</text>'
    )
