"""Subnormal numbers are zeros within the steps of a training, and nowhere else."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from portnn_backends.on_numpy import subnormal
from portnn_backends.on_numpy.compile import HAS_NUMBA
from tapes import assert_by_tapes, step_by_step

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.nn.layer import Parameterless
from portnn.training import Callback

needs_mode = pytest.mark.skipif(
    subnormal._environment() is None, reason="only on Linux with glibc on x86-64 is there such a mode"
)

X, Y = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32), np.arange(24) % 3
#: (the smallest normal number doubled, a subnormal one) for each dtype; the product of the first and 0.1 is subnormal.
SMALL = {"float32": (2.4e-38, 1e-40), "float64": (4.5e-308, 1e-310)}


def seen(dtype="float32"):
    """A result, an operand and a sum, each of which is 0 where subnormal numbers are zeros, and otherwise is not."""
    normal, operand = (np.full(9, value, dtype) for value in SMALL[dtype])
    large = np.asarray(1e30, dtype)
    return [float((normal * np.asarray(0.1, dtype))[0] * large), float((operand * large)[0]), float(np.sum(operand))]


def zeros_seen(dtype="float32"):
    found = seen(dtype)
    assert len({value == 0.0 for value in found}) == 1, found
    return found[0] == 0.0


def own_layer(function):
    return type("Own", (Parameterless,), {"function": staticmethod(lambda x: (function(x), lambda dy: dy))})()


@dataclass(frozen=True)
class Shifted(optim.SGD):
    """SGD with gradients to which is added what is 0 where subnormal numbers are zeros, and else 0.24."""

    def update(self, params, grads, slots, hyper):
        grads = tree.map(lambda g: g + (((g * 0.0 + SMALL["float32"][0]) * 0.1) * 1e38), grads)
        return super().update(params, grads, slots, hyper)


def make(*callbacks, layer=None, optimizer=None, hidden=5, dtype="float32", **options):
    layers = [nn.Affine(hidden), layer or nn.ReLU(), nn.Affine(3)]
    network = Network(nn.Sequential(layers), 4, device="cpu", rng=0, dtype=dtype)
    optimizer = optimizer or optim.SGD(lr=0.1)
    return Trainer(network, losses.SoftmaxCrossEntropy(), optimizer, rng=0, callbacks=callbacks, **options)


def fit(trainer, epochs=5, **options):
    """20 steps."""
    trainer.fit(X, Y, epochs=epochs, batch_size=6, **options)
    return trainer


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert not subnormal.is_flushing()
    assert not zeros_seen()
    assert not zeros_seen("float64")


@needs_mode
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_within_a_step_they_are_zeros(dtype):
    found = []

    def look(x):
        found.append(zeros_seen(dtype))
        return x * 1.0

    fit(make(layer=own_layer(look), dtype=dtype))
    assert len(found) >= 8
    assert all(found)


@needs_mode
@pytest.mark.parametrize("hidden", [5, 3000], ids=["small", "on all cores"])
def test_also_on_a_tape_and_on_all_cores(hidden):
    shifted, plain = (fit(make(optimizer=o(lr=0.1), hidden=hidden)) for o in (Shifted, optim.SGD))
    if HAS_NUMBA:
        assert_by_tapes(shifted)
        assert_by_tapes(plain)
    tree.map(np.testing.assert_array_equal, shifted.network.params, plain.network.params)


@needs_mode
def test_also_step_by_step():
    with step_by_step():
        shifted, plain = (fit(make(optimizer=o(lr=0.1))) for o in (Shifted, optim.SGD))
    tree.map(np.testing.assert_array_equal, shifted.network.params, plain.network.params)


@needs_mode
def test_outside_of_the_steps_they_are_numbers():
    found = []

    class Look(Callback):
        def on_fit_begin(self, trainer, epochs, steps_per_epoch):
            found.append(zeros_seen())

        def on_losses(self, trainer, losses):
            found.append(zeros_seen())

        def on_epoch_end(self, trainer, record):
            found.append(zeros_seen())

        def due(self, trainer):
            return True

        def on_pause(self, trainer):
            found.append(zeros_seen())

        def on_fit_end(self, trainer):
            found.append(zeros_seen())

    def metric(prediction, target):
        found.append(zeros_seen())
        return np.mean(prediction)

    def order(n, epoch):
        found.append(zeros_seen())
        return np.arange(n)

    fit(make(Look(), metrics={"own": metric}, order=order), validation_data=(X, Y))
    assert len(found) > 50
    assert not any(found)


@needs_mode
@pytest.mark.parametrize("at", [2, 9, 11], ids=["in a step", "while it is recorded", "while a tape is checked"])
def test_after_an_error_they_are_numbers(at):
    calls = []

    def fail(x):
        calls.append(zeros_seen())
        if len(calls) >= at:
            raise ZeroDivisionError
        return x * 1.0

    with pytest.raises(ZeroDivisionError):
        fit(make(layer=own_layer(fail)))
    assert len(calls) >= at
    assert all(calls)
    assert not zeros_seen()  # and again after the test


@needs_mode
def test_other_threads_keep_their_mode():
    found, over = [], threading.Event()

    def look():
        while not over.is_set():
            found.append(zeros_seen())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        fit(make(), epochs=100)
    finally:
        over.set()
        thread.join()
    assert found
    assert not any(found)


@needs_mode
def test_blocks_within_blocks():
    with subnormal.flushed():
        with subnormal.flushed():
            assert zeros_seen()
        assert subnormal.is_flushing()
        assert zeros_seen()
        subnormal.flush(False)
        assert not zeros_seen()
        subnormal.flush(True)
        assert zeros_seen()
    assert not zeros_seen()


@needs_mode
def test_rounding_that_somebody_has_set_is_kept():
    import ctypes

    library = ctypes.PyDLL("libm.so.6")
    upward, to_nearest = 0x800, 0  # of fenv.h on x86-64
    third = np.ones(9, np.float32), np.full(9, 3, np.float32)
    nearest = (third[0] / third[1])[0]
    assert library.fesetround(upward) == 0
    try:
        with subnormal.flushed():
            within = (third[0] / third[1])[0]
        after = (third[0] / third[1])[0]
        still = library.fegetround()
    finally:
        library.fesetround(to_nearest)
    assert still == upward
    assert within == after >= nearest


@needs_mode
def test_finfo_does_not_warn():
    """NumPy asks the processor for the smallest number once, when it is first asked for it itself."""
    program = """
