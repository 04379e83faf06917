"""The pins of ``make test-lowest``: they follow pyproject.toml, which alone states the bounds."""

import tomllib

import pytest
from places import ROOT


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    import lowest_versions

    return lowest_versions


def test_every_bound_becomes_a_pin(program):
    project = {
        "name": "mine",
        "dependencies": ["numpy>=2", "array-api-compat>=1.11.2"],
        "optional-dependencies": {"gpu": ["cupy-cuda13x[ctk]>=14"], "test": ["mine[gpu]", "pytest>=9", "numpy>=2"]},
    }
    assert program.lowest(project) == ["array-api-compat==1.11.2", "cupy-cuda13x==14", "numpy==2", "pytest==9"]


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy>=2,<3", "numpy==2", "numpy>=2; python_version<'4'"])
def test_what_has_no_lowest_version_is_refused(program, requirement):
    with pytest.raises(ValueError, match=r"is no lower bound: expected name>=version"):
        program.lowest({"name": "mine", "dependencies": [requirement]})


def test_all_that_portnn_needs_has_one(program):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = program.lowest(project)
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names)  # two bounds of one package would exclude each other
    assert {one.partition(">=")[0] for one in project["dependencies"]} < set(names)
