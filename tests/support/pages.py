"""How the examples of README.md and of the pages in docs/ are found and run: with sybil, a namespace a page."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from lanes import STATUS
from places import ROOT
from sybil import Document, Example, Region
from sybil.parsers.markdown import PythonCodeBlockParser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Stands before a block that is not run, but compared with the source: the file, and the name of what it shows.
QUOTED = re.compile(r"<!-- source: (\S+) (\S+) -->\n\Z")


def read(page: Path) -> Document:
    """A page with its Python examples, which share a namespace, as they do for somebody who types them in."""
    return Document.parse(str(page), _examples)


def _examples(document: Document) -> Iterator[Region]:
    for region in PythonCodeBlockParser()(document):
        quoted = QUOTED.search(document.text[: region.start])
        if quoted:
            region.evaluator = functools.partial(_differs_from_source, quoted[1], quoted[2])
        elif "import cupy" in region.parsed and not STATUS["cupy"].usable:
            # The lines are the same for every library that has these functions.
            parsed, region.parsed = region.parsed, region.parsed.replace("import cupy as cp", "import numpy as cp")
            region.parsed = type(parsed)(region.parsed, parsed.offset, parsed.line_offset)
        yield region


def _differs_from_source(path: str, name: str, example: Example) -> str | None:
    """What is wrong with a quotation; None if it is the source but for comments, docstrings and types."""
    node: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        there = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        if len(there) != 1:
            return f"{path} has no {name}"
        node = there[0]
    source, quoted = plain(node), plain(*ast.parse(example.parsed).body)
    return None if source == quoted else f"{path} has for {name}:\n{source}\n\nand not:\n{quoted}"


def plain(*nodes: ast.AST) -> str:
    """Code in one layout, without comments, docstrings and types."""
    return "\n".join(ast.unparse(_Plain().visit(node)) for node in nodes)


class _Plain(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return _without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        return _without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return node
