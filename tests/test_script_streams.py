"""Standard output that is full, or that nobody reads, ends a script in one sentence; standard error does not matter."""

import os
import shlex
import subprocess
import sys

import pytest
from test_scripts import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="these are the redirections of a Unix shell"),
]

TRAIN = "scripts/train_mnist.py --data digits --hidden 8 --epochs 2"
PROGRAMS = [TRAIN, "scripts/train_mnist.py --help", "benchmarks/import_time.py --rounds 1"]
FULL = "error: standard output cannot be written: No space left on device\n"


def shell(program, redirected, before="", **environment):
    command = f"{before} {shlex.quote(sys.executable)} {program} {redirected}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_full(program, unbuffered):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert shell(program, "> /dev/full", PYTHONUNBUFFERED=unbuffered) == (2, "", FULL)
    assert shell(program, "> /dev/full 2> /dev/full", PYTHONUNBUFFERED=unbuffered) == (2, "", "")
    assert shell(program, "> /dev/full 2>&-", PYTHONUNBUFFERED=unbuffered) == (2, "", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_output_that_is_closed(program):
    code, _, errors = shell(program, ">&-")
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: standard output is closed")
    assert shell(program, ">&- 2>&-") == (2, "", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_output_whose_reader_has_gone(program):
    # The reader ends at once; the script begins to write a second later.
    code, output, errors = shell(f"{program}; echo $? >&3; }} | :", "", before="exec 3>&2; {")
    assert (output, errors) == ("", "error: standard output cannot be written: Broken pipe\n2\n")


@pytest.mark.parametrize("redirected", ["2>&-", "2> /dev/full", "<&- 2>&-"])
def test_errors_that_nobody_reads(redirected):
    code, output, errors = shell(TRAIN, redirected)
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1].startswith("test accuracy ")


def test_what_is_written_elsewhere_is_whole_where_errors_are_closed(tmp_path):
    """No file that is opened takes the number of a stream that is closed."""
    assert shell(f"{TRAIN} --json {tmp_path}/r.json --log {tmp_path}/l.jsonl --optimizer sgd --lr 1e38", "2>&-")[0] == 2
    assert (tmp_path / "l.jsonl").read_bytes() == b""


def test_in_the_background_where_interrupts_are_ignored():
    code, output, errors = shell(TRAIN, "& wait $!", before="trap '' INT;")
    assert (code, errors) == (0, "")
    assert output.splitlines()[-1].startswith("test accuracy ")
    assert shell(TRAIN, "> /dev/full & wait $!", before="trap '' INT;") == (2, "", FULL)
