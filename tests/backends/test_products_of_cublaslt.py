"""Products of matrices by cuBLASLt, of whose algorithms the fastest is taken; on an imitation: see `cupy_on_host`."""

import ctypes
import gc
import logging

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import fake_cupy, shortage
from cupy_on_host.cublas import CublasImitation
from cupy_on_host.cublaslt import CublasLtImitation, wide
from cupy_on_host.recorded import Portable, forget_choices, open_recorded
from portnn_backends.layouts import layout
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy import plans as cupy_plans
from portnn_backends.on_cupy.choices import Choices
from portnn_backends.on_cupy.lt import BIAS, PLAIN, RELU_BIAS, Algorithm
from portnn_backends.on_cupy.recording import Recorder

from portnn.errors import BackendError

RNG = np.random.default_rng(0)

load = cupy_lt._load


@pytest.fixture(autouse=True)
def _imitation():
    with open_recorded(Portable), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_blas, "_WORKSPACE", 2**15)
        patch.setattr(cupy_plans, "_SMALL", 0)  # all of these are
        yield


@pytest.fixture
def opened():
    """Products on a stream, which is the current one."""
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        products = cupy_blas.Products(stream, False, Choices())
        with cupy_blas.directly(products):
            yield products


def library(products):
    return products.lt._library._functions


