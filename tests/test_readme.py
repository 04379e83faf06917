"""Every Python example of the README runs as it stands there."""

import json
import re
import sys
from pathlib import Path

import pytest
from lanes import STATUS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.splitlines()[0])
def test_example(code, tmp_path, monkeypatch, capsys):
    if "import cupy" in code and not STATUS["cupy"].usable:
        # The lines are the same for every library that has these three functions.
        code = code.replace("import cupy as cp", "import numpy as cp")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "readme", sys.modules[__name__])
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    if "test accuracy" in code:
        accuracy = float(re.search(r"test accuracy ([\d.]+)%", capsys.readouterr().out).group(1))
        assert accuracy > 93


LECTURES = sorted(path.stem for path in ROOT.glob("scripts/lectures/*.py") if path.stem != "lecture")


@pytest.mark.parametrize("name", LECTURES)
def test_every_lecture_is_linked_with_its_picture(name):
    assert f"(docs/lectures/{name}.png)](scripts/lectures/{name}.py)" in README
    assert (ROOT / f"docs/lectures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_there_are_lectures():
    assert len(LECTURES) >= 14


def test_there_are_examples():
    assert len(EXAMPLES) == 6


def test_the_figures_are_those_that_were_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from summarize_peers import tables

    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("benchmarks/peers_*.json"))]
    assert len(reports) > 5
    assert not any(report["environment"]["blas"]["pinned"] for report in reports)
    for table in tables(reports):
        assert table in README


def test_the_tests_that_hold_promises_are_there():
    """Those of the table under "Nothing lost"."""
    table = README.partition("| What is promised | Held by |")[2].partition("\n\n")[0]
    files = re.findall(r"`((?:tests|scripts)/\w+\.py)`", table)
    names = re.findall(r"`(test_\w+)`", table)
    assert len(files) > 10
    assert names
    assert all((ROOT / name).is_file() for name in files)
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py"))
    assert all(f"def {name}(" in sources for name in names)


def test_what_is_to_be_installed_can_be_had():
    """portnn is on no index, so nothing of it can be installed by its name, its extras included."""
    pattern = re.compile(r'pip install "?portnn\b')
    places = [path for room in ("portnn", "backends", "scripts") for path in (ROOT / room).rglob("*.py")]
    for path in (*places, ROOT / "README.md"):
        assert not pattern.findall(path.read_text()), path
