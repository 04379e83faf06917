"""Products by cuBLASLt where there is a GPU; the same tests run on the imitation, see `cupy_on_host`."""

import ctypes
import json
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("cupy")

import cupy
from cupy_on_host import fake_cupy
from cupy_on_host.recorded import Portable, forget_choices, open_recorded
from lanes import STATUS
from portnn_backends.on_cupy import choices as cupy_choices
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy import plans as cupy_plans
from portnn_backends.on_cupy.beside import beside
from portnn_backends.on_cupy.blas import bfloat16_product, biased_product, matmul
from portnn_backends.on_cupy.choices import Choices
from portnn_backends.on_cupy.recording import Recorder

from portnn import get_backend
from portnn.errors import BackendError

load = cupy_lt._load
PLACES = [
    "on-host",
    pytest.param("gpu", marks=pytest.mark.skipif(not STATUS["cupy"].usable, reason=STATUS["cupy"].message)),
]
SHAPES = [(96, 784, 64), (512, 128, 10), (100, 10, 100), (7, 5, 3), (1, 64, 1), (33, 1, 17), (1, 1, 1)]
TURNS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture(params=PLACES)
def xp(request, monkeypatch, tmp_path):
    """CuPy, or what stands for it; choices are kept in a folder of the test."""
    forget_choices()
    on_host = request.param == "on-host"
    with open_recorded(Portable) if on_host else get_backend("cupy").context():
        monkeypatch.setattr(cupy_choices, "_folder", lambda: tmp_path)
        monkeypatch.setattr(cupy_plans, "_SMALL", 0)  # else hardly any of these would be timed
        yield fake_cupy if on_host else cupy
    forget_choices()