import numpy as np
from portnn import Network, Trainer, losses, nn, optim
from portnn.nn.layer import Parameterless
from portnn_backends.on_numpy.subnormal import is_flushing
kinds, told = [np.float16, np.float32, np.float64, np.longdouble], []

def look(x):
    assert is_flushing()
    for kind in kinds:
        info = np.finfo(kind)
        told.append((info.smallest_subnormal.tobytes().strip(bytes(1)), info.tiny > 0, str(info)))
    return x * 1.0

own = type("Own", (Parameterless,), {"function": staticmethod(lambda x: (look(x), lambda dy: dy))})()
network = Network(nn.Sequential([nn.Affine(5), own, nn.Affine(3)]), 4, device="cpu", rng=0)
x, y = np.ones((24, 4), np.float32), np.arange(24) % 3
Trainer(network, losses.SoftmaxCrossEntropy(), optim.SGD(), rng=0).fit(x, y, batch_size=8)
assert len(told) == 12 and all(smallest and tiny for smallest, tiny, _ in told), told
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def moments_of_a_dead_unit():
    """What Adam remembers of a unit whose gradient is 0 from some step on."""
    trainer = fit(make(optimizer=optim.Adam(lr=0.01, beta1=0.9, beta2=0.9)))
    params = trainer.network.params
    first = {name: p.copy() for name, p in params[0].items()}
    first["b"][2] = -1000.0
    trainer.network.params = (first, *params[1:])
    assert all(np.all(m[0]["w"][:, 2] != 0) for m in trainer.stepper.slots)
    fit(trainer, epochs=300)
    assert np.isfinite(trainer.history["loss"][-1])
    return [m[0][name][..., 2] for m in trainer.stepper.slots for name in ("w", "b")]


@needs_mode
def test_moments_of_a_dead_unit_end_at_zero():
    for moment in moments_of_a_dead_unit():
        assert np.all(moment == 0.0)


def test_where_there_is_no_such_mode_nothing_happens(monkeypatch):
    """And the moments stay for ever among the smallest numbers there are: 0.9 of one is itself."""
    monkeypatch.setattr(subnormal, "_environment", lambda: None)
    with subnormal.flushed():
        assert not subnormal.is_flushing()
        assert not zeros_seen()
    moments = moments_of_a_dead_unit()
    assert all(np.all(np.abs(m) < np.finfo(np.float32).tiny) for m in moments)
    assert any(np.any(m != 0.0) for m in moments)


@pytest.mark.parametrize(
    "system", [("darwin", "x86_64", "glibc"), ("linux", "aarch64", "glibc"), ("linux", "x86_64", "musl")], ids=str
)
def test_other_systems_are_left_alone(system, monkeypatch):
    platform, machine, library = system
    monkeypatch.setattr(subnormal.sys, "platform", platform)
    monkeypatch.setattr(subnormal.platform, "machine", lambda: machine)
    monkeypatch.setattr(subnormal.platform, "libc_ver", lambda: (library, ""))
    assert subnormal._environment.__wrapped__() is None
