"""Every program in scripts/ and benchmarks/: it tells what it takes; the rest is one sentence and exit code 2."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from places import ROOT

#: Where each program is, by what it is called here.
PLACES = {
    path.relative_to(room).as_posix(): path
    for room in (ROOT / "scripts", ROOT / "benchmarks")
    for folder in (room, room / "lectures")
    for path in folder.glob("*.py")
    if re.search(r'__name__ == "__main__"|^DEVICE, SEED = asked\(', path.read_text(encoding="utf-8"), re.MULTILINE)
}
PROGRAMS = sorted(PLACES)
#: What a program needs before anything else is looked at.
NEEDED = {"predict_mnist.py": ["--model", "none"], "summarize_peers.py": ["none"]}
COUNTS = {"batch-size", "count", "epochs", "examples", "fills", "kills", "rounds", "steps", "train-rows", "widths"}
WRITTEN = {"json", "picture", "plot", "save", "submission"}
FOLDERS = {"output", "plots"}
OF_DEVICES = {"device", "backend", "devices", "backends"}

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("pandas")


@pytest.fixture
def program(monkeypatch, capsys, tmp_path):
    """Run a program in this process: its exit code, and what it wrote on the standard streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORTNN_DATA_DIR", raising=False)

    def run(name, *arguments):
        path = PLACES[name]
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [str(path.parent), str(ROOT / "scripts"), *sys.path])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        output, errors = capsys.readouterr()
        return ended.value.code, output, errors

    return run


@pytest.fixture
def refused(program):
    def run(name, *arguments):
        code, output, errors = program(name, *NEEDED.get(name, []), *arguments)
        assert (code, output) == (2, ""), (name, arguments, code, output, errors)
        assert errors.startswith("error: "), errors
        assert errors.count("\n") == 1, errors
        return errors

    return run


def flags(program, name):
    """The options that the help of a program names."""
    code, output, errors = program(name, "--help")
    assert (code, errors) == (0, "")
    assert output.startswith(f"usage: {Path(name).name} ")
    return set(re.findall(r"^  --([a-z-]+)", output, re.MULTILINE))


def test_no_program_is_missed():
    assert len(PROGRAMS) == 41
    assert {"train_mnist.py", "import_time.py", "lectures/iris.py"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_arguments(program, refused, name):
    known = flags(program, name)
    assert "nonsense" in refused(name, "--nonsense")
    for flag in sorted(known & COUNTS):
        for value in ("0", "-1"):
            assert f"{flag.replace('-', '_')} must be a positive int, not {value}" in refused(name, f"--{flag}", value)
        assert "invalid int value: 'some'" in refused(name, f"--{flag}", "some")
    if "batch-sizes" in known and name != "gpu_check.py":  # it hands them on
        refused(name, "--batch-sizes", "0")
    if "seed" in known:
        assert "seed must be an int in 0 .. 2**" in refused(name, "--seed", "-1")
        assert "seed must be an int in 0 .. 2**" in refused(name, "--seed", str(2**64))
    for flag in sorted(known & OF_DEVICES):
        if flag == "backend":
            assert "backend must not be empty" in refused(name, "--backend", "")
        if flag == "device" and "backend" in known:  # of two
            assert "invalid choice: 'abacus'" in refused(name, "--device", "abacus")
        elif flag == "devices":
            code, _, errors = program(name, "--devices", "abacus")  # left out, and then nothing is left
            assert code == 2
            assert errors.startswith("error: abacus: unknown device 'abacus'")
        elif name not in ("predict_mnist.py", "train_titanic.py", "train_iris.py"):  # those read their files first
            extra = ["numpy"] if flag == "backends" else []
            code, _, errors = program(name, *NEEDED.get(name, []), f"--{flag}", "abacus", *extra)
            assert code == 2
            assert errors.startswith("error: unknown device 'abacus'")


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_cannot_be_written(program, refused, tmp_path, name):
    known = flags(program, name)
    (tmp_path / "file").touch()
    for flag in sorted(known & (WRITTEN | FOLDERS)):
        assert "must not be empty" in refused(name, f"--{flag}", "")
        assert "cannot be written" in refused(name, f"--{flag}", tmp_path / "file" / "below") or flag in WRITTEN
        assert "File name too long" in refused(name, f"--{flag}", tmp_path / ("x" * 300))
    for flag in sorted(known & WRITTEN):
        assert "it is there, and no ordinary file" in refused(name, f"--{flag}", tmp_path)
    for flag in sorted(known & FOLDERS):
        assert "is no folder" in refused(name, f"--{flag}", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["train_titanic.py", "train_housing.py", "train_iris.py", "train_year_prediction.py"])
def test_tables_that_are_not_there(refused, tmp_path, name):
    for folder in ("nowhere", "~/nowhere", "x" * 300):
        assert "there is no " in refused(name, "--data-dir", folder)
    for file in ("train.csv", "housing.csv", "iris.data", "YearPredictionMSD.txt"):
        (tmp_path / file).mkdir()
    assert "there is no " in refused(name, "--data-dir", tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare_backends.py", ["--backends", "numpy", "numpy"]),
        ("compare_sklearn.py", ["--mnist"]),
        ("profile_step.py", []),
        ("train_mnist.py", []),
    ],
)
def test_images_that_are_not_there(refused, tmp_path, name, arguments):
    for folder in ("nowhere", tmp_path):
        assert "no MNIST in" in refused(name, *arguments, "--data-dir", folder)


def test_a_library_that_is_not_there(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    expected = 'error: sklearn is needed, and not installed: pip install ".[sklearn]"\n'
    assert program("train_iris.py") == (2, "", expected)


def test_a_folder_in_the_place_of_a_model(program, tmp_path):
    code, _, errors = program("predict_mnist.py", "--model", tmp_path)
    assert (code, errors) == (2, f"error: {tmp_path}: there is no such model file\n")


def test_peers_without_data_are_all_left_out(program):
    code, output, errors = program("compare_peers.py", "--data-dir", "nowhere", "--peers", "portnn numpy")
    assert (code, errors.count("\n")) == (2, 1)
    assert "no MNIST in nowhere" in errors


REPORT = {
    "config": {"model": "mlp", "batch_size": None, "cold_start": False},
    "runs": {"portnn numpy": [{"epoch": 1.0, "memory": 9}], "Keras": [{"epoch": 2.0, "memory": 3}]},
}


def test_reports_are_summarized_or_refused(program, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(REPORT), encoding="utf-8")
    code, output, _ = program("summarize_peers.py", path)
    assert code == 0
    assert "| mlp, 128 | 1.00 | 0.50 |" in output
    damaged = [[], {}, 3, REPORT | {"runs": {}}]
    damaged += [REPORT | {"runs": REPORT["runs"] | {"Keras": other}} for other in ([], [{}], 7, [{"epoch": "x"}])]
    damaged += [REPORT | {"config": REPORT["config"] | {"model": other}} for other in ("huge", [], None)]
    for content in damaged:
        path.write_text(json.dumps(content), encoding="utf-8")
        code, _, errors = program("summarize_peers.py", path)
        assert (code, errors) == (
            2,
            f"error: {path} is no report of compare_peers.py --json with runs of portnn numpy\n",
        )
    for other, sentence in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        code, _, errors = program("summarize_peers.py", other)
        assert code == 2
        assert sentence in errors
