"""README.md and the pages in docs/: every Python example runs as it stands there, and what they say holds.

A page is one test: its examples build upon each other, and must not be parted between the processes of a run.
"""

import json
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest
from pages import PAGES, read
from places import ROOT

from portnn import kernels, training  # noqa: F401  (so that all that portnn registers is there)

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS[ROOT / "README.md"]
EVERYTHING = "\n".join(TEXTS.values())
DOCS = ROOT / "docs"
#: Authors of papers that have one.
ALONE = {"Dozat", "Giles", "Graves", "Huber", "Lee", "Mezzadri", "Murray", "Nesterov", "Polyak", "Townsend", "Zeiler"}
#: What is fenced, with the word behind the fence.
BLOCKS = re.findall(r"^```(\S*).*\n((?s:.*?))^```$", EVERYTHING, re.MULTILINE)
COMMANDS = "\n".join(block for language, block in BLOCKS if language == "sh")
ids = [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_examples(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    document, module = read(page), types.ModuleType("page")
    document.namespace = vars(module)
    monkeypatch.setitem(sys.modules, "page", module)
    # What a page registers is gone with it. The rooms that register have been imported.
    monkeypatch.setattr(kernels, "_registry", dict(kernels.registry))
    promised = 0
    for example in document.examples():
        example.evaluate()
        promised += "test accuracy" in example.parsed
    accuracies = re.findall(r"test accuracy ([\d.]+)%", capsys.readouterr().out)
    assert len(accuracies) == promised
    assert all(float(accuracy) > 93 for accuracy in accuracies)


def test_the_tape_is_the_one_on_the_page(monkeypatch):
    pytest.importorskip("numba")
    page = DOCS / "tape.md"
    document, module = read(page), types.ModuleType("page")
    document.namespace = vars(module)
    monkeypatch.setitem(sys.modules, "page", module)
    steps, reasons = [], []
    for example in document.examples():
        example.evaluate()
        steps += [document.namespace["instructions"]] if "instructions = " in example.parsed else []
        reasons += [document.namespace["loop"].reason] if "GaussianNoise" in example.parsed else []
    blocks = re.findall(r"^```text\n(.*?)^```$", TEXTS[page], re.MULTILINE | re.DOTALL)
    shown = {int(number): name for number, name in re.findall(r"(\d+) ([a-z_.]+(?: \d+ x \d+ x \d+)?)", blocks[0])}
    assert steps == [[shown[number] for number in sorted(shown)]]
    assert [" ".join(blocks[1].split()).endswith(f"Python: {reason}") for reason in reasons] == [True]


def test_every_block_is_known():
    """What is fenced as anything else would not be run; and there are examples."""
    assert EVERYTHING.count("```") == 2 * len(BLOCKS)
    languages = [language for language, _ in BLOCKS]
    assert set(languages) == {"python", "sh", "text", "c++", "toml", "{toctree}", "{include}"}
    assert README.count("```python\n") == 4
    assert languages.count("python") > 30
    for language, block in BLOCKS:
        assert language != "toml" or tomllib.loads(block)


def test_readme_fits_on_two_screens_and_a_half():
    assert len(README.splitlines()) <= 130


def test_links_lead_somewhere():
    """Those between files, and those to headings; Sphinx looks at pages only."""
    for page, text in TEXTS.items():
        links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL))
        for link in links:
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name} links to {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], link


def test_commands_are_there():
    """Scripts that the pages call, their options, and the targets of make."""
    programs = [path for room in ("scripts", "benchmarks") for path in (ROOT / room).glob("*.py")]
    sources = "".join(path.read_text(encoding="utf-8") for path in programs)
    commands = re.findall(r"((?:scripts|benchmarks)/[\w/]+\.py)((?: .*)?)$", COMMANDS, re.MULTILINE)
    assert len(commands) > 5
    for script, rest in commands:
        assert (ROOT / script).is_file(), script
        for option in re.findall(r"(--[\w-]+)", rest.partition("#")[0]):
            assert f'"{option}"' in sources, f"{script} {option}"
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", COMMANDS, re.MULTILINE)) <= set(targets)


LECTURES = sorted(path.stem for path in ROOT.glob("scripts/lectures/*.py") if path.stem != "lecture")


IN_ORDER = re.findall(
    r'^    "(\w+)\.py",$',
    re.search(r"^LECTURES = \[\n(.*?)^\]", (DOCS / "conf.py").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1],
    re.MULTILINE,
)


def test_every_lecture_has_its_place_in_the_gallery():
    assert sorted(IN_ORDER) == LECTURES


