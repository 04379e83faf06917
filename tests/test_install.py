"""What an installation has: from a wheel, and of a checkout, by the build backend that pip calls."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

pytest.importorskip("setuptools")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder that is called portnn, in a folder of its own, as ``git clone`` makes it."""
    checkout = tmp_path_factory.mktemp("home") / "portnn"
    checkout.mkdir()
    for name in ("portnn", "backends", ".ci"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, checkout)
    return checkout


def build(checkout, hook, *options):
    """Call a hook of the build backend as an installer does: the wheel that it makes, and what it says."""
    code = f'import sys; sys.path.insert(0, ".ci"); import build_backend; print("made", build_backend.{hook}("."))'
    done = subprocess.run(
        [sys.executable, *options, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return checkout / done.stdout.splitlines()[-1].removeprefix("made "), done.stdout + done.stderr


def test_a_wheel_has_all_files_and_is_made_without_a_warning(checkout):
    wheel, told = build(checkout, "build_wheel", "-W", "error::UserWarning")
    assert "absent from the `packages` configuration" not in told
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = {"portnn": "portnn", "backends": "portnn_backends"}
    expected = {
        f"{package}/{path.relative_to(checkout / folder).as_posix()}"
        for folder, package in packages.items()
        for path in (checkout / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert "portnn_backends/on_cupy/cuda/windows.cuh" in held


def test_a_program_beside_the_checkout_imports_it(checkout):
    """Its folder is the first on the path, and there the checkout seems to be a package without a file."""
    wheel, _ = build(checkout, "build_editable")
    place = checkout.parent / "environment"
    venv.create(place, symlinks=os.name != "nt")
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # What portnn needs is taken from the environment of the tests, but for portnn itself.
    (site / "needed.pth").write_text(f"{Path(np.__file__).parent.parent}\n", encoding="utf-8")
    program = checkout.parent / "my.py"
    program.write_text(
        "import portnn, portnn_backends\nfrom portnn import Network, nn\n"
        "print(portnn.__file__, portnn_backends.__file__, Network(nn.Affine(2), 3).backend, sep='\\n')\n",
        encoding="utf-8",
    )
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(place)})) / "python"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for folder in (checkout.parent, checkout, place):
        done = subprocess.run([python, program], cwd=folder, env=env, capture_output=True, text=True, check=False)
        files = [checkout / "portnn" / "__init__.py", checkout / "backends" / "__init__.py"]
        assert done.stdout.splitlines() == [*map(str, files), "numpy:cpu"], done.stderr


def test_the_list_of_files_in_an_editable_wheel_is_right(tmp_path, monkeypatch):
    import base64
    import csv
    import hashlib

    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    import build_backend

    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("portnn-1.dist-info/RECORD", "portnn-1.dist-info/RECORD,,\n")
    build_backend._add(wheel, "more.pth", b"folder\n")
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(archive.read("portnn-1.dist-info/RECORD").decode().splitlines()))
        assert archive.read("more.pth") == b"folder\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"folder\n").digest()).decode().rstrip("=")
    assert rows == [["more.pth", f"sha256={digest}", "7"], ["portnn-1.dist-info/RECORD", "", ""]]
    assert os.listdir(tmp_path) == ["w.whl"]