def normal(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


def bits(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def on_device(host, how="rows"):
    """The values of a host array: in rows, in columns, within wider rows, backwards, with gaps, or once for all."""
    if how == "columns":
        axes = (*range(host.ndim - 2), host.ndim - 1, host.ndim - 2)
        return fake_cupy.asarray(np.ascontiguousarray(host.transpose(axes))).transpose(*axes)
    if how == "wide":
        room = fake_cupy.empty((*host.shape[:-1], host.shape[-1] + 3), host.dtype)
        room[..., : host.shape[-1]] = fake_cupy.asarray(host)
        return room[..., : host.shape[-1]]
    if how == "backwards":
        return fake_cupy.asarray(np.ascontiguousarray(host[..., ::-1, :]))[..., ::-1, :]
    if how == "gaps":
        return fake_cupy.asarray(np.repeat(host, 2, axis=-1))[..., ::2]
    return fake_cupy.asarray(host)


# ---- numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_layout(opened, dtype):
    for m, k, n in ((3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (7, 7, 7)):
        a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)
        for left in ("rows", "columns", "wide", "backwards", "gaps"):
            for right in ("rows", "columns", "wide", "backwards"):
                made = cupy_blas.matmul(on_device(a, left), on_device(b, right))
                assert made.dtype == dtype
                np.testing.assert_allclose(fake_cupy.asnumpy(made), a @ b, rtol=1e-5, atol=1e-6)
    assert opened.cublas._library.products == 4  # those that were compared
    assert len(library(opened).launched) > 100


def test_stacks_are_one_product(opened):
    a, b = normal(2, 3, 4), normal(2, 4, 5)
    for left in ("rows", "columns", "wide", "backwards", "gaps"):
        for right in ("rows", "columns", "wide"):
            given = on_device(a, left), on_device(b, right)
            before = len(library(opened).launched)
            made = cupy_blas.matmul(*given)
            np.testing.assert_allclose(fake_cupy.asnumpy(made), a @ b, rtol=1e-5, atol=1e-6)
            cupy_blas.matmul(*given)
            assert len(library(opened).launched) > before
    # The same matrix for all: nothing is copied.
    once = fake_cupy.asarray(a[0])
    given = type(once)(np.broadcast_to(once._host, a.shape), once._lease)
    np.testing.assert_allclose(fake_cupy.asnumpy(cupy_blas.matmul(given, fake_cupy.asarray(b))), a[0] @ b, rtol=1e-5)
    single = cupy_blas.matmul(fake_cupy.asarray(a[:1]), fake_cupy.asarray(b[:1]))
    np.testing.assert_allclose(fake_cupy.asnumpy(single), a[:1] @ b[:1], rtol=1e-5)
    assert opened.cublas._library.products == 4


def test_what_is_no_product_of_floats_is_cupys(opened):
    before = len(library(opened).launched)
    assert cupy_blas.matmul(fake_cupy.empty((0, 3), np.float32), on_device(normal(3, 4))).shape == (0, 4)
    mixed = cupy_blas.matmul(on_device(normal(2, 3)), on_device(normal(3, 4, dtype=np.float64)))
    assert mixed.dtype == np.float64
    assert len(library(opened).launched) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bias_and_relu(opened, dtype):
    a, b, bias = normal(6, 4, dtype=dtype), normal(4, 5, dtype=dtype), normal(5, dtype=dtype)
    given = on_device(a), on_device(b, "columns"), fake_cupy.asarray(bias)
    made = fake_cupy.asnumpy(cupy_blas.biased_product(*given))
    np.testing.assert_allclose(made, a @ b + bias, rtol=1e-5, atol=1e-6)
    cut = fake_cupy.asnumpy(cupy_blas.biased_product(*given, relu=True))
    assert np.array_equal(cut, np.maximum(made, 0))
    assert 0 < np.sum(cut == 0) < cut.size
    for how in ("gaps", "rows"):  # another bias, at another place, for the same plan
        other = normal(5, dtype=dtype)
        given = on_device(a), on_device(b, "columns"), on_device(other[None], how)[0]
        made = fake_cupy.asnumpy(cupy_blas.biased_product(*given))
        np.testing.assert_allclose(made, a @ b + other, rtol=1e-5, atol=1e-6)
    with pytest.raises(BackendError, match=r"a bias of shape \(5,\) and float\d\d to this product, not one of \(4,\)"):
        cupy_blas.biased_product(on_device(a), on_device(b), fake_cupy.asarray(bias[:4]))
    with pytest.raises(BackendError, match="a ReLU, and for no bias"):
        opened.lt.multiplied(on_device(a), on_device(b), relu=True)
    assert cupy_blas.biased_product(on_device(a[:0]), on_device(b), fake_cupy.asarray(bias)) is None
    assert cupy_blas.biased_product(on_device(a), on_device(b), fake_cupy.asarray(bits(bias))) is None


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_the_bits_of_bfloat16(opened, narrow, stacked):
    shape = (2,) if stacked else ()
    a, b, bias = bits(normal(*shape, 8, 16)), bits(normal(*shape, 16, 24)), normal(24)
    bias = bits(bias) if narrow else bias
    expected = wide(a) @ wide(b)
    tolerance = {"rtol": 2**-8, "atol": 1e-6} if narrow else {"rtol": 1e-5, "atol": 1e-5}
    for left in ("rows", "columns"):
        for right in ("rows", "columns"):
            given = on_device(a, left), on_device(b, right)
            made = fake_cupy.asnumpy(cupy_blas.bfloat16_product(*given, narrow=narrow))
            assert made.dtype == (np.uint16 if narrow else np.float32)
            np.testing.assert_allclose(wide(made), expected, **tolerance)
            added = cupy_blas.bfloat16_product(*given, fake_cupy.asarray(bias), relu=True, narrow=narrow)
            tolerance["atol"] = 0.05 if narrow else 1e-5
            found = wide(fake_cupy.asnumpy(added))
            np.testing.assert_allclose(found, np.maximum(expected + wide(bias), 0), **tolerance)


def test_bfloat16_has_nothing_to_fall_back_on(opened):
    a, b = on_device(bits(normal(8, 16))), on_device(bits(normal(16, 24)))
    with cupy_blas.directly(opened.cublas), pytest.raises(BackendError, match="take precision tf32"):
        cupy_blas.bfloat16_product(a, b)
    for left, right in ((a, fake_cupy.asarray(normal(16, 24))), (a[:0], b)):
        with pytest.raises(BackendError, match="two arrays of uint16 with elements"):
            cupy_blas.bfloat16_product(left, right)


def test_tf32_is_asked_for():
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    asked = []

    class Asked(CublasLtImitation):
        def cublasLtMatmulDescCreate(self, into, compute, scale):
            asked.append(compute.value)
            return super().cublasLtMatmulDescCreate(into, compute, scale)

    with pytest.MonkeyPatch.context() as patch, stream:
        patch.setattr(cupy_lt, "_load", Asked)
        for tf32, dtype, compute in ((False, "float32", 68), (True, "float32", 77), (True, "float64", 70)):
            products = cupy_blas.Products(stream, tf32, Choices())
            asked.clear()
            products.matmul(on_device(normal(3, 4, dtype=dtype)), on_device(normal(4, 5, dtype=dtype)))
            assert set(asked) == {compute}


@pytest.mark.parametrize(
    ("shape", "strides", "found"),
    [
        ((3, 4), (16, 4), (False, 4)),
        ((4, 3), (4, 16), (True, 4)),
        ((3, 4), (20, 4), (False, 5)),
        ((1, 4), (999, 4), (False, 4)),
        ((4, 1), (4, 999), (False, 1)),
        ((4, 1), (12, 999), (False, 3)),
        ((3, 4), (18, 4), None),  # a row begins within an element
        ((3, 4), (-16, 4), None),
        ((3, 4), (0, 4), None),
        ((3, 4), (32, 8), None),
        ((3, 4), (12, 4), None),  # rows overlap
    ],
)
def test_what_cublas_can_read(shape, strides, found):
    assert layout(shape, strides, 4) == found


def test_lengths_that_c_cannot_count(opened, monkeypatch, caplog):
    for module in (cupy_blas, cupy_plans):
        monkeypatch.setattr(module, "TOO_LONG", 100)
    a, b = normal(3, 100), normal(100, 4)
    with pytest.raises(BackendError, match=r"below 100, and these are \(3, 100\) and \(100, 4\), .* fewer examples"):
        cupy_blas.matmul(on_device(a), on_device(b))
    assert "cuBLASLt is not used for a product of lengths from 100 on" in caplog.text
    with pytest.raises(BackendError, match="and 103 elements from row to row"):
        cupy_blas.matmul(on_device(a[:, :4], "rows"), on_device(normal(4, 100), "wide")[:, :99])


# ---- which algorithm


def test_the_fastest_is_taken(opened, monkeypatch):
    monkeypatch.setattr(CublasLtImitation, "durations", (0.05, 0.02, 0.01, 0.04))
    monkeypatch.setattr(CublasLtImitation, "needs", (4, 4, 4, 4))
    a, b = on_device(normal(8, 16)), on_device(normal(16, 4))
    cupy_blas.matmul(a, b)
    assert library(opened).launched[-1] == (2, "once")
    assert {number for number, how in library(opened).launched if how == "captured"} == {0, 1, 2, 3}
    asked, launched = library(opened).asked, len(library(opened).launched)
    cupy_blas.matmul(a, b)
    assert (library(opened).asked, len(library(opened).launched)) == (asked, launched + 1)


def test_small_products_are_not_timed(opened, monkeypatch, caplog):
    """The first algorithm is taken: a rule, so there is nothing to keep."""
    monkeypatch.setattr(CublasLtImitation, "durations", (0.05, 0.02))
    for largest, found in ((8 * 16 * 4 * 2, [0, 1]), (8 * 16 * 4 * 2 - 1, [1, 1])):
        monkeypatch.setattr(cupy_plans, "_SMALL", largest)
        opened.lt._plans.clear()
        for shape, number in (((2,), found[0]), ((3,), found[1])):
            cupy_blas.matmul(on_device(normal(*shape, 8, 16)), on_device(normal(*shape, 16, 4)))
            assert library(opened).launched[-1][0] == number
    algorithms = opened.lt._choices.told()["algorithms"]
    assert [key.partition(" N")[0] for key in algorithms] == ["float32 3 x 8 16 4", "float32 2 x 8 16 4"]
    monkeypatch.setattr(cupy_plans, "_SMALL", 2**18)
    opened.matmul(on_device(normal(5, 16)), on_device(normal(16, 4)))  # compared
    before = opened.cublas._library.products
    monkeypatch.setattr(CublasLtImitation, "cublasLtMatmul", lambda *_: 13)
    opened.matmul(on_device(normal(7, 16)), on_device(normal(16, 4)))
    assert "cublasLtMatmul of cuBLASLt failed with status 13" in caplog.text
    monkeypatch.setattr(CublasLtImitation, "durations", ())
    opened.matmul(on_device(normal(6, 16)), on_device(normal(16, 4)))
    assert "(it has no algorithm for that)" in caplog.text
    assert opened.cublas._library.products == before + 2


def test_slow_products_are_timed_in_few(opened, monkeypatch):
    """And the first algorithms only, once that takes long."""
    monkeypatch.setattr(CublasLtImitation, "durations", (9.0, 8.0, 7.0))
    monkeypatch.setattr(CublasLtImitation, "needs", (4, 4, 4))
    monkeypatch.setattr(cupy_plans, "_SECONDS", 0.0)
    monkeypatch.setattr(cupy_plans, "_IN_A_ROW", 20)
    cupy_blas.matmul(on_device(normal(8, 16)), on_device(normal(16, 4)))
    assert [at for at in library(opened).launched if at[1] == "captured"] == [(0, "captured")]
    monkeypatch.setattr(CublasLtImitation, "durations", (0.5,))
    cupy_blas.matmul(on_device(normal(8, 16)), on_device(normal(16, 5)))
    assert library(opened).launched.count((0, "captured")) == 1 + 4  # two milliseconds


def test_alignment_is_told(opened):
    """An algorithm that needs 16 bytes is not offered where a matrix, or the bias, begins elsewhere."""
    long = fake_cupy.asarray(normal(200))
    b = on_device(normal(16, 4))

    def taken(start, bias=None):
        a = long[start : start + 128].reshape(8, 16)
        made = cupy_blas.matmul(a, b) if bias is None else cupy_blas.biased_product(a, b, long[bias : bias + 4])
        fake_cupy.asnumpy(made)
        return library(opened).launched[-1][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CublasLtImitation, "durations", (0.05, 0.02))
        assert [taken(start) for start in (0, 1, 2, 4, 0)] == [1, 0, 0, 1, 1]
        assert [taken(0, bias=start) for start in (0, 1, 4)] == [1, 0, 1]
        # A plan is for all arrays of an alignment, whichever of them is the worst.
        assert [taken(1, bias=start) for start in (0, 1, 4)] == [0, 0, 0]
        stacked = [long[start : start + 96].reshape(2, 3, 16) for start in (0, 2)]
        weights = fake_cupy.asarray(normal(2, 16, 5))  # its product has 15 values a matrix
        cupy_blas.matmul(stacked[0], weights)
        assert library(opened).launched[-1][0] == 0


def test_what_needs_more_room_is_not_taken(opened, monkeypatch):
    monkeypatch.setattr(CublasLtImitation, "durations", (0.05, 0.02))
    monkeypatch.setattr(CublasLtImitation, "space", (0, 2**15 + 1))
    cupy_blas.matmul(on_device(normal(8, 16)), on_device(normal(16, 4)))
    assert library(opened).launched[-1][0] == 0
    monkeypatch.setattr(CublasLtImitation, "space", (0, 2**15))
    cupy_blas.matmul(on_device(normal(8, 16)), on_device(normal(16, 5)))
    assert library(opened).launched[-1][0] == 1


def test_an_algorithm_that_fails_is_passed_over(opened, monkeypatch, caplog):
    real = CublasLtImitation.cublasLtMatmul
    failing = {0}

    def some_fail(self, *args):
        return 13 if args[-4]._obj.data[1] in failing else real(self, *args)

    a, b = on_device(normal(8, 16)), on_device(normal(16, 4))
    cupy_blas.matmul(a, on_device(normal(16, 3)))  # compared
    monkeypatch.setattr(CublasLtImitation, "cublasLtMatmul", some_fail)
    cupy_blas.matmul(a, b)
    assert library(opened).launched[-1][0] == 1
    assert not caplog.records
    failing.add(1)
    a = on_device(normal(8, 17))
    before = opened.cublas._library.products
    made, again = (cupy_blas.matmul(a, on_device(np.ones((17, 4), np.float32))) for _ in range(2))
    assert np.array_equal(fake_cupy.asnumpy(made), fake_cupy.asnumpy(again))
    assert opened.cublas._library.products == before + 2
    (record,) = caplog.records
    said = "cublasLtMatmul of cuBLASLt failed with status 13 (CUBLAS_STATUS_EXECUTION_FAILED)"
    assert f"cuBLASLt is not used for a product ({said}): float32 1 x 8 17 4 " in record.getMessage()


def test_no_algorithm_at_all(opened, monkeypatch, caplog):
    a, b = on_device(normal(8, 16)), on_device(normal(16, 4))
    cupy_blas.matmul(a, on_device(normal(16, 3)))  # compared
    monkeypatch.setattr(CublasLtImitation, "durations", ())
    before = opened.cublas._library.products
    made = [cupy_blas.matmul(a, b), cupy_blas.matmul(a, b)]
    assert opened.cublas._library.products == before + 2
    assert np.array_equal(*map(fake_cupy.asnumpy, made))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "cuBLASLt is not used for a product (it has no algorithm for that): float32 1 x 8 16 4 N16+0 N4+0, at 256"
    )


def test_nothing_is_timed_while_a_step_is_recorded(caplog):
    recorder = Recorder(False)
    a, b, c = on_device(normal(8, 16)), on_device(normal(16, 4)), on_device(normal(16, 5))
    wide_b = b.astype(np.float64)
    at_once = recorder.compute(lambda: cupy_blas.matmul(a, b))
    functions = library(recorder._products)
    asked = functions.asked
    graph, made = recorder.record(lambda: cupy_blas.matmul(a, b))
    assert functions.launched[-1] == (0, "captured")
    graph.launch()
    assert fake_cupy.asnumpy(made).tobytes() == fake_cupy.asnumpy(at_once).tobytes()
    # What was not computed before is cuBLAS's: of a new shape, of a new kind.
    for unknown, kind in (((a, c), "a product"), ((a.astype(np.float64), wide_b), "products")):
        before = recorder._products.cublas._library.products
        graph, made = recorder.record(lambda unknown=unknown: cupy_blas.matmul(*unknown))
        assert recorder._products.cublas._library.products == before + 1
        assert f"cuBLASLt is not used for {kind} that" in caplog.records[-1].getMessage()
        graph.launch()
        np.testing.assert_allclose(fake_cupy.asnumpy(made), np.matmul(*map(fake_cupy.asnumpy, unknown)), rtol=1e-5)
    assert functions.asked == asked
    assert len(caplog.records) == 2
    recorder.compute(lambda: cupy_blas.matmul(a, c))
    assert functions.asked > asked  # and from then on, it is known


def test_arrays_that_begin_elsewhere_while_a_step_is_recorded(caplog, monkeypatch):
    """As where a graph reads copies of them: the algorithm is that of the first step."""
    monkeypatch.setattr(CublasLtImitation, "durations", (0.05, 0.02))
    recorder = Recorder(False)
    long, b = fake_cupy.asarray(normal(132)), on_device(normal(16, 4))
    shifted, moved = long[1:129].reshape(8, 16), long[:128].reshape(8, 16)
    recorder.compute(lambda: cupy_blas.matmul(shifted, b))
    functions = library(recorder._products)
    assert functions.launched[-1] == (0, "once")
    Recorder(False).compute(lambda: cupy_blas.matmul(moved, b))  # so something is known of them, too
    recorder.record(lambda: cupy_blas.matmul(moved, b))
    assert functions.launched[-1] == (0, "captured")
    other = on_device(normal(16, 3))
    recorder.compute(lambda: cupy_blas.matmul(moved, other))
    assert functions.launched[-1] == (1, "once")
    assert not caplog.records
    recorder.record(lambda: cupy_blas.matmul(shifted, other))  # that one needs more
    assert "first met while a step is recorded: float32 1 x 8 16 3 N16+0 N3+0, at 4" in caplog.text


# ---- trust


def test_it_is_compared_with_cupy_in_all_layouts(opened, caplog):
    assert library(opened).launched == []
    cupy_blas.matmul(on_device(normal(3, 4)), on_device(normal(4, 5)))
    assert opened.lt._trusted == {("float32", PLAIN, False): True}
    cupy_blas.matmul(on_device(normal(2, 3, 4)), on_device(normal(2, 4, 5)))
    cupy_blas.biased_product(on_device(normal(3, 4)), on_device(normal(4, 5)), on_device(normal(5)))
    cupy_blas.biased_product(on_device(normal(3, 4)), on_device(normal(4, 5)), on_device(normal(5)), relu=True)
    kinds = [(PLAIN, False), (PLAIN, True), (BIAS, False), (RELU_BIAS, False)]
    assert opened.lt._trusted == {("float32", *kind): True for kind in kinds}


class Turned(CublasLtImitation):
    """As if the numbers of the two transpositions were each other's."""

    def cublasLtMatmulDescSetAttribute(self, of, attribute, *rest):
        attribute.value = {3: 4, 4: 3}.get(attribute.value, attribute.value)
        return super().cublasLtMatmulDescSetAttribute(of, attribute, *rest)


class Doubled(CublasLtImitation):
    def cublasLtMatmul(self, *args):
        before = len(self.launched)
        status = super().cublasLtMatmul(*args)
        if len(self.launched) > before:
            super().cublasLtMatmul(*args)
            d, stream = args[10], args[-1]
            size = 24 * 8
            memory = np.ctypeslib.as_array(ctypes.cast(d.value, ctypes.POINTER(ctypes.c_float)), (size,))
            from cupy_on_host.streams import Stream

            Stream.known[stream.value].do(lambda: np.multiply(memory, 2, out=memory))
        return status


class Deaf(CublasLtImitation):
    """Does not hear of a bias."""

    def cublasLtMatmulDescSetAttribute(self, of, attribute, value, size):
        if attribute.value == 7 and value._obj.value != PLAIN:
            value._obj.value = PLAIN
        return super().cublasLtMatmulDescSetAttribute(of, attribute, value, size)


def test_what_differs_is_not_used(monkeypatch, caplog):
    a, b, bias = on_device(normal(24, 16)), on_device(normal(16, 8)), on_device(normal(8))
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    said = []
    for imitation in (Turned, Doubled, Deaf):
        monkeypatch.setattr(cupy_lt, "_load", imitation)
        forget_choices()
        caplog.clear()
        with stream:
            products = cupy_blas.Products(stream, False, Choices())
            with cupy_blas.directly(products):
                made = [cupy_blas.matmul(a, b) for _ in range(2)]
                expected = fake_cupy.asnumpy(a) @ fake_cupy.asnumpy(b)
                assert all(np.array_equal(fake_cupy.asnumpy(one), expected) for one in made)
                assert (products.cublas._library.products == 4 + 2) == (imitation is not Deaf)
                assert (cupy_blas.biased_product(a, b, bias) is None) == (imitation is not CublasLtImitation)
        said.append([record.getMessage() for record in caplog.records])
    assert "float32: cublasLtMatmulAlgoGetHeuristic of cuBLASLt failed with status 7" in said[0][0]
    assert said[1][0].startswith("cuBLASLt is not used for products of float32: a product of cuBLASLt differs by ")
    assert said[2][0].startswith("cuBLASLt is not used for products of float32 with a bias: a product of cuBLASLt diff")
    assert [len(sentences) for sentences in said] == [2, 2, 1]


def test_what_cannot_be_loaded_is_said_once(monkeypatch, caplog):
    def missing():
        raise BackendError("cuBLASLt cannot be loaded: no such file")

    monkeypatch.setattr(cupy_lt, "_load", missing)
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(2):
            products = cupy_blas.Products(stream, False, Choices())
            assert products.lt is None
            with cupy_blas.directly(products):
                cupy_blas.matmul(on_device(normal(3, 4)), on_device(normal(4, 5)))
                assert cupy_blas.biased_product(*map(on_device, (normal(3, 4), normal(4, 5), normal(5)))) is None
                assert products.cublas._library.products == 5
    (record,) = caplog.records
    assert record.getMessage() == "cuBLASLt is not used: cuBLASLt cannot be loaded: no such file"


def test_the_library_itself_cannot_be_loaded(monkeypatch):
    def missing(name):
        raise RuntimeError(f"no {name}\nanywhere")

    monkeypatch.setattr(pytest.importorskip("cuda.pathfinder"), "load_nvidia_dynamic_lib", missing)
    with pytest.raises(BackendError, match="^cuBLASLt cannot be loaded: RuntimeError: no cublasLt$"):
        load()


def test_structures_have_the_sizes_of_the_header():
    assert ctypes.sizeof(Algorithm) == 64
    assert ctypes.sizeof(cupy_lt._Heuristic) == 96
    assert Algorithm.of_hex("0b" + "00" * 63).data[0] == 11
    assert Algorithm.of_hex("ab" * 64).hex() == "ab" * 64


# ---- what is created is destroyed, and every call is checked


def test_nothing_is_left():
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        products = cupy_blas.Products(stream, False, Choices())
        functions = library(products)
        products.matmul(on_device(normal(3, 4)), on_device(normal(4, 5)))
        assert [type(value).__name__ for value in functions.alive.values()].count("_Layout") == 3
        products.matmul(on_device(normal(2, 3, 4)), on_device(normal(2, 4, 5)))
        assert len(functions.alive) == 1 + 2 * 5
        del products
    gc.collect()
    assert functions.alive == {}


def every_kind(products):
    """Products of all kinds, as bytes."""
    rng = np.random.default_rng(5)
    a, b, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 16), (16, 24), (24,)))
    with cupy_blas.directly(products):
        made = [cupy_blas.matmul(*map(on_device, given)) for given in ((a, b), (a[None], b[None]))]
        biased = cupy_blas.biased_product(on_device(a), on_device(b), on_device(bias), relu=True)
        made.append(fake_cupy.asarray(np.maximum(a @ b + bias, 0)) if biased is None else biased)
        made.append(cupy_blas.bfloat16_product(on_device(bits(a)), on_device(bits(b))))
    return [fake_cupy.asnumpy(one).tobytes() for one in made]


