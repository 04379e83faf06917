"""Training steps recorded as CUDA graphs, on an imitation of CuPy that does not forgive; see `cupy_on_host`."""

import logging
import sys
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("cupy")

from cupy_on_host import fake_cupy
from cupy_on_host.cublas import CublasImitation
from cupy_on_host.recorded import Plain, Portable, open_recorded
from portnn_backends.on_cupy import blas as cupy_blas
from portnn_backends.on_cupy import chunk as cupy_chunk
from portnn_backends.on_cupy import loop as cupy_loop
from recorded_runs import X, Y, both, fit, make, steps_of

import portnn.backend
from portnn import nn, optim, tree
from portnn.errors import DivergenceError
from portnn.training import Callback, EarlyStopping
from portnn.training.batch import Examples


@pytest.fixture(autouse=True)
def _imitation():
    with open_recorded(Portable):
        yield


def test_a_run_is_the_same_bit_for_bit():
    """With dropout, normalisation, a learning rate that changes, and a last batch that is smaller."""
    captured = both(fit)
    (step,) = steps_of(captured)
    assert step.reason is None
    assert step.graphs == 2
    launches = [graph.launches for form in step._forms.values() for graph in form.graphs.values()]
    assert launches == [3 * 4 - 1, 4 - 1]  # all steps but the first of each shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_pieces_of_a_step(dtype):
    """Weights, a penalty, and a dtype."""

    def run(trainer):
        fit(trainer, sample_weight=np.linspace(0.5, 1.5, 50).astype(dtype))

    from portnn.regularizers import ElasticNet

    captured = both(run, regularizer=ElasticNet(0.01, 0.5), layers=(nn.LayerNorm(), nn.Sigmoid()))
    assert steps_of(captured)[0].graphs == 2


def test_numbers_that_were_baked_in_would_be_seen(monkeypatch):
    monkeypatch.setattr(cupy_chunk.Form, "_arrays", lambda self, turn: self._numbers[turn][0])
    captured, plain = make(layers=()), make(Plain(), layers=())
    fit(captured)
    fit(plain)
    assert captured.history["loss"] != plain.history["loss"]


def test_addresses_that_moved_would_be_seen(monkeypatch):
    monkeypatch.setattr(cupy_chunk.Form, "moved", lambda self, carry, data: False)
    captured, plain = make(), make(Plain())
    for trainer in (captured, plain):
        fit(trainer)
        trainer.network.params = tree.map(trainer.network.backend.copy, make().network.params)
        with suppress(DivergenceError, IndexError):  # the numbers of the examples are in memory that was given back
            fit(trainer)
    assert captured.history["loss"] != plain.history["loss"]


def test_results_in_the_memory_of_a_graph_would_be_seen(monkeypatch):
    captured, plain = make(), make(Plain())
    monkeypatch.setattr(cupy_chunk.Form, "keep", lambda self, chunk: self._losses[: chunk.done])
    for trainer in (captured, plain):
        fit(trainer)
    assert captured.history["loss"] != plain.history["loss"]


def test_parameters_and_data_that_are_replaced():
    def run(trainer):
        fit(trainer)
        kept = trainer.network.params
        before = tree.map(trainer.network.backend.to_numpy, kept)
        trainer.network.params = tree.map(lambda a: a * 0.5, kept)
        trainer.fit(X[::-1].copy(), Y, epochs=3, batch_size=16)
        # What was replaced was not written to any more.
        tree.map(np.testing.assert_array_equal, before, tree.map(trainer.network.backend.to_numpy, kept))
        trainer.fit(X, Y, epochs=3, batch_size=16)

    captured = both(run)
    assert steps_of(captured)[0].graphs == 2
    assert steps_of(captured)[0].reason is None


def test_batches_that_come_one_by_one():
    def run(trainer):
        for i in range(12):
            trainer.partial_fit(X[i : i + 16], Y[i : i + 16])
        trainer.fit_batches([(X[:20], Y[:20]), (X[20:40], Y[20:40]), (X[40:], Y[40:])], epochs=3)

    captured = both(run)
    assert steps_of(captured)[0].graphs == 3


def test_the_best_epoch_is_restored():
    def run(trainer):
        trainer.callbacks = (EarlyStopping("val_loss", patience=1, restore_best=True),)
        fit(trainer, epochs=30)
        trainer.callbacks = ()
        fit(trainer)

    both(run, optimizer=optim.Momentum(lr=0.3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optim.Accumulate(3, optim.Adam()),
        optim.chain(optim.ClipByNorm(0.5), optim.WeightDecay(0.5, optim.Nesterov(lr=0.125))),
        optim.RMSProp(),
        optim.NAdam(),
    ],
    ids=["Accumulate", "chain", "RMSProp", "NAdam"],
)
def test_optimizers(optimizer):
    captured = both(lambda trainer: fit(trainer, epochs=6), optimizer=optimizer)
    assert all(step.reason is None and step.graphs for step in steps_of(captured))


