"""What a lecture asks and shows: as a program, and as a page of sphinx-gallery."""

import os
import re
from pathlib import Path

import pytest
from places import ROOT
from programs import script

pytestmark = pytest.mark.slow
pytest.importorskip("matplotlib")

BEGIN = f"""\"\"\"Nothing new.\"\"\"
import sys
sys.path.insert(0, {str(ROOT / "scripts/lectures")!r})
from lecture import asked, show
"""
ASK = """
DEVICE, SEED = asked(__doc__)
print(DEVICE, SEED)
import matplotlib.pyplot as plt
"""


@pytest.fixture
def lecture(tmp_path):
    """Run a lecture with these lines after its beginning: its exit code, and what it wrote."""

    def run(lines, *arguments, before=""):
        path = tmp_path / "topic.py"
        path.write_text(BEGIN + before + ASK + lines, encoding="utf-8")
        done = script(path, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    return run


def pictures(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_pictures_are_written_in_the_order_of_the_cells(lecture, tmp_path):
    cells = "plt.subplots()\nshow()\nprint('then')\nplt.subplots()\nplt.subplots()\nshow()\n"
    code, output, errors = lecture(cells, "--backend", "numpy", "--seed", "3", "--output", "here")
    assert (code, errors) == (0, "")
    places = [Path("here", f"topic{i}.png") for i in ("", "_2", "_3")]
    assert output == f"numpy 3\nwrote {places[0]}\nthen\nwrote {places[1]}\nwrote {places[2]}\n"
    assert pictures(tmp_path) == ["here/topic.png", "here/topic_2.png", "here/topic_3.png"]


@pytest.mark.parametrize(
    ("lines", "code", "sentence"),
    [
        ("from portnn.errors import ConfigError\nraise ConfigError('it is\\n wrong')\n", 2, "error: it is wrong\n"),
        (
            "import sklearn.nothing_of_this_name\n",
            2,
            'error: sklearn is needed, and not installed: pip install ".[sklearn]"\n',
        ),
        ("open('none')\n", 2, "error: none: No such file or directory\n"),
        ("raise KeyboardInterrupt\n", 130, "interrupted\n"),
    ],
)
def test_what_goes_wrong_in_a_cell_is_one_sentence(lecture, lines, code, sentence):
    assert lecture(lines) == (code, "cpu 0\n", sentence)


def test_what_nobody_expects_is_told_whole(lecture):
    code, output, errors = lecture("1 / 0\n")
    assert (code, output) == (1, "cpu 0\n")
    assert errors.startswith("Traceback")
    assert errors.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_is_full(lecture):
    full = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    code, output, errors = lecture("plt.subplots()\nshow()\n", before=full)
    assert (code, output, errors) == (2, "", "error: standard output cannot be written: No space left on device\n")


def test_on_a_page_it_takes_the_defaults_and_leaves_the_figures_to_the_page(lecture, tmp_path):
    """The arguments are those of Sphinx, and nothing may end its process."""
    page = "import types\nsys.modules['sphinx_gallery.gen_rst'] = types.ModuleType('gen_rst')\n"
    code, output, errors = lecture(
        "plt.subplots()\nshow()\nprint(plt.get_fignums())\n", "--builder", "html", before=page
    )
    assert (code, output, errors) == (0, "cpu 0\n[1]\n", "")
    assert pictures(tmp_path) == []


def test_what_is_computed_by_hand_is_what_portnn_computes(tmp_path):
    done = script("scripts/lectures/backpropagation_by_hand.py", "--backend", "numpy", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(re.search(r"^largest difference: (\S+)$", done.stdout, re.MULTILINE)[1]) < 1e-12
    done = script("scripts/lectures/one_neuron.py", "--backend", "numpy", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    by_hand, by_portnn = re.findall(r"^by (?:hand|portnn) +(w = .*)$", done.stdout, re.MULTILINE)
    assert by_hand == by_portnn


def test_a_shifted_image_has_shifted_maps(tmp_path):
    pytest.importorskip("sklearn")
    done = script("scripts/lectures/convolution.py", "--backend", "numpy", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(re.search(r"shifted images: (\S+)$", done.stdout, re.MULTILINE)[1]) < 1e-6
