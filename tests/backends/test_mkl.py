"""Products by MKL, where the rule says so: on an imitation of its library, which says what it was asked for."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from portnn_backends.on_numpy import mkl, products
from portnn_backends.on_numpy.mkl import Mkl
from portnn_backends.on_numpy.products import product
from portnn_backends.on_numpy.workspace import workspace
from tapes import assert_by_tapes, assert_same_bits, by_both, needs_numba

from portnn import Network, Trainer, losses, nn, optim
from portnn.backend import get_backend
from portnn.errors import BackendError

COMPILER = shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no gcc, which compiles the imitation of MKL")

SOURCE = """
#include <math.h>
static int threading = THREADING, calls = 0;
int MKL_Set_Interface_Layer(int layer) { return layer; }
int MKL_Set_Threading_Layer(int layer) { return threading < 0 ? layer : threading; }
int MKL_CBWR_Set(int mode) { return mode == (2 | 0x10000) ? REPRODUCIBLE : -1; }
int count_of_calls(void) { return calls; }
#define GEMM(NAME, REAL) \\
void NAME(int order, int ta, int tb, int m, int n, int k, REAL alpha, const REAL *a, int lda, const REAL *b, int ldb, \\
          REAL beta, REAL *c, int ldc) { \\
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST); \\
    for (int i = 0; i < m; i++) \\
        for (int j = 0; j < n; j++) { \\
            REAL sum = order == 101 && beta == 0 ? 0 : NAN; \\
            for (int l = 0; l < k; l++) \\
                sum += (ta == 112 ? a[l * lda + i] : a[i * lda + l]) * (tb == 112 ? b[j * ldb + l] : b[l * ldb + j]); \\
            c[i * ldc + j] = alpha * sum; \\
        } \\
}
GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mkl")

    def built(threading=-1, reproducible=0):
        path = folder / f"libmkl_rt_{threading}_{reproducible}.so"
        command = [COMPILER, "-shared", "-fPIC", f"-DTHREADING={threading}", f"-DREPRODUCIBLE={reproducible}"]
        subprocess.run([*command, "-x", "c", "-", "-o", str(path)], input=SOURCE.encode(), check=True)
        return str(path)

    return built


@pytest.fixture
def used(build, monkeypatch):
    """MKL as the rule has found it; how often it was called."""
    path = build()
    library, calls = Mkl(path), ctypes.CDLL(path).count_of_calls
    monkeypatch.setattr(products, "mkl", lambda: library)
    return calls


def matrices(dtype):
    """A matrix in all the ways in which one may lie in memory, and whether MKL can read it."""
    values = np.arange(-20, 220, dtype=dtype).reshape(12, 20) / 16
    return {
        "rows": (values[:5, :6].copy(), True),
        "part of rows": (values[2:7, 3:9], True),
        "turned": (values[:6, :5].copy().T, True),
        "part of turned": (values[:6, 4:9].T, True),
        "every other": (values[:5, :12:2], False),
        "backwards": (values[4::-1, :6], False),
    }


@needs_numba
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layout(used, dtype):
    with get_backend("numpy").context():
        workspace().cores()
        for name, (a, known) in matrices(dtype).items():
            for other, (b, known_too) in matrices(dtype).items():
                before, out = used(), np.full((5, 5), np.nan, dtype)
                product(a, b.T, out)
                assert used() - before == (known and known_too), (name, other)
                np.testing.assert_allclose(out, a @ b.T, rtol=1e-5, err_msg=f"{name}, {other}")


@needs_numba
@pytest.mark.parametrize("shapes", [((1, 1), (1, 1)), ((1, 7), (7, 1)), ((7, 1), (1, 3)), ((4, 1), (1, 1))])
def test_one_row_and_one_column(used, shapes):
    a, b = (np.arange(1.0, 1 + np.prod(shape)).reshape(shape) for shape in shapes)
    with get_backend("numpy").context():
        workspace().cores()
        for x, y in ((a, b), (a.T.copy().T, b.T.copy().T)):
            before, out = used(), np.empty((len(a), b.shape[1]))
            product(x, y, out)
            assert used() == before + 1
            np.testing.assert_array_equal(out, a @ b)


@needs_numba
def test_what_is_numpys(used):
    a = np.ones((3, 4), np.float32)
    with get_backend("numpy").context():
        workspace().cores()
        before = used()
        assert product(a[:, :0], a.T[:0], np.empty((3, 3), np.float32)).tolist() == [[0.0] * 3] * 3
        product(a.astype(int), a.T.astype(int), np.empty((3, 3), int))
    product(a, a.T, np.empty((3, 3), np.float32))  # BLAS has its threads here
    assert used() == before


@needs_numba
def test_a_recorded_step_calls_it_and_has_the_bits_of_the_plain_one(used):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((320, 6, 6, 1), np.float32), rng.integers(0, 3, 320)

    def train():
        layers = [nn.Conv2D(4, 3), nn.ReLU(), nn.Flatten(), nn.Affine(24), nn.Tanh(), nn.Affine(3)]
        net = Network(nn.Sequential(layers), input_shape=(6, 6, 1), rng=0)
        trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
        before = used()
        trainer.fit(x, y, epochs=4, batch_size=16)
        assert used() - before >= 80 * 5  # of 80 steps, whose affine maps have five products
        return trainer

    ours, theirs = by_both(train)
    assert_by_tapes(ours)
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize(("threading", "reproducible"), [(0, 0), (-1, -8)])
def test_a_library_that_does_not_compute_as_it_is_to_is_refused(build, threading, reproducible):
    expected = "another package has chosen" if threading == 0 else "strict reproducibility .* status -8"
    with pytest.raises(BackendError, match=expected):
        Mkl(build(threading, reproducible))


def test_what_is_no_library_is_refused(tmp_path):
    path = tmp_path / "libmkl_rt.so.3"
    path.write_bytes(b"no library")
    with pytest.raises(BackendError, match="it cannot be loaded: "):
        Mkl(str(path))


def test_the_rule(monkeypatch, build, tmp_path):
    """Intel's processor, and the package: both; and a sentence where it is of no use."""
    rule = mkl.mkl.__wrapped__
    for intel, path in ((False, build()), (True, None)):
        monkeypatch.setattr(mkl, "_of_intel", lambda intel=intel: intel)
        monkeypatch.setattr(mkl, "_path", lambda path=path: path)
        assert rule() is None
    monkeypatch.setattr(mkl, "_path", build)
    assert isinstance(rule(), Mkl)
    monkeypatch.setattr(mkl, "_path", lambda: str(tmp_path / "nothing"))
    with pytest.warns(RuntimeWarning, match="MKL is installed but not used, so products are NumPy's: it cannot be"):
        assert rule() is None