def test_steps_that_are_skipped():
    def run(trainer):
        x = X.astype(np.float32)
        trainer.fit(x, Y, epochs=2, batch_size=10)
        x[3] = 3e38  # its loss is not finite
        trainer.fit(x, Y, epochs=3, batch_size=10)

    captured = both(run, on_nonfinite="skip", layers=(), optimizer=optim.SGD(lr=1e-4))
    assert captured.history["skipped"][-1] == 1
    assert steps_of(captured)[0].graphs == 1


def test_full_batch_methods(caplog):
    """Every evaluation is of other parameters, but in the same arrays, so that it is launched."""
    captured = both(lambda trainer: fit(trainer, epochs=25), optimizer=optim.LBFGS(), layers=(nn.Tanh(),))
    assert len(captured.history.records) == 25
    assert not caplog.records


@dataclass(frozen=True)
class OwnProduct(nn.Layer):
    """Multiplies matrices by the operator, which CuPy cannot record."""

    def init(self, rng, input_shape):
        return {"w": rng.normal((input_shape[0], input_shape[0]))}, (), input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        def backward(dy, input_grad=True):
            return dy @ params["w"].T, {"w": x.T @ dy}

        return x @ params["w"], state, backward


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (OwnProduct(), "NotImplementedError: calling cuBLAS API during stream capture is currently unsupported"),
        (nn.GaussianNoise(0.1), "BackendError: random numbers that the host draws cannot be recorded"),
    ],
    ids=["product", "noise"],
)
def test_what_cannot_be_recorded_is_computed_and_said(layer, reason, caplog):
    captured = both(fit, layers=(nn.BatchNorm(), layer, nn.Dropout(0.2)))
    (step,) = steps_of(captured)
    assert step.reason == reason
    assert step.graphs == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"the training step is computed kernel by kernel, not as a CUDA graph: {reason}"


def test_cublas_that_is_missing_or_wrong(monkeypatch, caplog):
    def missing():
        raise portnn.backend.BackendError("cuBLAS cannot be loaded: no such file")

    monkeypatch.setattr(cupy_blas, "_load", missing)
    assert steps_of(both(fit))[0].reason == "BackendError: cuBLAS cannot be loaded: no such file"

    class Turned(CublasImitation):
        def cublasGemmEx(self, handle, turn_a, turn_b, *rest):
            return super().cublasGemmEx(handle, turn_b, turn_a, *rest)

    class Doubled(CublasImitation):
        def cublasGemmEx(self, *args):
            args[6]._obj.value = 2.0
            return super().cublasGemmEx(*args)

    class Failing(CublasImitation):
        def cublasSetWorkspace_v2(self, handle, pointer, size):
            return 7

    for library, reason in (
        (Failing, "cublasSetWorkspace_v2 of cuBLAS failed with status 7"),
        (Turned, "cublasGemmEx of cuBLAS failed with status 7"),
        (Doubled, "a product of cuBLAS, called directly, differs by"),
    ):
        monkeypatch.setattr(cupy_blas, "_load", library)
        assert reason in steps_of(both(fit))[0].reason
    assert len(caplog.records) == 4


def test_a_failure_in_the_middle_changes_nothing(monkeypatch, caplog):
    """The optimizer has updated half of the parameters when it fails; the plain step begins from the start."""
    real, calls = cupy_chunk.in_place, []

    def failing(step, args):
        calls.append(1)
        real(step, args)
        raise MemoryError("out of memory")

    monkeypatch.setattr(cupy_chunk, "in_place", failing)
    captured = both(fit)
    assert len(calls) == 1
    assert steps_of(captured)[0].reason == "MemoryError: out of memory"


def test_arrays_that_are_replaced_again_and_again(caplog):
    def run(trainer):
        for i in range(40):
            trainer.network.params = tree.map(trainer.network.backend.copy, trainer.network.params)
            trainer.partial_fit(X[i % 3 :][:16], Y[i % 3 :][:16])

    captured = both(run)
    assert steps_of(captured)[0].reason == "BackendError: its arrays are replaced again and again"


@pytest.mark.slow
def test_arrays_that_are_replaced_now_and_then(monkeypatch):
    """As where a callback reads the parameters after each epoch, and may keep them."""
    monkeypatch.setattr(cupy_loop, "_MOST_MOVES", 3)
    x, y = np.concatenate([X] * 12), np.concatenate([Y] * 12)

    class Reads(Callback):
        def on_epoch_end(self, trainer, record):
            assert trainer.network.params

    def run(trainer):
        trainer.callbacks = (Reads(),)
        trainer.fit(x, y, epochs=5, batch_size=16)

    captured = both(run)
    assert steps_of(captured)[0].reason is None


