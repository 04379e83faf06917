"""CuPy where the device's memory is used up: right, or a sentence. No GPU: see `cupy_on_host.shortage`."""

import ast
import functools
import logging
import re

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import COMPILER, fake_cupy, shortage
from cupy_on_host.recorded import Portable, Recorded, open_recorded
from places import ROOT
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import trial as cupy_trial
from portnn_backends.on_cupy.memory import lacks_memory, once_more
from recorded_runs import bits, in_chunks_of, timeless

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import BackendError, DeviceMemoryError
from portnn.functional.reductions import along_last, of_all

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 12)


# ---- reductions that are wrong and say nothing


def test_a_kernel_that_is_not_there_gives_what_lay_in_memory():
    """What is met here: the imitation is as silent as CuPy."""
    with open_recorded(Portable), shortage.shortage():
        x = fake_cupy.asarray(np.ones((2, 3), np.float32))
        shortage.forget()
        with shortage.shortage(call=0):
            # The allocation of the result is not the first call: the kernel is.
            assert np.isnan(fake_cupy.asnumpy(fake_cupy.sum(x, axis=-1))).all()
        assert fake_cupy.asnumpy(fake_cupy.sum(x, axis=-1)).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("lasting", [False, True])
def test_opening_tries_every_reduction(lasting):
    """Whichever of its calls fails: a sentence; and nothing that was tried fails afterwards."""
    with open_recorded(Portable):
        opened = functools.partial(reopened, Portable)
        with shortage.shortage() as counted:
            opened()
        assert counted.calls.count("load by CUB") == 3 * len(cupy_trial._WHOLE)
        for call in range(len(counted.calls)):
            with shortage.shortage(call, lasting) as met, pytest.raises(BackendError) as raised:
                opened()
            silent = met.failed == ["load by CUB"]
            call_of_cupy = r"cupy\.\w+ of six numbers of \w+"
            told = (
                rf"computes {call_of_cupy} as .* CuPy does not tell" if silent else rf"cannot compute {call_of_cupy} \("
            )
            assert re.search(f"^GPU 0 {told}", str(raised.value))
            assert "8,589,934,592 of its 17,179,869,184 bytes are free: end what else uses it" in str(raised.value)
        opened()  # a failure is not remembered


def reopened(backend):
    shortage.forget()
    cupy_trial.try_reductions.cache_clear()
    return backend()


def test_a_trial_is_made_once_a_device():
    with open_recorded(Portable), shortage.shortage() as counted:
        Portable()
        assert counted.calls == []  # opened already


def test_every_reduction_in_the_source_is_tried():
    """Of those that CuPy computes by CUB: in array code, and in the backend."""
    files = [
        *(ROOT / "portnn").rglob("*.py"),
        *(ROOT / "backends" / "on_cupy").glob("*.py"),
        ROOT / "backends/special.py",
    ]
    used = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
    used |= {"sum", "mean", "max"}  # what `functional.reductions` is told in words
    by_cub = used & (shortage.CUB | {"cumprod", "bincount", "amax", "amin"})
    assert by_cub >= {"sum", "mean", "max", "min", "argmax"}
    assert by_cub <= cupy_trial.TRIED


# ---- whatever else fails