ALL = [pytest.param(lasting, 1, marks=pytest.mark.slow) for lasting in (False, True)]


@pytest.mark.parametrize(("lasting", "every"), [(False, 29), (True, 29), *ALL])
def test_each_failure_is_met(lasting, every, caplog):
    """The n-th call that needs memory, for all n (in the fast suite: for some of them), and nothing is left.

    It gives the numbers of always, or a sentence.
    """
    caplog.set_level(logging.CRITICAL)
    stream = fake_cupy.cuda.Stream(non_blocking=True)

    def run():
        forget_choices()
        with stream:
            products = cupy_blas.Products(stream, False, Choices())
            functions = None if products.lt is None else library(products)
            found = every_kind(products)
        del products
        gc.collect()
        assert functions is None or functions.alive == {}
        return found

    with shortage.shortage() as counted:
        expected = run()
    assert isinstance(expected, list)
    outcomes = set()
    for call in range(0, len(counted.calls), every):
        with shortage.shortage(call, lasting) as failing:
            try:
                found = run()
            except (BackendError, MemoryError, RuntimeError) as error:
                found = str(error)
        assert failing.failed
        outcomes.add("right" if found == expected else "sentence")
        if isinstance(found, str):
            assert "cuBLAS" in found or "emory" in found
        else:
            assert found == expected
    assert outcomes == {"sentence"} if lasting else {"right", "sentence"}


