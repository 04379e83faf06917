"""Products in bfloat16 with float32 sums on CuPy, recorded and not. No GPU: see `cupy_on_host`."""

import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from bfloat16 import (
    Y,
    assert_of_rounded_factors,
    assert_predicts_with_rounded_factors,
    assert_trains_with_rounded_factors,
    computed,
    normal,
    rounded,
)
from lanes import STATUS

pytest.importorskip("cupy")

import cupy_backends.cuda.libs
from cupy_on_host import COMPILER, fake_cupy, launches
from cupy_on_host.recorded import Recorded, open_recorded
from portnn_backends.on_cupy import bf16 as cupy_bf16
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy.recording import Recorder

from portnn import Network, Trainer, functional, get_backend, losses, nn, optim
from portnn.backend import backend_of
from portnn.errors import BackendError

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")

_DEFAULT, _TF32 = 0, 3  # cublasMath_t


@pytest.fixture
def modes(monkeypatch):
    """The mode of CuPy's own products: ``now``, and at each product that was computed."""
    found = SimpleNamespace(now=_DEFAULT, of_products=[])
    library = SimpleNamespace(
        getMathMode=lambda handle: found.now, setMathMode=lambda handle, mode: setattr(found, "now", mode)
    )
    monkeypatch.setitem(vars(cupy_backends.cuda.libs), "cublas", library)
    monkeypatch.setattr(fake_cupy.cuda, "get_cublas_handle", lambda: "handle", raising=False)
    multiply = fake_cupy.matmul

    def matmul(a, b):
        found.of_products.append(found.now)
        return multiply(a, b)

    monkeypatch.setattr(fake_cupy, "matmul", matmul)
    return found


@pytest.fixture
def plain(modes):
    with open_recorded(Recorded) as backend:
        yield backend


@pytest.fixture
def bf16(plain):
    return plain.with_precision("bf16")


# ---- the kernels