def drawn(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def placed(xp, host, turned):
    return xp.asarray(np.ascontiguousarray(host.T)).T if turned else xp.asarray(host)


def bits(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def numbers(values):
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


def at_once_and_recorded(xp, recorder, body):
    """What ``body()`` gives at once; a graph gives the same bits, however often it is launched."""
    at_once = xp.asnumpy(recorder.compute(body))
    graph, made = recorder.record(body)
    for _ in range(3):
        made[...] = 0
        graph.launch()
        assert xp.asnumpy(made).tobytes() == at_once.tobytes()
    return at_once


def assert_near(made, expected, scale, relative):
    """Within a share of the sums of absolute products."""
    assert np.max(np.abs(numbers(made) - expected) / (scale + 1e-30)) <= relative


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(xp, caplog, shape, dtype):
    (m, k, n), recorder = shape, Recorder(False)
    a, b = drawn(m, k, dtype=dtype), drawn(k, n, dtype=dtype)
    expected, scale = a.astype(np.float64) @ b, np.abs(a).astype(np.float64) @ np.abs(b)
    for turn_a, turn_b in TURNS:
        given = placed(xp, a, turn_a), placed(xp, b, turn_b)
        made = at_once_and_recorded(xp, recorder, lambda given=given: matmul(*given))
        assert made.dtype == dtype
        assert_near(made, expected, scale, 1e-5 if dtype == "float32" else 1e-13)
    stack = [xp.asarray(np.stack([host, -host, 2 * host])) for host in (a, b)]
    made = at_once_and_recorded(xp, recorder, lambda: matmul(*stack))
    assert_near(made, np.stack([expected, expected, 4 * expected]), 4 * scale, 1e-5 if dtype == "float32" else 1e-13)
    assert not caplog.records  # cuBLASLt was used


def test_small_products(xp, caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(cupy_plans, "_SMALL", 2**18)
    recorder = Recorder(False)
    for m, k, n in SHAPES[2:]:
        a, b = drawn(m, k), drawn(k, n)
        given = xp.asarray(a), xp.asarray(b)
        made = at_once_and_recorded(xp, recorder, lambda given=given: matmul(*given))
        assert_near(made, a.astype(np.float64) @ b, np.abs(a) @ np.abs(b), 1e-5)
    assert list(tmp_path.iterdir()) == []
    assert not caplog.records


def test_products_of_arrays_that_begin_anywhere(xp, caplog):
    recorder, long, b = Recorder(False), drawn(1000), drawn(24, 16)
    on_device, right = xp.asarray(long), xp.asarray(b)
    for start in (0, 1, 2, 3, 4, 8, 64):
        a = long[start : start + 32 * 24].reshape(32, 24)
        left = on_device[start : start + 32 * 24].reshape(32, 24)
        made = at_once_and_recorded(xp, recorder, lambda left=left: matmul(left, right))
        assert_near(made, a.astype(np.float64) @ b, np.abs(a) @ np.abs(b), 1e-5)
    assert not caplog.records


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_bias_and_relu(xp, caplog, shape, relu):
    (m, k, n), recorder = shape, Recorder(False)
    a, b, bias = drawn(m, k), drawn(k, n), drawn(n)
    expected, scale = a.astype(np.float64) @ b + bias, np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias)
    for turn_a, turn_b in TURNS:
        given = placed(xp, a, turn_a), placed(xp, b, turn_b), xp.asarray(bias)
        made = at_once_and_recorded(xp, recorder, lambda given=given: biased_product(*given, relu=relu))
        assert_near(made, np.maximum(expected, 0) if relu else expected, scale, 1e-5)
    assert not caplog.records


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("shape", [(48, 200, 64), (64, 128, 16), (64, 8, 24)])
def test_bfloat16(xp, caplog, shape, narrow):
    (m, k, n), recorder = shape, Recorder(False)
    a, b, bias = bits(drawn(m, k)), bits(drawn(k, n)), drawn(n)
    bias = bits(bias) if narrow else bias
    left, right = numbers(a).astype(np.float64), numbers(b).astype(np.float64)
    expected, scale = left @ right, np.abs(left) @ np.abs(right)
    relative = 2**-8 if narrow else 1e-5
    for turn_a, turn_b in TURNS:
        given = placed(xp, a, turn_a), placed(xp, b, turn_b)
        made = at_once_and_recorded(xp, recorder, lambda given=given: bfloat16_product(*given, narrow=narrow))
        assert made.dtype == (np.uint16 if narrow else np.float32)
        assert_near(made, expected, scale, relative)
        given = *given, xp.asarray(bias)
        added = at_once_and_recorded(
            xp, recorder, lambda given=given: bfloat16_product(*given, relu=True, narrow=narrow)
        )
        assert_near(added, np.maximum(expected + numbers(bias), 0), scale + np.abs(numbers(bias)), relative)
    assert not caplog.records


def test_tf32(xp, caplog):
    backend = get_backend("cupy")
    if (reason := backend.without_tf32()) is not None:
        pytest.skip(reason)
    with nullcontext() if xp is fake_cupy else backend.with_precision("tf32").context():
        recorder = Recorder(True)
        a, b = drawn(96, 784), drawn(784, 64)
        given = xp.asarray(a), xp.asarray(b)
        made = at_once_and_recorded(xp, recorder, lambda: matmul(*given))
    expected, scale = a.astype(np.float64) @ b, np.abs(a).astype(np.float64) @ np.abs(b)
    assert_near(made, expected, scale, 2**-10)
    if xp is cupy:
        assert np.max(np.abs(made - expected) / scale) > 1e-6  # it is not float32
    assert not caplog.records


def test_side_by_side(xp, caplog):
    recorder = Recorder(False)
    x, w, dy = (xp.asarray(drawn(*shape)) for shape in ((96, 784), (784, 64), (96, 64)))

    def body():
        dx, dw = beside(lambda: matmul(dy, w.T), lambda: matmul(x.T, dy), 1)
        again, _ = beside(lambda: matmul(dx, w), lambda: matmul(dw.T, dw), 1)
        return matmul(again.T, dx)

    made = at_once_and_recorded(xp, recorder, body)
    x, w, dy = (xp.asnumpy(array).astype(np.float64) for array in (x, w, dy))
    expected = (dy @ w.T @ w).T @ (dy @ w.T)
    assert_near(made, expected, np.max(np.abs(expected)), 1e-5)
    assert not caplog.records


def test_choices_are_kept(xp, tmp_path):
    a, b = xp.asarray(drawn(96, 784)), xp.asarray(drawn(784, 64))
    made, told = [], []
    for _ in range(2):
        choices = Choices()
        made.append(xp.asnumpy(Recorder(False, choices).compute(lambda: matmul(a, b))).tobytes())
        told.append(choices.told())
        forget_choices()  # as in another process
    assert made[0] == made[1]
    assert told[0] == told[1]
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text(encoding="utf-8"))["algorithms"] == told[0]["algorithms"]


# ---- the library, where it is installed: what it is told needs no GPU


class Told(cupy_lt.Library):
    """Without a handle, which needs a GPU."""

    def __init__(self):
        try:
            self._functions = load()
        except BackendError as error:
            pytest.skip(str(error))
        self.handle = ctypes.c_void_p()

    def read(self, of, what, attribute, kind):
        value, written = kind(), ctypes.c_size_t()
        sizes = ctypes.c_size_t(ctypes.sizeof(value)), ctypes.byref(written)
        self.call(f"cublasLt{what}GetAttribute", of, ctypes.c_int(attribute), ctypes.byref(value), *sizes)
        assert written.value == ctypes.sizeof(value)
        return value.value


@pytest.mark.parametrize("matrices", [1, 3])
@pytest.mark.parametrize("epilogue", [cupy_lt.PLAIN, cupy_lt.BIAS, cupy_lt.RELU_BIAS])
@pytest.mark.parametrize("kind", cupy_lt.KINDS)
def test_what_the_library_is_told(kind, epilogue, matrices):
    """It takes every attribute with its number and size, and gives it back."""
    told, numbers_of = Told(), cupy_lt.KINDS[kind]
    a, b = cupy_lt.Operand(False, 20, 500), cupy_lt.Operand(True, 17, 150)
    found = cupy_lt.Descriptors(told, cupy_lt.Problem(kind, matrices, 24, 16, 8, a, b, epilogue, 64), 2**25)
    int32, uint32, int64, uint64 = ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64
    product = [told.read(found._product, "MatmulDesc", i, t) for i, t in enumerate([int32] * 5)]
    assert product == [numbers_of.compute, numbers_of.scale, 0, 1, 0]  # pointers on the host; A is turned, B is not
    assert told.read(found._product, "MatmulDesc", 7, uint32) == epilogue
    bias = told.read(found._product, "MatmulDesc", 8, uint64)
    assert bias == 0 if epilogue == cupy_lt.PLAIN else bias & -bias == 64
    expected = [
        (numbers_of.factors, 16, 8, 17, 150),
        (numbers_of.factors, 16, 24, 20, 500),
        (numbers_of.product, 8, 24, 8, 192),
    ]
    for layout, (dtype, rows, columns, leading, stride) in zip(
        (found._left, found._right, found._out), expected, strict=True
    ):
        types = [uint32, int32, uint64, uint64, int64, int32, int64]
        read = [told.read(layout, "MatrixLayout", i, t) for i, t in enumerate(types)]
        assert read == [dtype, 0, rows, columns, leading, matrices, stride if matrices > 1 else 0]  # 0: by columns
    assert told.read(found._preference, "MatmulPreference", 1, uint64) == 2**25
    assert [told.read(found._preference, "MatmulPreference", i, uint32) for i in (5, 6, 7, 8)] == [64] * 4
    with pytest.raises(BackendError, match=r"GetHeuristic of cuBLASLt failed with status 1 \(CUBLAS_STATUS_NOT_INIT"):
        found.heuristics(4)
