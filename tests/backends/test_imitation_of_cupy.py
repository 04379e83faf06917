"""The imitation of CuPy itself, `cupy_on_host`; what its kernels are found out by stands in `test_cupy_on_host`."""

import numpy as np
import pytest
from cupy_on_host import COMPILER, fake_cupy, open_cupy_on_host, with_source

from portnn import functional


@pytest.fixture
def backend():
    with open_cupy_on_host() as backend:
        yield backend


def test_the_imitation_computes():
    a = fake_cupy.asarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(fake_cupy.asnumpy((a * 2.0)[1, 1:]), [8.0, 10.0])
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        later = a + 1.0
        assert np.isnan(later._host).all()
        assert float(later[0, 0]) == 1.0
        stream.begin_capture()
        recorded = a * 3.0
        with pytest.raises(RuntimeError, match="is capturing"):
            float(recorded[0, 0])
        with pytest.raises(RuntimeError, match="is capturing"):
            fake_cupy.asarray([1.0])
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            a @ a.T
        graph = stream.end_capture()
    graph.launch()
    np.testing.assert_array_equal(fake_cupy.asnumpy(recorded), fake_cupy.asnumpy(a) * 3.0)
    a[...] = 1.0
    graph.launch()
    np.testing.assert_array_equal(fake_cupy.asnumpy(recorded), np.full((2, 3), 3.0))


def test_arrays_of_the_host_are_refused(backend):
    with pytest.raises(TypeError, match="an array of the host meets one of the device"):
        backend.asarray(np.ones(2)) + np.ones(2)


def test_what_goes_back_is_overwritten_and_handed_out_again():
    with fake_cupy.cuda.using_allocator(fake_cupy.cuda.MemoryPool().malloc):
        a = fake_cupy.asarray([1.0, 2.0])
        view = a[1:]
        there, address = a._host, a.data.ptr
        del a
        assert there[1] == 2.0  # the view keeps it
        del view
        assert np.isnan(there).all()
        assert fake_cupy.empty(2).data.ptr == address


@pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")
def test_a_graph_that_writes_outside_an_array_is_found(backend, monkeypatch):
    with_source(monkeypatch, lambda text: text.replace("i < size", "i <= size"))
    x = backend.asarray(np.ones(5, np.float32))
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y, backward = functional.relu(x)
        slopes = backward(y)
        graph = stream.end_capture()
    assert np.isnan(slopes._host).all()
    with pytest.raises(AssertionError, match="writes outside an array"):
        graph.launch()
