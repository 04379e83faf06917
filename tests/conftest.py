import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# Most of the time of the tests on JAX is compiling. What is compiled is kept between runs, and shared by workers.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# scikit-learn dispatches on arrays of other libraries only where SciPy was told to before it was imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# JAX would take three quarters of a GPU's memory, in each worker.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# In the background of a shell, and under nohup, Ctrl-C is ignored, and so it would be in every child: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

from lanes import USABLE, USABLE64, open_lane

from portnn.backend import Backend

#: Needs CuPy to be imported; those that use it ask for that first.
collect_ignore = ["support/cupy_on_host/recorded.py", "support/recorded_runs.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Images and whole runs on JAX are slow: without its cache, XLA compiles seconds for each of these tests.

    And a whole suite more on emulated threads; `test_cupy_on_host` has what is run always.
    """
    for item in items:
        name = item.name.lower()
        if "cupy-on-host" in name:
            item.add_marker("slow")
        if "jax" in name and any(
            word in name for word in ("conv", "pool2d", "residual", "slabs", "resume", "skip", "iterable", "chunks")
        ):
            item.add_marker("slow")


@pytest.fixture(params=USABLE)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every usable backend in turn; see `lanes`."""
    with open_lane(request.param) as lane:
        yield lane


@pytest.fixture(params=USABLE64)
def backend64(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every usable backend that has float64."""
    with open_lane(request.param) as lane:
        yield lane


PAIRS = [(name, "float32") for name in USABLE] + [(name, "float64") for name in USABLE64]


@pytest.fixture(params=PAIRS, ids="-".join)
def typed(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, str]]:
    """Every usable backend with every dtype that it has: ``backend, dtype = typed``."""
    name, dtype = request.param
    with open_lane(name) as lane:
        yield lane, dtype
