"""The drawing of the house shows the imports that the code has."""

import sys
from graphlib import CycleError
from xml.etree import ElementTree

import pytest
from places import ROOT


@pytest.fixture
def house(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import house_drawing

    yield house_drawing
    sys.modules.pop("house_drawing")


def test_the_picture_is_that_of_the_code(house):
    drawn = house.drawing(ROOT / "portnn")
    assert (ROOT / "docs" / "_static" / "house.svg").read_text(encoding="utf-8") == drawn, "make docs draws it anew"
    picture = ElementTree.fromstring(drawn)
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[::2] == list(house.ROOMS)
    arrows = [path for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("marker-end")]
    assert len(arrows) == sum(map(len, house.reduced(house.imports(ROOT / "portnn")).values())) > 15


def test_imports_are_found_and_rooms_stand_above_what_they_import(house, tmp_path):
    for name, text in {
        "errors": "import math",
        "tree": "from portnn.errors import PortnnError",
        "backend": "from portnn import errors, tree",
        "random": "import portnn.backend\nfrom portnn.tree import leaves",
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    graph = {room: others for room, others in house.imports(tmp_path).items() if (tmp_path / f"{room}.py").exists()}
    assert graph == {"errors": set(), "tree": {"errors"}, "backend": {"errors", "tree"}, "random": {"backend", "tree"}}
    assert house.levels(graph) == [["errors"], ["tree"], ["backend"], ["random"]]
    assert house.reduced(graph) == {"errors": set(), "tree": {"errors"}, "backend": {"tree"}, "random": {"backend"}}


def test_circles_and_modules_without_a_room_are_refused(house, tmp_path):
    with pytest.raises(CycleError):
        house.levels({"tree": {"errors"}, "errors": {"tree"}})
    (tmp_path / "attic.py").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"portnn\.attic is in no room"):
        house.imports(tmp_path)
