"""``--device gpu`` where there is no usable GPU: one sentence with the cause and what to do, and exit code 2.

Each case is a process of its own: whether CUDA can be used is decided once a process.
"""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

COMMAND = [sys.executable, ROOT / "scripts" / "train_mnist.py", "--device", "gpu", "--data", "digits", "--epochs", "1"]

needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


no_driver_here = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")


def train_on_gpu(environment):
    done = subprocess.run(
        COMMAND, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_cupy_is_not_installed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('cupy', 'cupy_backends'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n",
        encoding="utf-8",
    )
    sentence = train_on_gpu({"PYTHONPATH": str(tmp_path)})
    assert sentence.startswith('error: CuPy is not installed: pip install "cupy-cuda13x[ctk]"')


def test_cupy_cannot_be_imported(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('numpy.core.multiarray failed to import')\n", encoding="utf-8")
    sentence = train_on_gpu({"PYTHONPATH": str(tmp_path)})
    assert sentence.startswith("error: CuPy is installed but cannot be imported: ImportError: numpy.core.multiarray")


@needs_cupy
@no_driver_here
def test_no_driver():
    sentence = train_on_gpu({})
    assert sentence.startswith(
        "error: CuPy is installed, but there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    )
    assert "apt install nvidia-driver" in sentence


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """A folder with a driver library that reports what the environment says."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the stub of a driver with")
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "support" / "stub_libcuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


@needs_cupy
@no_driver_here
@pytest.mark.parametrize(
    ("reports", "parts"),
    [
        (
            {"STUB_DRIVER": "11040"},
            ["the NVIDIA driver is too old: it supports CUDA 11.4", "apt install nvidia-driver"],
        ),
        (
            {"STUB_DRIVER": "99000", "STUB_INIT": "100"},
            ["there is an NVIDIA driver, but no visible GPU", "CUDA_VISIBLE"],
        ),
        ({"STUB_DRIVER": "99000", "STUB_INIT": "999"}, ["CUDA does not start (error 999)", "nvidia-smi"]),
    ],
    ids=["too old", "no device", "broken"],
)
def test_driver_that_does_not_serve(stub, reports, parts):
    sentence = train_on_gpu(stub | reports)
    for part in parts:
        assert part in sentence


@needs_cupy
@no_driver_here
def test_driver_of_the_generation_before(stub):
    """The remedy that costs least is another wheel of CuPy, not another driver."""
    from cupy.cuda import runtime

    if runtime.runtimeGetVersion() < 13000:
        pytest.skip("the installed CuPy is for CUDA 12; an older generation is not supported")
    sentence = train_on_gpu(stub | {"STUB_DRIVER": "12040"})
    assert "it supports CUDA 12.4, and the installed CuPy needs CUDA 13" in sentence
    assert "pip uninstall cupy-cuda13x and pip install cupy-cuda12x" in sentence