def test_more_shapes_than_graphs(caplog):
    def run(trainer):
        for _ in range(3):
            for size in range(10, 22):
                trainer.partial_fit(X[:size], Y[:size])

    captured = both(run)
    (step,) = steps_of(captured)
    assert step.graphs == 8
    assert step.reason is None
    assert [record.getMessage() for record in caplog.records] == [
        "a training step has met more than 8 shapes: further ones are computed kernel by kernel"
    ]


def looped(backend, step, carry, *, steps=1, hyper=None):
    """A loop that has done some steps on three examples, what it carries on, and the losses on the host."""
    loop = backend.loop(step)
    data = Examples(backend.asarray(np.ones((3, 3))), backend.asarray(np.ones(3)))
    numbers = [{"k": float(k)} if hyper is None else hyper for k in range(steps)]
    carry, losses = loop.run(carry, data, [np.arange(3)] * steps, [0] * steps, numbers)
    return loop, carry, loop.floats([losses])


@pytest.mark.parametrize("loss", [lambda a, b, k: a["p"][0, 0], lambda a, b, k: b["q"][0, 1] * k], ids=["old", "new"])
def test_results_that_lie_in_what_is_overwritten(loss):
    """Two arrays that change places, a view, and an old value as the loss, or a number of the step times one."""

    def step(a, b, c, batch, numbers):
        return (
            {"p": b["q"] + 0.0 * batch.x, "same": a["same"]},
            {"q": a["p"]},
            {"turned": c["turned"].T},
            loss(a, b, numbers["k"]),
        )

    def trees(backend):
        p, q, r, same = (backend.asarray(np.arange(9.0).reshape(3, 3) + k) for k in (0, 10, 20, 30))
        return {"p": p, "same": same}, {"q": q}, {"turned": r}

    captured, plain = (looped(backend, step, trees(backend), steps=5) for backend in (Portable(), Plain()))
    tree.map(
        lambda a, e: np.testing.assert_array_equal(fake_cupy.asnumpy(a), fake_cupy.asnumpy(e)), captured[1], plain[1]
    )
    assert captured[2] == plain[2]
    assert len(set(plain[2])) > 1
    assert captured[0].graphs == 1


def test_arrays_given_up_twice(caplog):
    backend = Portable()
    both = backend.asarray([1.0, 2.0])
    loop, (a, b, _), losses = looped(backend, lambda a, b, c, *_: (a + 1.0, b, c, a[0]), (both, both[1:], ()))
    assert [fake_cupy.asnumpy(array).tolist() for array in (a, b)] == [[2.0, 3.0], [2.0]]
    assert losses == [1.0]
    assert loop.reason == "BackendError: two of the arrays that the step may overwrite share memory"


@pytest.mark.parametrize(
    ("step", "hyper", "dtype", "reason"),
    [
        (lambda a: (fake_cupy.concatenate([a, a]), a[0]), {}, "float64", "the step changes the shape or type of what"),
        (lambda a: (a, a), {}, "float64", "the loss of a step is a number of float64, not "),
        (lambda a: (a, a[0]), {}, "float16", "the parameters are of float16"),
        (lambda a: (a, a[0]), {"k": "many"}, "float32", "a number of the step is 'many'"),
        (lambda a: (a, a[0]), {str(k): 1 for k in range(33)}, "float32", "a step has 33 numbers, and there is room"),
    ],
    ids=["shapes", "loss", "halves", "words", "numbers"],
)
def test_steps_that_are_not_recorded(step, hyper, dtype, reason, caplog):
    """They are done all the same."""
    backend = Portable()

    def whole(a, b, c, batch, numbers):
        a, loss = step(a)
        return a, b, c, loss

    loop, (a, *_), losses = looped(backend, whole, (backend.asarray([1.0], dtype), (), ()), hyper=hyper)
    assert set(fake_cupy.asnumpy(a).tolist()) == {1.0}
    assert losses == [1.0]
    assert loop.reason.startswith(f"BackendError: {reason}")
    assert len(a) == (2 if "shape" in reason else 1)


def test_data_are_not_kept_alive():
    trainer = make()
    backend = trainer.network.backend
    x = backend.asarray(X)
    trainer.fit(x, Y, epochs=3, batch_size=16)
    before = sys.getrefcount(x)
    trainer.fit(X, Y, epochs=3, batch_size=16)
    assert sys.getrefcount(x) == before == 2
