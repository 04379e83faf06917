"""The walls of the house: who may import whom, and what ``import portnn`` may load."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = {"numpy", "scipy", "cupy", "torch", "jax", "numba", "array_api_strict"}
LIBRARIES |= {f"array_api_compat.{name}" for name in LIBRARIES}

#: Rooms that compute on the arrays they are given, and know no library.
ARRAY_ROOMS = (
    "functional",
    "nn",
    "losses.py",
    "metrics.py",
    "regularizers.py",
    "optim",
    "tree.py",
    "kernels.py",
    "twins.py",
    "registry.py",
    "status.py",
    "shapes.py",
    "checks.py",
    "scale.py",
    "gradcheck.py",
    "numerical.py",
)

#: Who must not import whom: (rooms, forbidden modules).
FORBIDDEN = [
    (ARRAY_ROOMS, LIBRARIES),
    (("",), {"portnn_backends"}),
    (("functional",), {"portnn.nn", "portnn.losses", "portnn.optim", "portnn.training", "portnn.data"}),
    (("nn",), {"portnn.losses", "portnn.optim", "portnn.training", "portnn.data"}),
    (("losses.py", "optim", "metrics.py", "regularizers.py"), {"portnn.nn", "portnn.training", "portnn.data"}),
    (("data", "random.py", "backend.py", "host.py", "tree.py", "storage.py"), {"portnn.nn", "portnn.training"}),
]

#: From the ground up: each uses only files above it in this list, imports for type checking included.
GROUND = ("errors", "_typing", "status", "registry", "host", "twins", "backend", "random", "shapes", "kernels")


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


@pytest.mark.parametrize(("rooms", "forbidden"), FORBIDDEN)
def test_walls(rooms, forbidden):
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room in rooms
        for path in files(room)
        for name in imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]
    assert not broken


def test_the_wall_test_sees_what_it_forbids(tmp_path):
    (tmp_path / "room.py").write_text("def f():\n    import numpy.random\nfrom portnn import nn\n", encoding="utf-8")
    assert set(imports(tmp_path / "room.py")) == {"numpy.random", "portnn", "portnn.nn"}


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_has_no_circles(name):
    tree = ast.parse((ROOT / "portnn" / f"{name}.py").read_text(encoding="utf-8"))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    below = {f"portnn.{other}" for other in GROUND[: GROUND.index(name)]}
    assert {module for module in used if module and module.partition(".")[0] == "portnn"} <= below


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
    expected = "error: python -m portnn takes no arguments, and was given --devices\n"
    assert asked("--devices", stdout=subprocess.PIPE) == (2, "", expected)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            expected = "error: standard output cannot be written: No space left on device\n"
            assert asked(stdout=full) == (2, None, expected)
