"""The Makefile, with a Python that only notes what it is asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="there is no make for a shell")

PYTHON = """#!/bin/sh
echo "$@" >> "$NOTES"
case "$*" in *fast*) exit ${NUMBA:-0} ;; "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; esac
"""


@pytest.fixture
def make(tmp_path):
    """Run make: what it printed, and what Python was asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    notes = tmp_path / "notes"

    def run(*arguments, **environment):
        # The suite itself may run under make, which would then say more.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        env |= {"NOTES": str(notes)} | environment
        command = ["make", *arguments, f"VENV={tmp_path / 'venv'}"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        return done.stdout, notes.read_text(encoding="utf-8").splitlines()

    return run


def test_train_installs_numba_and_says_what_to_try_next(make):
    output, asked = make("train")
    assert len(asked) == 2
    assert asked[0].endswith("--only-binary numba,llvmlite --editable .[data,sklearn,fast]")
    assert asked[1] == "scripts/train_mnist.py --device cpu --epochs 5"
    assert "\nNOTE: there is no Numba" not in output
    *_, title, first, second = output.splitlines()
    assert title.startswith("What to try next")
    assert first.split()[1:3] == ["scripts/train_mnist.py", "--model"]
    assert second.endswith("python -m portnn")


def test_train_where_there_is_no_numba(make):
    """A platform without a wheel: nothing is compiled from source, and the rest is installed."""
    output, asked = make("train", NUMBA="1")
    assert asked[1].endswith("--editable .[data,sklearn]")
    assert asked[2].startswith("scripts/train_mnist.py")
    assert "\nNOTE: there is no Numba for this system" in output


def test_the_lowest_versions_are_tried_in_an_environment_that_is_thrown_away(make, tmp_path):
    _, asked = make("test-lowest", f"PYTHON={tmp_path / 'venv' / 'bin' / 'python'}")
    program, *_, created, install, more, tests = asked
    assert program == ".ci/lowest_versions.py"
    environment = Path(created.removeprefix("-m venv "))
    pins = f"--only-binary :all: --constraint {environment.parent / 'lowest.txt'}"
    assert install.endswith(f"{pins} --editable .[test]")
    assert more.endswith(f"{pins} numba")
    assert tests.startswith("-m pytest ")
    assert not environment.parent.exists()
    assert not (tmp_path / "venv" / ".test").exists()
