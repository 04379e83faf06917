"""What backends do with arrays, and what they tell of themselves."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from lanes import NAMES, STATUS, library_of, open_lane

from portnn import available_backends, backend_of, get_backend
from portnn.environment import backend_table, blas, describe
from portnn.errors import BackendError, DataError


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
        (None, 'a device is given by its name, such as "cpu" or "torch:cuda", not by None'),
        ("cpu:1", "NumPy has one device, cpu; there is no '1'"),
        ("strict:device9", "no device 'device9'; it has CPU_DEVICE, device1"),
    ],
)
def test_unknown_devices(device, sentence):
    with pytest.raises(BackendError, match=sentence):
        get_backend(device)


@pytest.mark.parametrize(
    "device", ["torch:cuda:99", "torch:warp", "jax:tpu", "jax:cpu:99", "jax:cpu:first", "jax:cpu:-1"]
)
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
    array = backend.asarray(np.ones(4, dtype=np.float32))
    assert pointer(backend, backend.copy(array)) != pointer(backend, array)


def test_host_arrays_that_enter_a_device_can_be_reused(backend):
    """But for NumPy itself, whose arrays enter as they are."""
    for offset in range(16):  # some libraries share memory that is aligned
        x = np.ones(64, dtype=np.float32)[offset:]
        array = backend.asarray(x)
        x[:] = 5.0
        expected = 5.0 if type(array) is np.ndarray and array.flags.writeable else 1.0
        assert set(backend.to_numpy(array).tolist()) == {expected}


def pointer(backend, array):
    """Where the values of an array lie."""
    for name in ("unsafe_buffer_pointer", "data_ptr"):
        if hasattr(array, name):
            return getattr(array, name)()
    if hasattr(array, "_array"):  # array-api-strict
        array = array._array
    if not isinstance(array, np.ndarray) and hasattr(array, "data"):  # CuPy
        return array.data.ptr
    host = array if isinstance(array, np.ndarray) else backend.to_numpy(array)  # of a backend that is not ours
    return host.__array_interface__["data"][0]


def test_odd_layouts_enter(backend):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for odd in (x[::-1], x.T, x[:, ::2], x.astype(">f4")):
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(odd)), odd)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (["a", "b"], "x has dtype <U1: real numbers are needed"),
        ([None, 1.0], "x has dtype object: real numbers are needed"),
        ([1j], "x has dtype complex128: real numbers are needed"),
        (np.asarray(["2026-01-01"], dtype="M8[D]"), r"x has dtype datetime64\[D\]: real numbers are needed"),
        ([[1.0], [1.0, 2.0]], r"x cannot be read as an array: its examples have 2 shapes, such as \(1,\) and \(2,\)"),
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "x has masked values: fill the gaps"),
    ],
    ids=["strings", "objects", "complex", "dates", "ragged", "masked"],
)
def test_what_is_no_array_of_real_numbers(x, sentence, backend):
    with pytest.raises(DataError, match=sentence):
        backend.asarray(x)


def test_integers_that_do_not_fit_are_an_error():
    for name in ("jax", "strict:no_x64"):
        if not STATUS[library_of(name)].usable:
            continue
        with open_lane(name) as backend:
            assert backend.to_numpy(backend.asarray(np.asarray([-(2**31)]))).tolist() == [-(2**31)]
            for value in (2**31, -(2**31) - 1, 2**40):
                with pytest.raises(DataError, match=r"do not fit into int32, the widest of backend"):
                    backend.asarray(np.asarray([0, value]))


def test_tensors_that_want_a_gradient_or_have_an_odd_dtype():
    torch = pytest.importorskip("torch")
    wants = torch.ones(3, requires_grad=True)
    for device in ("cpu", "torch"):
        backend = get_backend(device)
        assert backend.to_numpy(backend.asarray(wants)).tolist() == [1.0] * 3
    third = torch.full((3,), 1 / 3, dtype=torch.bfloat16)
    host = get_backend("cpu").asarray(third)  # NumPy has no bfloat16, and float32 holds the same numbers
    assert host.dtype == np.float32
    assert host.tolist() == third.tolist()


def test_to_floats(backend):
    scalars = [backend.asarray(np.asarray(v, dtype=np.float32)) for v in (1.0, 2.5, -3.0)]
    assert backend.to_floats(scalars) == [1.0, 2.5, -3.0]
    assert backend.to_floats([]) == []


def test_backends_can_be_copied_and_pickled(backend):
    assert pickle.loads(pickle.dumps(backend)) == copy.deepcopy(backend) == backend


def test_jax_knows_its_arrays_inside_jit():
    jax = pytest.importorskip("jax")
    backend = get_backend("jax")
    seen = []
    jax.jit(lambda x: seen.append((backend.owns(x), backend_of(x))) or x)(jax.numpy.ones(2))
    assert seen == [(True, backend)]


@pytest.mark.slow
def test_jax_without_a_device():
    if not STATUS["jax"].usable:
        pytest.skip(STATUS["jax"].message)
    code = "from portnn.environment import backend_table; print(backend_table())"
    environment = os.environ | {"JAX_PLATFORMS": "tpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "jax is installed, but finds no device: RuntimeError: Unable to initialize backend 'tpu'" in done.stdout


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
    memory = backend.memory()
    assert (memory.free is None and memory.total is None) or 0 <= memory.free <= memory.total
    assert (memory.used is None and memory.held is None) or 0 <= memory.used <= memory.held
    assert repr(backend) == f"<portnn backend {backend}>"
    assert describe(backend)["versions"]["numpy"] == np.__version__


def test_table():
    lines = backend_table().splitlines()
    assert lines[0].split() == ["backend", "version", "device", "status"]
    assert any(line.startswith("numpy") and line.endswith("ready") for line in lines)
    assert lines[-1].startswith("BLAS of NumPy: ")
    assert blas()["threads"] >= 1


def test_the_state_of_a_backend_holds_no_module(backend):
    """Some programs that store objects, such as skops, look at ``__getstate__`` and not at ``__reduce__``."""
    state = backend.__getstate__()
    assert all(isinstance(value, str) for value in state.values())
    again = object.__new__(type(backend))
    again.__setstate__(state)
    assert again == backend
    assert again.xp is backend.xp
