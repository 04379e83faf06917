"""The suite runs however it is started, and it is collected on systems without what Unix has."""

import ast
import os
import subprocess
import sys

import pytest
from places import ROOT

# ---- text files


def _mode(call, place):
    given = [k.value for k in call.keywords if k.arg == "mode"] or call.args[place : place + 1]
    return given[0].value if given and isinstance(given[0], ast.Constant) else None if given else "r"


def opened_as_text(tree):
    """The calls that open text in the encoding of the system, as far as the source tells."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function, name = call.func, getattr(call.func, "id", "") or getattr(call.func, "attr", "")
        owner = getattr(getattr(function, "value", None), "id", "")
        if any(keyword.arg == "encoding" for keyword in call.keywords):
            continue
        if name in ("read_text", "write_text"):
            yield call
        elif isinstance(function, ast.Name) and name == "open" or name == "fdopen":
            if "b" not in (_mode(call, 1) or "b"):
                yield call
        elif name == "open" and owner in ("gzip", "bz2", "lzma"):
            if "t" in (_mode(call, 1) or ""):
                yield call
        elif name == "open" and owner not in ("os", "zipfile") and set(_mode(call, 0) or "b") <= set("rwxat+"):
            yield call


def test_text_is_opened_in_an_encoding():
    """That of Windows is not the one of the files."""
    folders = ("portnn", "backends", "scripts", "tests", "benchmarks", "docs", ".ci")
    broken = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in opened_as_text(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not broken


def test_the_test_of_encodings_sees_what_it_forbids():
    bad = "open(p); open(p, 'w'); p.open(); p.open('a'); p.read_text(); p.write_text(t); gzip.open(p, mode='wt')"
    good = "open(p, 'rb'); open(p, encoding=e); p.open('xb'); os.open(p, f); gzip.open(p); archive.open(n); open(p, m)"
    assert len(list(opened_as_text(ast.parse(bad)))) == 7
    assert list(opened_as_text(ast.parse(good))) == []


# ---- other systems

#: A plugin for pytest: what Windows lacks is gone, for all who ask after the large libraries are loaded.
LIKE_WINDOWS = """
import contextlib, importlib, os, signal, sys

LIBRARIES = "cupy torch jax numba sklearn pandas matplotlib.figure scipy.stats tqdm hypothesis"
for library in LIBRARIES.split():
    with contextlib.suppress(ImportError, RuntimeError):
        importlib.import_module(library)
for module in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"):
    sys.modules[module] = None
for owner, names in (
    (os, "fork forkpty register_at_fork mkfifo mknod sched_yield sched_getaffinity geteuid getegid setsid killpg nice "
         "getloadavg wait3 wait4 pread pwrite uname sysconf statvfs posix_spawn"),
    (signal, "SIGKILL SIGALRM SIGHUP SIGPIPE SIGUSR1 SIGUSR2 SIGCHLD SIGSTOP SIGCONT SIGXFSZ alarm setitimer pause "
             "pthread_kill pthread_sigmask sigwait"),
):
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
"""

EVERY_MODULE = """
import ast, importlib, pkgutil, runpy, sys
from pathlib import Path
import portnn, portnn_backends
from portnn.errors import BackendError

for package in (portnn, portnn_backends):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # a library that is not installed here
                assert error.name.partition(".")[0] in ("cupy", "cupyx", "torch", "jax", "numba", "llvmlite", "sklearn",
                                                        "array_api_strict"), error
for path in sorted([*Path("scripts").rglob("*.py"), *Path("benchmarks").rglob("*.py")]):
    if path.parent.name == "lectures" and path.stem != "lecture":  # its cells would run
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        sys.path.insert(0, str(path.parent))
        exec(compile(tree, path, "exec"), {})
    elif path.parent.name != "peers" or path.stem == "process":
        sys.path.insert(0, str(path.parent))
        runpy.run_path(str(path), run_name="imported")
print("all imported")
"""


@pytest.fixture
def like_windows(tmp_path):
    """Runs Python where the system has nothing that Windows lacks."""
    (tmp_path / "like_windows.py").write_text(LIKE_WINDOWS, encoding="utf-8")

    def run(*arguments):
        env = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.mark.slow
def test_the_suite_is_collected_like_on_windows(like_windows):
    done = like_windows("-m", "pytest", "-p", "like_windows", "-p", "no:cacheprovider", "--collect-only", "-q", "tests")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert {line.partition("::")[0] for line in collected} >= {
        "tests/training/test_logs.py",
        "tests/training/test_checkpoint.py",
    }


@pytest.mark.slow
def test_everything_is_imported_like_on_windows(like_windows):
    done = like_windows("-c", f"import like_windows\n{EVERY_MODULE}")
    assert done.stdout == "all imported\n", done.stderr


@pytest.mark.slow
def test_a_lecture_runs_like_on_windows(like_windows, tmp_path):
    pytest.importorskip("matplotlib")
    program = "scripts/lectures/hand_computed_update.py"
    run = f"import like_windows, runpy, sys\nsys.argv[:] = [{program!r}, '--output', {str(tmp_path)!r}]\n"
    path = "sys.path.insert(0, 'scripts/lectures')\n"
    done = like_windows("-c", f"{run}{path}runpy.run_path({program!r}, run_name='__main__')")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "hand_computed_update.png").is_file()


@pytest.mark.slow
def test_a_thread_waits_where_there_is_no_sched_yield(like_windows):
    pytest.importorskip("numba")
    code = """
import like_windows, threading, numpy as np
from portnn_backends.on_numpy.compile import loops
announce_and_wait = loops("threads").announce_and_wait
flags = np.zeros(32, np.int64)
other = threading.Thread(target=announce_and_wait, args=(flags, 16, 7, 16, 7, 1))
other.start()
print(announce_and_wait(flags, 0, 1, 16, 7, 10**9), flags[0])
"""
    done = like_windows("-W", "error", "-c", code)
    assert done.stdout == "True 1\n", done.stderr


# ---- other ways to start the suite


def pytest_run(*arguments, by=(), **options):
    command = [*by, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300, **options)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows lets no process ignore SIGINT for another one")
@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_the_suite_where_interrupts_are_ignored(workers):
    """As in the background of a shell, or under nohup."""
    done = pytest_run(
        *(*workers, "tests/training/test_trainer.py", "-k", "interrupt and (numpy or not [)"),
        by=["sh", "-c", "trap '' INT; exec \"$@\"", "sh"],
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


PLUGIN = """
import warnings

def pytest_configure(config):
    warnings.warn("Benchmarks are automatically disabled because xdist plugin is active.", stacklevel=1)
"""


@pytest.mark.slow
def test_the_suite_beside_a_plugin_for_benchmarks(tmp_path):
    """pytest-benchmark warns where xdist runs, and a warning is an error here: it is left out."""
    (tmp_path / "stub_benchmark.py").write_text(PLUGIN, encoding="utf-8")
    about = tmp_path / "stub_benchmark-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stub-benchmark\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[pytest11]\nbenchmark = stub_benchmark\n", encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = pytest_run("-n", "1", "tests/core/test_tree.py", env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def test_jax_leaves_the_memory_of_a_gpu_to_the_others():
    """It would take three quarters of it, in each worker."""
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
