"""The walls of the house: who may import whom, and what ``import portnn`` may load."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from places import ROOT

LIBRARIES = {"numpy", "scipy", "cupy", "torch", "jax", "numba", "array_api_strict"}
LIBRARIES |= {f"array_api_compat.{name}" for name in LIBRARIES}

CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in CONFIG["contracts"]}

#: Rooms that compute on the arrays they are given, and know no library.
ARRAY_ROOMS = [name.split(".")[1] for name in CONTRACTS["Array code imports no array library"]["source_modules"]]

#: What breaks each contract: an import, and where.
BREACHES = {
    "The framework never imports its backends": ("portnn/backend.py", "import portnn_backends.strict"),
    "Array code imports no array library": ("portnn/optim/adam.py", "import numpy.random"),
    "Losses, metrics and optimizers know no layer": ("portnn/losses.py", "from portnn.nn.affine import Affine"),
    "The house stands on its ground": ("portnn/nn/affine.py", "from portnn import training"),
    "A room of training uses only those above it": ("portnn/training/run.py", "import portnn.training.trainer"),
    "A room of automatic differentiation uses only those above it": (
        "portnn/autodiff/trace.py",
        "from portnn.autodiff.rules import RULES",
    ),
    "No circles anywhere": (
        "portnn/functional/windows.py",
        "if TYPE_CHECKING:\n    from portnn.functional import convolution",
    ),
    "A backend knows no other one": ("portnn_backends/on_jax/backend.py", "from portnn_backends import strict"),
}


def kept(folder):
    """Of every contract, whether the packages in a folder keep it."""
    pytest.importorskip("importlinter", reason="the contracts are for import-linter, which is installed by make lint")
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {name: re.search(rf"^{re.escape(name)} (KEPT|BROKEN)$", done.stdout, re.MULTILINE) for name in CONTRACTS}
    assert all(found.values()), done.stdout + done.stderr
    return {name: match[1] == "KEPT" for name, match in found.items()}, done.stdout


def test_contracts_are_kept():
    every, output = kept(ROOT)
    assert all(every.values()), output


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of both packages; in the tree itself the backends lie in a folder of another name."""
    folder = tmp_path_factory.mktemp("house")
    for source, name in (("portnn", "portnn"), ("backends", "portnn_backends")):
        shutil.copytree(ROOT / source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_that_is_broken_is_seen(house, name):
    path, line = BREACHES[name]
    whole = (house / path).read_text(encoding="utf-8")
    (house / path).write_text(f"{whole}\n{line}\n", encoding="utf-8")
    every, output = kept(house)
    (house / path).write_text(whole, encoding="utf-8")
    assert not every[name], output


def test_a_new_file_must_be_given_its_place(house):
    (house / "portnn" / "unheard_of.py").touch()
    every, output = kept(house)
    (house / "portnn" / "unheard_of.py").unlink()
    assert not every["The house stands on its ground"]
    assert "- portnn.unheard_of\n" in output
    assert all(kept(house)[0].values())


def imports(path):
    """Names of the modules that a file imports when it runs, as far as its text tells."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, past the eyes of this test"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(room):
    place = ROOT / "portnn" / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


@pytest.mark.parametrize("room", ARRAY_ROOMS)
def test_array_code_asks_for_no_namespace_by_name(room):
    """Nor through array_api_compat, whose modules are all one to the contracts, which know other packages as wholes."""
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room if (ROOT / "portnn" / room).is_dir() else f"{room}.py")
        for name in imports(path)
        if any(name == library or name.startswith(f"{library}.") for library in LIBRARIES)
    ]
    assert not broken


def test_the_wall_test_sees_what_it_forbids(tmp_path):
    (tmp_path / "room.py").write_text("def f():\n    import numpy.random\nfrom portnn import nn\n", encoding="utf-8")
    assert set(imports(tmp_path / "room.py")) == {"numpy.random", "portnn", "portnn.nn"}


def test_backends_are_named_in_backends_only():
    """No ``if backend == ...``: what differs between libraries is a method of the backend."""
    broken = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files("")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(c, ast.Constant) and c.value in LIBRARIES for c in [node.left, *node.comparators])
    ]
    assert not broken


HEAVY = ("cupy", "torch", "jax", "numba", "sklearn", "matplotlib", "scipy", "tqdm", "safetensors")


@pytest.mark.parametrize(
    "statement",
    [
        "import portnn",
        "from portnn import data, functional, gradcheck, kernels, losses, metrics, nn, optim, random, training, tree",
        "import portnn; portnn.Network(portnn.nn.Affine(2), 3)",
    ],
)
def test_importing_portnn_loads_no_library(statement):
    code = f"import sys; {statement}; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_python_m_portnn():
    done = subprocess.run([sys.executable, "-m", "portnn"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("portnn ")
    for name in ("numpy", "cupy", "torch", "jax", "strict", "BLAS"):
        assert f"\n{name}" in done.stdout


def test_python_m_portnn_and_what_it_does_not_take():
    def asked(*arguments, **options):
        command = [sys.executable, "-m", "portnn", *arguments]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)
        return done.returncode, done.stdout, done.stderr

    code, output, errors = asked("--help", stdout=subprocess.PIPE)
    assert (code, errors) == (0, "")
    assert "which backends can be used here" in output
    expected = "error: python -m portnn takes no arguments, or compile, and was given --devices\n"
    assert asked("--devices", stdout=subprocess.PIPE) == (2, "", expected)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            expected = "error: standard output cannot be written: No space left on device\n"
            assert asked(stdout=full) == (2, None, expected)
