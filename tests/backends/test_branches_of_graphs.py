"""Gradients of weights and of inputs side by side, in a branch of the recorded step. No GPU: see `cupy_on_host`."""

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import COMPILER, fake_cupy, streams
from cupy_on_host.cublaslt import CublasLtImitation
from cupy_on_host.recorded import Portable, Recorded, open_recorded
from portnn_backends.on_cupy import beside as cupy_beside
from portnn_backends.on_cupy import lt as cupy_lt
from portnn_backends.on_cupy.beside import beside
from portnn_backends.on_cupy.loop import GraphLoop
from portnn_backends.on_cupy.recording import Recorder
from recorded_runs import X, Y, bits, make

from portnn.errors import BackendError
from portnn.functional.linear import matmul

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")


@pytest.fixture
def opened():
    with open_recorded(Portable):
        yield


def on_device(*shape):
    return fake_cupy.asarray(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


@pytest.fixture
def joins(monkeypatch):
    """How many branches began or ended."""
    count, real = [], fake_cupy.cuda.Stream.wait_event
    monkeypatch.setattr(
        fake_cupy.cuda.Stream, "wait_event", lambda self, event: (event.captured and count.append(1), real(self, event))
    )
    return count


# ---- in a run


def trained(epochs=3):
    trainer = make(Recorded(), layers=())
    trainer.fit(X, Y, epochs=epochs, batch_size=16)
    assert trainer.stepper.loop.reason is None
    return trainer


@needs_compiler
def test_a_run_with_branches_has_the_same_bits(joins, monkeypatch):
    """Whichever is done first, the branch or what is beside it."""
    with open_recorded(Recorded):
        found = []
        for first in (False, True):
            monkeypatch.setattr(streams, "branches_first", first)
            joins.clear()
            found.append(bits(trained()))
            assert len(joins) == 2 * 2  # one layer gives a gradient of its inputs; batches have two shapes
        monkeypatch.setattr(cupy_beside, "_LARGE", 0)
        joins.clear()
        found.append(bits(trained()))
        assert joins == []
        real = GraphLoop._rehearse

        def rehearse(self, recorder, form, chunk, data, turn):
            real(self, recorder, form, chunk, data, turn)
            form.rehearsed.clear()

        monkeypatch.setattr(GraphLoop, "_rehearse", rehearse)
        found.append(bits(trained()))  # nothing is recorded
    assert all(one == found[0] for one in found)


@needs_compiler
def test_without_cublaslt(joins, monkeypatch):
    def missing():
        raise BackendError("cuBLASLt cannot be loaded: no such file")

    with open_recorded(Recorded):
        expected = bits(trained())
        monkeypatch.setattr(cupy_lt, "_load", missing)
        joins.clear()
        assert bits(trained()) == expected
        assert joins


# ---- alone


@pytest.mark.parametrize("first", [False, True])
def test_products_side_by_side(opened, joins, monkeypatch, first):
    monkeypatch.setattr(streams, "branches_first", first)
    recorder, a, b = Recorder(False), on_device(8, 16), on_device(16, 4)
    workspaces = []
    real = CublasLtImitation.cublasLtMatmul
    monkeypatch.setattr(
        CublasLtImitation,
        "cublasLtMatmul",
        lambda self, *args: (workspaces.append((args[-3].value, args[-1].value)), real(self, *args))[1],
    )

    def body():
        left, right = beside(lambda: matmul(a, b), lambda: matmul(b.T, a.T), 100)
        return matmul(left, right)

    at_once = fake_cupy.asnumpy(recorder.compute(body))
    assert joins == []  # one after the other
    workspaces.clear()
    graph, made = recorder.record(body)
    assert len(joins) == 2
    aside, own, after = workspaces
    assert own == after
    assert aside[0] != own[0]  # another memory to work in
    assert aside[1] != own[1]  # on another stream
    for _ in range(2):
        graph.launch()
        assert fake_cupy.asnumpy(made).tobytes() == at_once.tobytes()


def test_what_is_large_is_done_in_a_row(opened, joins, monkeypatch):
    recorder, a, b = Recorder(False), on_device(8, 16), on_device(16, 4)
    for pairs, branches in ((cupy_beside._LARGE, 0), (cupy_beside._LARGE - 1, 2)):

        def body(pairs=pairs):
            return beside(lambda: matmul(a, b), lambda: matmul(b.T, a.T), pairs)

        recorder.compute(body)
        recorder.record(body)
        assert len(joins) == branches


def test_what_was_not_computed_before_is_done_in_a_row(opened, joins):
    recorder, a, b = Recorder(False), on_device(8, 16), on_device(16, 4)
    graph, (left, right) = recorder.record(lambda: beside(lambda: a + 1.0, lambda: b + 1.0, 1))
    assert joins == []
    graph.launch()
    assert np.array_equal(fake_cupy.asnumpy(right), fake_cupy.asnumpy(b) + 1)
    assert beside(lambda: 1, lambda: 2, 1) == (1, 2)  # and where nobody records


@pytest.mark.parametrize("where", ["first", "second"])
@pytest.mark.parametrize("how", ["compute", "record"])
def test_a_branch_that_fails(opened, how, where):
    """Nothing is under way then; and the products that follow are on the first stream again."""
    recorder, a, b = Recorder(False), on_device(8, 16), on_device(16, 4)

    def fails():
        matmul(a, b)
        raise BackendError("no")

    def works():
        return matmul(a, b)

    recorder.compute(lambda: beside(works, works, 1))
    with pytest.raises(BackendError, match="^no$"):
        getattr(recorder, how)(lambda: beside(*((fails, works) if where == "first" else (works, fails)), 1))
    own = recorder._stream, recorder._branch._side
    assert [stream.captured for stream in own] == [None, None]
    waiting = [work.__qualname__ for stream in own for work in stream.waiting]
    assert [name for name in waiting if not name.startswith("_give_back")] == []
    assert recorder._products.lt._stream is recorder._products.cublas._library.stream is own[0]
    graph, made = recorder.record(works)
    graph.launch()
    np.testing.assert_allclose(fake_cupy.asnumpy(made), fake_cupy.asnumpy(a) @ fake_cupy.asnumpy(b), rtol=1e-5)


# ---- the imitation


def test_a_branch_that_nobody_waits_for_is_found():
    one, other = (fake_cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    one.begin_capture()
    other.wait_event(one.record())
    with pytest.raises(RuntimeError, match="a branch of the graph was not waited for"):
        one.end_capture()
    assert other.captured is None
    outside = other.record()
    one.begin_capture()
    with pytest.raises(RuntimeError, match="an event that is not of the graph"):
        one.wait_event(outside)
    one.end_capture()


@pytest.mark.parametrize("first", [False, True])
def test_the_order_of_branches(monkeypatch, first):
    monkeypatch.setattr(streams, "branches_first", first)
    one, other = (fake_cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    done = []
    one.begin_capture()
    one.do(lambda: done.append("before"))
    other.wait_event(one.record())
    one.do(lambda: done.append("beside"))
    other.do(lambda: done.append("branch"))
    one.wait_event(other.record())
    one.do(lambda: done.append("after"))
    one.end_capture().launch()
    assert done == ["before", *(["branch", "beside"] if first else ["beside", "branch"]), "after"]
