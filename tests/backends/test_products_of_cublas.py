"""Products of matrices by cuBLAS, called directly; on an imitation of it: see `cupy_on_host`."""

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import fake_cupy
from cupy_on_host.cublas import CublasImitation
from cupy_on_host.recorded import Portable, open_recorded
from portnn_backends.on_cupy import blas as cupy_blas


@pytest.fixture(autouse=True)
def _imitation():
    with open_recorded(Portable):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_layout(dtype, monkeypatch):
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    library = []
    monkeypatch.setattr(cupy_blas, "_load", lambda: library.append(CublasImitation()) or library[-1])
    with stream:
        cublas = cupy_blas.Cublas(stream, tf32=False)
        rng = np.random.default_rng(0)
        for m, k, n in ((3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (7, 7, 7)):
            a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
            wide = rng.normal(size=(m, k + 3)).astype(dtype)
            lefts = [
                a,
                np.asfortranarray(a),
                wide[:, :k],
                np.repeat(a, 2, axis=0)[::2],
                np.repeat(a, 2, axis=1)[:, ::2],
            ]
            rights = [b, np.asfortranarray(b), b[::-1], np.broadcast_to(b[:1], b.shape)]
            for left in lefts:
                for right in rights:
                    given = [layout(fake_cupy.asarray(np.ascontiguousarray(h)), h) for h in (left, right)]
                    stream.synchronize()
                    expected = fake_cupy.asnumpy(given[0]) @ fake_cupy.asnumpy(given[1])
                    made = cublas.matmul(*given)
                    assert made.dtype == dtype
                    np.testing.assert_allclose(fake_cupy.asnumpy(made), expected, rtol=1e-5, atol=1e-6)
    assert library[0].products > 100
    assert library[0].stream is stream
    assert library[0].modes == [0]


def layout(a, like):
    """A device array in the layout of a host array."""
    if like.ndim == 2 and like.flags.f_contiguous and not like.flags.c_contiguous:
        return a.T.copy().T
    if like.strides[0] < 0:
        return a[::-1][::-1][::-1]
    if like.base is not None and like.strides[0] > like.shape[1] * like.itemsize:
        wide = fake_cupy.empty((a.shape[0], a.shape[1] + 3), a.dtype)
        wide[:, : a.shape[1]] = a
        return wide[:, : a.shape[1]]
    return a


def test_stacks_of_products_and_tf32():
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        cublas = cupy_blas.Cublas(stream, tf32=True)
        assert cublas._library.modes == [3]
        a, b = (
            np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate([(2, 3, 4), (2, 4, 5)])
        )
        with cupy_blas.directly(cublas):
            before = cublas._library.products
            made = fake_cupy.asnumpy(cupy_blas.matmul(fake_cupy.asarray(a), fake_cupy.asarray(b)))
            assert cublas._library.products == before + 2
            empty = cupy_blas.matmul(fake_cupy.empty((0, 3), np.float32), fake_cupy.asarray(a[0]))
            assert empty.shape == (0, 4)
            mixed = cupy_blas.matmul(fake_cupy.asarray(a[0]), fake_cupy.asarray(b[0].astype(np.float64)))
            assert mixed.dtype == np.float64
        np.testing.assert_allclose(made, a @ b, rtol=1e-5)
        assert cublas._library.products == before + 2
    library = cublas._library
    del cublas
    assert library.destroyed == [77]