@pytest.mark.parametrize("name", LECTURES)
def test_a_lecture_is_a_page_and_a_program(name):
    """It has a heading, cells with headings, pictures, and what to try; as a program, it takes its arguments."""
    text = (ROOT / f"scripts/lectures/{name}.py").read_text(encoding="utf-8")
    _, title, line, *_ = text.splitlines()
    assert text.startswith('"""\n')
    assert line == "=" * len(title)
    assert text.count("\nDEVICE, SEED = asked(__doc__)\n") == 1
    headings = re.findall(r"^# (.+)\n# (-+)$", text, re.MULTILINE)
    assert all(len(words) == len(dashes) for words, dashes in headings)
    assert len(headings) > 2
    assert headings[-1][0] == "What to try"
    cells = re.split(r"^# %%\n", text, flags=re.MULTILINE)
    drawing = [cell for cell in cells if re.search(r"^(?!def ).*plt\.(subplots|figure)\(", cell, re.MULTILINE)]
    assert drawing
    assert all("show()\n" in cell for cell in drawing)


def test_there_are_lectures():
    assert len(LECTURES) >= 14


@pytest.fixture
def measured(monkeypatch):
    """The tables of what was measured, as `summarize_peers.py` writes them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from summarize_peers import tables

    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("benchmarks/peers_*.json"))]
    assert len(reports) > 5
    assert not any(report["environment"]["blas"]["pinned"] for report in reports)
    assert {report["environment"]["processor"] for report in reports} == {"AMD EPYC"}
    return tables(reports)


def test_the_figures_are_those_that_were_measured(measured):
    for table in measured:
        assert table in TEXTS[DOCS / "benchmarks.md"]


def rows(table):
    """The cells of a table in Markdown: by row, and by the heading of the column."""
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.strip().splitlines()]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def test_the_figures_of_the_readme_are_those_that_were_measured(measured):
    full = rows(measured[0])
    table = re.search(r"^\| network, batch .*?\n\n", README, re.DOTALL | re.MULTILINE)[0]
    for name, cells in rows(table).items():
        assert {**full[name], **cells} == {**full[name], "layers": cells["layers"]}


def test_the_networks_of_the_readme_have_the_layers_that_were_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from models import RECIPES

    table = re.search(r"^\| network, batch .*?\n\n", README, re.DOTALL | re.MULTILINE)[0]
    assert len(rows(table)) == 5
    for name, cells in rows(table).items():
        model = name.partition(",")[0]
        for units in RECIPES[model].hidden:
            assert str(units) in cells["layers"]


def test_the_tests_that_hold_promises_are_there():
    """Those of the table of what is promised of a run."""
    table = TEXTS[DOCS / "training.md"].partition("| What is promised | Held by |")[2].partition("\n\n")[0]
    files = re.findall(r"`((?:tests|scripts)/[\w/]+\.py)`", table)
    names = re.findall(r"`(test_\w+)`", table)
    assert len(files) > 10
    assert names
    assert all((ROOT / name).is_file() for name in files)
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    assert all(f"def {name}(" in sources for name in names)


def test_every_paper_that_a_docstring_names_is_in_the_bibliography():
    entries = re.findall(r"^- (\S+?)[, ].*?(\d{4})\.", TEXTS[DOCS / "bibliography.md"], re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("portnn/**/*.py")]
    named = r"\b([A-Z][\w-]+)((?:, [A-Z]\w+)*,? and [A-Z]\w+| et al\.)? \(?((?:19|20)\d\d)\b"
    cited = {
        (name, year) for text in sources for name, others, year in re.findall(named, text) if others or name in ALONE
    }
    assert len(cited) > 40
    assert {paper for paper in cited if paper not in entries} == set()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_columns_of_tables_have_names(page):
    """Who has a page read aloud hears them before each cell; a gallery of pictures has none."""
    heads = re.findall(r"^(\|.*\|) *\n\|[ :|-]+\| *$", TEXTS[page], re.MULTILINE)
    assert [head for head in heads if page.stem != "lectures" and "" in map(str.strip, head[1:-1].split("|"))] == []


def test_every_page_can_be_found():
    """Each is in the list of contents of one other page."""
    listed = [Path(name).stem for language, block in BLOCKS if language == "{toctree}" for name in block.split()]
    for page in PAGES[1:]:
        assert page.stem == "index" or listed.count(page.stem) == 1, page.name


def test_all_of_portnn_names_every_room():
    rooms = re.findall(r'^    "portnn\.([\w.]+)",$', (DOCS / "conf.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rooms) > 15
    for room in rooms:
        assert re.search(rf"\b{room.rpartition('.')[2]}\b", TEXTS[DOCS / "all_of_portnn.md"]), room


def test_what_is_to_be_installed_can_be_had():
    """portnn is on no index, so nothing of it can be installed by its name, its extras included."""
    pattern = re.compile(r'pip install "?portnn\b')
    places = [path for room in ("portnn", "backends", "scripts", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    for path in (*places, *PAGES):
        assert not pattern.findall(path.read_text(encoding="utf-8")), path
