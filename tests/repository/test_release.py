"""What makes a release says the same everywhere, and its workflows trust nobody by name alone."""

import re
import tomllib
from importlib import metadata

import pytest
from places import ROOT

import portnn

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]


def test_the_version_is_one():
    version = PROJECT["version"]
    assert re.search(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE)[1] == version
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1] == version
    assert portnn.__version__ == metadata.version("portnn")


def test_the_lowest_versions_on_the_page_are_those_of_the_project():
    page = read("docs/stability.md")
    bounds = {}
    extras = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    for requirement in [*PROJECT["dependencies"], *extras]:
        name, found, lowest = requirement.partition(">=")
        if found:
            bounds[name] = lowest
    rows = re.findall(r"^\| ([A-Za-z, -]+) \| ([\d., ]+) \|", page, re.MULTILINE)
    stated = {name: version for row in rows for name, version in zip(*(cell.split(", ") for cell in row), strict=True)}
    assert stated == {
        "Python": PROJECT["requires-python"].removeprefix(">="),
        "NumPy": f"{bounds['numpy']}.0",
        "SciPy": bounds["scipy"],
        "scikit-learn": bounds["scikit-learn"],
        "torch": bounds["torch"],
        "JAX": bounds["jax"],
        "CuPy": bounds["cupy-cuda12x"],
    }


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"docs", "nightly", "release", "tests"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_jobs_may_do_nothing_that_they_do_not_say(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, note in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", note), f"{action}: which version is it?"
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_every_target_that_people_are_told_of_is_there():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    pages = [
        read(name) for name in ("README.md", "CONTRIBUTING.md", "noxfile.py", "docs/house.md", "docs/stability.md")
    ]
    workflows = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    told = {
        name
        for text in [*pages, *workflows]
        for name in re.findall(r"(?:`|run: |    |^)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"setup", "test", "docs", "package"} <= told
    assert told <= targets