def edges():
    ulp = 2.0**-7
    near = [1 + ulp / 2, 1 + 1.5 * ulp, 1 + ulp / 2 + 2**-20, -1 - ulp / 2, 3.4e38, 1e-45, -1e-40, 1.2e-38]
    return np.asarray([*near, 0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize(
    ("a", "turned"),
    [(edges()[None], False), (normal(300, 70), False), (normal(300, 70), True), (normal(3, 5, 7), True)],
    ids=["edges", "rows", "columns", "stack"],
)
def test_numbers_are_rounded_to_the_nearest(plain, a, turned):
    given = plain.asarray(a)
    given, a = (given.mT, np.swapaxes(a, -1, -2)) if turned else (given, a)
    with launches() as launched:
        made = [convert(given) for convert in (cupy_bf16.bits, cupy_bf16.rounded)]
    assert all((m.strides[-2] == m.itemsize) is turned for m in made)  # as it lay
    narrow, same = map(fake_cupy.asnumpy, made)
    assert launched == ["to_bfloat16", "round_to_bfloat16"]
    assert (narrow.dtype, same.dtype) == (np.uint16, np.float32)
    np.testing.assert_array_equal(same, rounded(a))
    np.testing.assert_array_equal((narrow.astype(np.uint32) << 16).view(np.float32), rounded(a))
    np.testing.assert_array_equal(np.signbit(same), np.signbit(a))


def test_gaps_between_rows(plain):
    a = normal(6, 8)
    given = plain.asarray(a)[::2, 1:5]
    np.testing.assert_array_equal(fake_cupy.asnumpy(cupy_bf16.rounded(given)), rounded(a[::2, 1:5]))


# ---- products


@pytest.fixture(params=["at once", "recorded"])
def entered(request, bf16, modes):
    """Products that CuPy computes, or that are called directly, as in steps that are recorded."""
    if request.param == "at once":
        yield bf16
        assert set(modes.of_products) == {_TF32}
        assert modes.now == _DEFAULT
    else:
        recorder = Recorder(True)
        modes.of_products.clear()  # those that others were compared with
        with recorder._inside():
            yield bf16
        lt = recorder._products.lt
        kinds = {problem.kind for problem in lt._plans}
        assert kinds <= {"bfloat16 to float32", "tf32"}
        assert "bfloat16 to float32" in kinds


@pytest.mark.parametrize("shapes", [((40, 700), (700, 30)), ((3, 17, 90), (3, 90, 8)), ((2, 2, 5, 65), (2, 2, 65, 4))])
def test_matmul(entered, shapes):
    a, b = (normal(*shape) for shape in shapes)
    assert_of_rounded_factors(computed(entered, functional.matmul, a, b), [rounded(a) @ rounded(b)], [a @ b])


def test_affine(entered):
    x, w, b, dy = normal(64, 500), normal(500, 32), normal(32), normal(64, 32)
    y, dx, dw, db = computed(entered, functional.affine, x, w, b, dy=dy)
    expected = rounded(x) @ rounded(w) + b, rounded(dy) @ rounded(w).T, rounded(x).T @ rounded(dy)
    assert_of_rounded_factors([y, dx, dw], expected, [x @ w + b, dy @ w.T, x.T @ dy])
    np.testing.assert_allclose(db, dy.sum(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("function", [functional.conv2d, functional.conv_transpose2d])
def test_convolutions(entered, function, groups):
    x, w, b = normal(3, 9, 10, 4), normal(3, 3, 4 // groups, 4), normal(4)
    host = get_backend("cpu")
    dy = normal(*computed(host, lambda *a: function(*a, groups=groups)[0], x, w, b)[0].shape)
    found = computed(entered, function, x, w, b, dy=dy, groups=groups)[:3]
    expected, exact = (
        computed(host, function, f(x), f(w), b, dy=f(dy), groups=groups)[:3] for f in (rounded, np.asarray)
    )
    assert_of_rounded_factors(found, expected, exact)


def test_other_products(bf16, modes):
    """Of nothing, of float64, and those that are written with ``@``."""
    a, b = np.zeros((3, 0), np.float32), np.zeros((0, 2), np.float32)
    np.testing.assert_array_equal(computed(bf16, functional.matmul, a, b)[0], np.zeros((3, 2)))
    a, b = normal(20, 300), normal(300, 10)
    np.testing.assert_allclose(computed(bf16, lambda a, b: a @ b, a, b)[0], a @ b, atol=1e-4)
    with bf16.context():
        wide = functional.matmul(*[bf16.asarray(v, "float64") for v in (a, b)])
    np.testing.assert_allclose(bf16.to_numpy(wide), a.astype(np.float64) @ b, rtol=1e-10)
    assert set(modes.of_products) == {_DEFAULT}


def test_the_precision_is_that_of_the_innermost_context(plain, bf16, modes):
    a = plain.asarray(normal(3, 4))
    tf32 = plain.with_precision("tf32")
    seen = []

    def look():
        seen.append((backend_of(a).precision, modes.now))

    look()
    with bf16.context():
        look()
        with tf32.context():
            look()
            with plain.context():
                look()
            look()
        look()
    look()
    assert seen == [
        ("float32", _DEFAULT),
        ("bf16", _DEFAULT),
        ("tf32", _TF32),
        ("float32", _DEFAULT),
        ("tf32", _TF32),
        ("bf16", _DEFAULT),
        ("float32", _DEFAULT),
    ]


# ---- networks


def test_training_and_inference_are_those_of_rounded_factors(bf16, modes):
    with launches() as launched:
        trainer = assert_trains_with_rounded_factors(bf16)
    loop = trainer.stepper.loop
    assert (loop.reason, loop.graphs) == (None, 1)
    assert {problem.kind for problem in loop._recorder._products.lt._plans} == {"bfloat16 to float32"}
    # Of 20 steps, all but the first one were launched as a graph; two products each, as the last layer and the loss are
    # a group, whose kernels round their factors themselves.
    assert launched.count("to_bfloat16") == 20 * 4
    assert "round_to_bfloat16" not in launched
    modes.of_products.clear()
    assert_predicts_with_rounded_factors(trainer)
    assert set(modes.of_products) == {_TF32}


def test_training_on_images_is_that_of_torch(bf16, plain):
    """Layers that may be computed together, too."""
    if not STATUS["torch"].usable:
        pytest.skip(STATUS["torch"].message)

    def losses_of(backend):
        layers = [nn.Conv2D(8, 3), nn.MaxPool2D(), nn.ReLU(), nn.Flatten(), nn.Affine(12), nn.ReLU(), nn.Affine(3)]
        net = Network(nn.Sequential(layers), (8, 8, 2), device=backend, rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(0.1), rng=0)
        trainer.fit(normal(32, 8, 8, 2), Y[:32], epochs=6, batch_size=32)
        return np.asarray(trainer.history["loss"])

    of_torch, exact = losses_of(get_backend("torch", "bf16")), losses_of(plain)
    assert np.abs(losses_of(bf16) - of_torch).max() < 0.1 * np.abs(exact - of_torch).max()


def test_without_cublaslt_the_rounded_factors_go_through_tf32(bf16, monkeypatch, caplog):
    def load():
        raise BackendError("cuBLASLt cannot be loaded: it is not there")

    monkeypatch.setattr(cupy_lt, "_load", load)
    with caplog.at_level(logging.WARNING, "portnn_backends.on_cupy"), launches() as launched:
        loop = assert_trains_with_rounded_factors(bf16).stepper.loop
    assert caplog.messages == ["cuBLASLt is not used: cuBLASLt cannot be loaded: it is not there"]
    assert (loop.reason, loop.graphs) == (None, 1)
    assert launched.count("round_to_bfloat16") == 20 * 4
    assert loop._recorder._products.cublas._library.modes == [_TF32]


def test_a_product_that_cublaslt_cannot_do(bf16, caplog):
    """Matrices of a stack that begin at multiples of 2 bytes, as far as the imitation goes."""
    a, b = normal(4, 5, 65), normal(4, 65, 4)
    with Recorder(True)._inside(), launches() as launched:
        found = computed(bf16, functional.matmul, a, b)
    assert_of_rounded_factors(found, [rounded(a) @ rounded(b)], [a @ b])
    assert launched == ["to_bfloat16"] * 2 + ["round_to_bfloat16"] * 2
    assert "cuBLASLt is not used for a product (it has no algorithm for that)" in caplog.text


def test_it_is_a_property_of_a_backend(plain, bf16):
    assert (plain.precision, bf16.precision) == ("float32", "bf16")
    copied = pickle.loads(pickle.dumps(bf16))
    assert (str(copied), copied.precision) == ("cupy:0", "bf16")


def test_gpus_without_bf16(plain):
    plain._device.compute_capability = "75"
    with pytest.raises(
        BackendError,
        match=r"backend cupy:0 cannot multiply in bfloat16: its compute capability is 7\.5, and bfloat16 came with 8",
    ):
        plain.with_precision("bf16")
