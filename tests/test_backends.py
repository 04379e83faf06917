"""Finding backends, and what they do with arrays."""

import importlib.metadata

import numpy as np
import pytest
from lanes import NAMES, STATUS, library_of, open_lane

import portnn.backend
from portnn import available_backends, backend_of, get_backend
from portnn.backend import Backend, Status
from portnn.environment import backend_table, blas, describe
from portnn.errors import BackendError


@pytest.mark.parametrize("library", sorted({library_of(name) for name in NAMES}))
def test_the_suite_runs_over(library):
    """Skipped once for each library that the whole suite leaves out, with the reason."""
    if not STATUS[library].usable:
        assert len(STATUS[library].message) > 20
        pytest.skip(STATUS[library].message)
    assert STATUS[library].version


def test_names():
    assert set(available_backends()) >= {"numpy", "cupy", "torch", "jax", "strict"}
    assert str(get_backend("cpu")) == str(get_backend("numpy")) == str(get_backend("numpy:cpu")) == "numpy:cpu"
    assert get_backend() == get_backend("cpu")
    assert get_backend("strict") == get_backend("strict:device1") != get_backend("strict:device2")
    backend = get_backend("cpu")
    assert get_backend(backend) is backend


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("tpu", r"unknown device 'tpu'; known are .*cpu.*gpu.*torch"),
        ("", "unknown device ''"),
        ("cpu:1", "NumPy has one device, cpu; there is no '1'"),
        ("strict:device9", "no device 'device9'; it has CPU_DEVICE, device1"),
    ],
)
def test_unknown_devices(device, sentence):
    with pytest.raises(BackendError, match=sentence):
        get_backend(device)


@pytest.mark.parametrize("device", ["torch:cuda:99", "torch:warp", "jax:tpu", "jax:cpu:99", "jax:cpu:first"])
def test_devices_that_the_library_lacks(device):
    library = library_of(device)
    if not STATUS[library].usable:
        pytest.skip(STATUS[library].message)
    with pytest.raises(BackendError, match=rf"{library} \S+ cannot use device '{device.partition(':')[2]}': \w"):
        get_backend(device)


def test_round_trip_and_ownership(typed):
    backend, dtype = typed
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(dtype)
    array = backend.asarray(x)
    assert backend.owns(array)
    assert array.dtype == backend.dtype(dtype)
    assert type(backend.to_numpy(array)) is np.ndarray
    np.testing.assert_array_equal(backend.to_numpy(array), x)
    assert backend.to_numpy(backend.asarray(x.astype(np.float64), dtype)).dtype == dtype
    assert backend.owns(backend.copy(array))
    assert backend_of(array) == backend


def test_dtypes_that_are_kept(backend):
    for dtype in ("uint8", "int32", "float32", "bool"):
        assert backend.asarray(np.ones(2, dtype=dtype)).dtype == backend.dtype(dtype)
    labels = backend.asarray(np.asarray([0, 2**31 - 1]))
    assert backend.to_numpy(labels).tolist() == [0, 2**31 - 1]


def test_float64_is_never_rounded_in_silence():
    for name in ("jax", "strict:no_x64"):
        if not STATUS[library_of(name)].usable:
            continue
        with open_lane(name) as backend, pytest.raises(BackendError, match="has no float64"):
            backend.asarray(np.ones(2))


def test_copies_have_memory_of_their_own(backend):
    x = np.ones(4, dtype=np.float32)
    copy = backend.copy(backend.asarray(x))
    x[:] = 5.0
    assert backend.to_numpy(copy).tolist() == [1.0] * 4


def test_read_only_input(backend):
    x = np.ones(3, dtype=np.float32)
    x.flags.writeable = False
    assert backend.to_numpy(backend.asarray(x)).tolist() == [1.0] * 3


@pytest.mark.parametrize("source", ["torch", "jax", "numpy"])
@pytest.mark.parametrize("target", ["torch", "jax", "numpy"])
def test_arrays_of_other_libraries(source, target):
    for name in (source, target):
        if not STATUS[name].usable:
            pytest.skip(STATUS[name].message)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = get_backend(source).asarray(x)
    moved = get_backend(target).asarray(array)
    assert get_backend(target).owns(moved)
    np.testing.assert_array_equal(get_backend(target).to_numpy(moved), x)


def test_compiled_step_is_the_step(backend):
    def step(params, state, slots, batch, hyper):
        return {"w": params["w"] - hyper["lr"] * batch}, state, slots, params["w"]

    params = {"w": backend.asarray(np.ones(2, dtype=np.float32))}
    batch = backend.asarray(np.full(2, 2.0, dtype=np.float32))
    expected = step(params, (), (), batch, {"lr": 0.5})[0]["w"]
    expected = np.array(backend.to_numpy(expected))
    params, *_ = backend.compile(step)({"w": backend.copy(params["w"])}, (), (), batch, {"lr": 0.5})
    np.testing.assert_array_equal(backend.to_numpy(params["w"]), expected)


def test_what_a_device_tells(backend):
    backend.synchronize()
    assert backend.describe()
    free, total = backend.memory()
    assert (free is None and total is None) or 0 <= free <= total
    assert repr(backend) == f"<portnn backend {backend}>"
    assert describe(backend)["versions"]["numpy"] == np.__version__


def test_unknown_array_types():
    with pytest.raises(BackendError, match=r"no registered backend knows arrays of type builtins\.list"):
        backend_of([1.0])


class Another(Backend):
    """A backend that somebody else ships."""

    name = "another"
    array_modules = ("another",)

    def __init__(self, device=None):
        self.device = device or "here"

    @classmethod
    def status(cls):
        return Status(True, "ready", "1.0")

    from_array = owns = asarray = to_numpy = copy = None


@pytest.fixture
def entry_points(monkeypatch):
    """Replace the advertised backends for the time of a test."""

    def advertise(**entries):
        points = [importlib.metadata.EntryPoint(name, value, "portnn.backends") for name, value in entries.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
        portnn.backend._discover.cache_clear()

    yield advertise
    portnn.backend._discover.cache_clear()


def test_anybody_can_ship_a_backend(entry_points):
    entry_points(another=f"{__name__}:Another")
    assert str(get_backend("another:there")) == "another:there"
    assert available_backends() == {"another": Status(True, "ready", "1.0")}


def test_a_broken_entry_point_does_not_take_the_others_down(entry_points):
    entry_points(broken="there_is_no_such_module:Backend", numpy="portnn_backends.numpy_backend:NumpyBackend")
    assert get_backend("cpu").name == "numpy"
    assert available_backends()["broken"].message.startswith("there_is_no_such_module:Backend cannot be loaded")
    with pytest.raises(BackendError, match="cannot be loaded: ModuleNotFoundError"):
        get_backend("broken")


def test_not_installed_at_all(entry_points):
    entry_points()
    with pytest.raises(BackendError, match="portnn must be installed"):
        get_backend("cpu")


def test_table():
    lines = backend_table().splitlines()
    assert lines[0].split() == ["backend", "version", "device", "status"]
    assert any(line.startswith("numpy") and line.endswith("ready") for line in lines)
    assert lines[-1].startswith("BLAS of NumPy: ")
    assert blas()["threads"] >= 1