NAMES = [
    name
    for name in vars(CublasLtImitation)
    if name.startswith("cublasLt") and not name.endswith(("Version", "Destroy"))
]


@pytest.mark.parametrize("name", NAMES)
def test_the_status_of_every_call_is_looked_at(name, monkeypatch, caplog):
    real, calls = getattr(CublasLtImitation, name), []

    def failing(self, *args):
        calls.append(1)
        return 14

    monkeypatch.setattr(CublasLtImitation, name, failing)
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        products = cupy_blas.Products(stream, False, Choices())
        made = products.matmul(on_device(np.ones((2, 3, 4), np.float32)), on_device(np.ones((2, 4, 5), np.float32)))
        assert (fake_cupy.asnumpy(made) == 4).all()
        if name == "cublasLtMatmulAlgoCheck":
            assert not calls
            assert not caplog.records
            products.lt._plans.clear()
            products.matmul(on_device(np.ones((2, 3, 4), np.float32)), on_device(np.ones((2, 4, 5), np.float32)))
    assert calls
    assert f"{name} of cuBLASLt failed with status 14 (CUBLAS_STATUS_INTERNAL_ERROR)" in caplog.text
    assert real is not failing


def test_a_failure_of_a_launch_is_raised(opened, monkeypatch):
    """Once an algorithm was chosen, nothing falls back: the step is then computed otherwise, and the log says so."""
    a, b = on_device(normal(3, 4)), on_device(normal(4, 5))
    cupy_blas.matmul(a, b)
    monkeypatch.setattr(CublasLtImitation, "cublasLtMatmul", lambda *_: 3)
    with pytest.raises(
        BackendError, match=r"cublasLtMatmul of cuBLASLt failed with status 3 \(CUBLAS_STATUS_ALLOC_FAILED\)"
    ):
        cupy_blas.matmul(a, b)


def test_both_libraries_work_in_the_same_memory(opened):
    assert opened.lt._workspace is opened.cublas.workspace
    assert isinstance(opened.cublas._library, CublasImitation)
    assert opened.cublas.workspace.data.ptr % 256 == 0