def test_one_more_try_when_memory_was_given_back():
    given_back, calls = [], []

    class Cupy:
        @staticmethod
        def get_default_memory_pool():
            return type("Pool", (), {"free_all_blocks": staticmethod(lambda: given_back.append(1))})

    def failing(times, error, *args):
        calls.append(args)
        if len(calls) <= times:
            raise error
        return "done"

    lack = RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    assert once_more(Cupy, failing, 1, lack) == "done"
    assert (len(calls), len(given_back)) == (2, 1)
    calls.clear()
    with pytest.raises(RuntimeError, match="OUT_OF_MEMORY"):
        once_more(Cupy, failing, 2, lack)
    calls.clear()
    with pytest.raises(RuntimeError, match="LAUNCH_FAILED"):
        once_more(Cupy, failing, 1, RuntimeError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"))
    assert len(calls) == 1
    for told in ("cudaErrorMemoryAllocation: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"):
        assert lacks_memory(RuntimeError(told))


def made(backend):
    layer = nn.Sequential([nn.Affine(4), nn.ReLU(), nn.Dropout(0.2), nn.Affine(3)])
    optimizer = optim.chain(optim.ClipByNorm(0.5), optim.Adam(lr=0.1))
    return Trainer(Network(layer, 3, device=backend, rng=0), losses.SoftmaxCrossEntropy(), optimizer, rng=0)


def trained(backend):
    trainer = made(backend)
    trainer.fit(X, Y, epochs=2, batch_size=4, validation_data=(X, Y))
    return timeless(trainer), bits(trainer)


def met(backend, call, lasting, expected):
    """A run in which a call fails: a sentence, or the run of always."""
    try:
        found = trained(backend)
    except (DeviceMemoryError, BackendError) as error:
        said = str(error)
    else:
        assert found == expected
        return "right"
    assert re.search(r"[Mm]emory|cuBLAS", said)
    assert "\n" not in said
    return "sentence"


CASES = [
    pytest.param(Portable, True, 23),
    pytest.param(Recorded, False, 23, marks=needs_compiler),
    pytest.param(Portable, False, 1, marks=pytest.mark.slow),
    pytest.param(Portable, True, 1, marks=pytest.mark.slow),
    pytest.param(Recorded, False, 1, marks=[needs_compiler, pytest.mark.slow]),
    pytest.param(Recorded, True, 1, marks=[needs_compiler, pytest.mark.slow]),
]


@pytest.mark.parametrize(("backend", "lasting", "every"), CASES)
def test_each_failure_is_met(backend, lasting, every, caplog, monkeypatch):
    """The n-th allocation, load, launch or call of a library, for all n (in the fast suite: for some of them)."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(cupy_blas, "_WORKSPACE", 512)  # of each run, and nothing that a graph knows is given back
    in_chunks_of(monkeypatch, 1, 2)
    with open_recorded(backend):
        expected = trained(backend())
        with shortage.shortage() as counted:
            assert trained(backend()) == expected
        assert {"allocation", "launch by CuPy", "cuBLAS", "graph", "launch of a graph"} <= set(counted.calls)
        outcomes = []
        for call in range(0, len(counted.calls), every):
            with shortage.shortage(call, lasting) as failing:
                outcomes.append(met(backend(), call, lasting, expected))
            assert failing.failed
    assert set(outcomes) == ({"sentence"} if lasting else {"sentence", "right"})


# ---- what a recorded step reduces


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_the_reductions_of_our_own(dtype):
    rng = np.random.default_rng(0)
    with open_recorded(Recorded) as backend:
        for shape in ((1,), (3, 1), (7, 33), (2, 3, 100), (5_000,), (0, 3), (3, 0)):
            host = rng.integers(-9, 9, shape).astype(dtype)
            x = backend.asarray(host)
            if host.size:
                assert backend.to_numpy(along_last(x, "max")).tolist() == host.max(axis=-1, keepdims=True).tolist()
                assert backend.to_numpy(of_all(x, "max")) == host.max()
            if np.dtype(dtype).kind == "f":
                for how in ("sum", "mean") if host.size else ("sum",):
                    assert_reduced(backend, along_last(x, how), getattr(host, how)(axis=-1, keepdims=True))
                    assert_reduced(backend, of_all(x, how), getattr(host, how)())


def assert_reduced(backend, actual, expected):
    np.testing.assert_allclose(backend.to_numpy(actual), expected, rtol=1e-6)
    assert (actual.shape, actual.dtype) == (np.shape(expected), expected.dtype)


@needs_compiler
@pytest.mark.parametrize("place", [0, 31, 40, 4_000])
def test_nan_is_the_largest(place):
    host = np.arange(5_000, dtype=np.float32)
    host[place] = np.nan
    with open_recorded(Recorded) as backend:
        x = backend.asarray(host)
        for made in (of_all(x, "max"), along_last(x, "max"), of_all(x, "sum"), along_last(x, "mean")):
            assert np.isnan(backend.to_numpy(made)).all()
