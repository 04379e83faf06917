"""What cannot be recorded is found, and the plain loop goes on: never another number without a word."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from tapes import OTHER_NUMBERS, assert_by_tapes, assert_found, assert_same_bits, by_both, layer, needs_numba, trained

from portnn import losses

pytestmark = needs_numba


def copied_in_c(x):
    return x + np.asarray(x).copy()


def made_anew(x):
    return x * np.array(x)


def through_a_list(x):
    return x + np.asarray([[float(v) for v in row] for row in np.array(x)], x.dtype)


def branches_on_a_value(x):
    return x * 0.5 if np.max(x) > 0.1 else x


def counts_in_python(x):
    return x / max(1, int(np.sum(x > 0)))


def reads_before_writing(x):
    return np.empty_like(x) * 0.0 + x


def fills_plain_memory(x):
    made = np.empty(x.shape, x.dtype)
    made[...] = x
    return made + made


def sorts(x):
    return x + np.sort(x, axis=0)


def sorts_by_method(x):
    return x.take(x[:, 0].argsort(), axis=0)


def masks(x):
    return x * (0.02 * x[x > 0].shape[0])


def solves(x):
    return x + np.linalg.norm(x)


def by_its_own_loop(x):
    return np.vectorize(lambda v: v * 2)(x).astype(x.dtype)


LAYERS = {
    "copied in C": (copied_in_c, OTHER_NUMBERS),
    "made anew": (made_anew, OTHER_NUMBERS),
    "through a list": (through_a_list, OTHER_NUMBERS),
    "a branch on a value": (branches_on_a_value, "branches_on_a_value"),
    "counts in Python": (counts_in_python, "counts_in_python"),
    "reads before writing": (reads_before_writing, "reads_before_writing"),
    "fills plain memory": (fills_plain_memory, OTHER_NUMBERS),
    "sorts": (sorts, "sorts: numpy.sort"),
    "sorts by a method": (sorts_by_method, "sorts_by_method"),
    "masks": (masks, "masks: an index that is an array"),
    "solves": (solves, "numpy.norm"),
    "its own loop": (by_its_own_loop, ""),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    function, reason = LAYERS[name]
    assert_found(lambda: trained(layer(function)), reason)


def test_a_loss_that_is_looked_at():
    @dataclass(frozen=True)
    class Looked(losses.SoftmaxCrossEntropy):
        def __call__(self, prediction, target, sample_weight=None):
            value, backward = super().__call__(prediction, target, sample_weight)
            factor = 2.0 if float(value) > 1.0 else 1.0
            return value, lambda dloss=1.0: backward(dloss) * factor

    assert_found(lambda: trained(loss=Looked()), "Looked.__call__: a value of an array is looked at: __float__")


class Total:
    """Keeps a sum of its own over the steps, in an array."""

    def __init__(self):
        self.sum = np.zeros(6, np.float32)

    def __call__(self, x):
        self.sum += np.sum(x, axis=0)
        return x + 0.01 * self.sum


class Drawing:
    """Draws from a generator that goes on from step to step."""

    def __init__(self):
        self.generator = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.generator.normal(size=x.shape).astype(x.dtype)


class Written:
    """Writes into an array of its own that it has read."""

    def __init__(self):
        self.table = np.ones(6, np.float32)

    def __call__(self, x):
        np.multiply(self.table, np.tanh(x[0]), out=self.table)
        return x * self.table


@pytest.mark.parametrize("kind", [Total, Drawing, Written])
def test_a_step_that_is_no_pure_function(kind):
    """Its bits depend on how often it was called, so they cannot be compared; it is not recorded."""
    trainer = trained(layer(kind()))
    assert trainer.stepper.loop.reason is not None
    assert not trainer.stepper.loop.tapes
    assert trainer.step == 15


def test_the_log_says_why_once(caplog):
    with caplog.at_level(logging.INFO, logger="portnn_backends"):
        trained(layer(sorts))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].endswith("sorts: numpy.sort")


def test_memory_of_its_own_that_is_first_written_is_recorded():
    """As scratch: it makes no difference to the step what was in it before."""
    scratch = np.zeros((8, 6), np.float32)

    def function(x):
        np.multiply(x, x.dtype.type(0.5), out=scratch)
        return scratch + x

    taped, plain = by_both(lambda: trained(layer(function)))
    assert_by_tapes(taped)
    assert_same_bits(taped, plain)


def test_a_constant_array_is_read_anew_in_each_step():
    """A tape reads the layer's own array, so that it follows where somebody writes into it between two steps."""

    def make():
        table = np.linspace(0.5, 1.5, 6, dtype=np.float32)
        trainer = trained(layer(lambda x: x * table))
        table *= 0.5
        x, y = np.ones((40, 4), np.float32), np.zeros(40, np.int64)
        trainer.fit(x, y, epochs=1, batch_size=8)
        return trainer

    taped, plain = by_both(make)
    assert_by_tapes(taped)
    assert_same_bits(taped, plain)


def test_an_error_of_a_step_is_that_of_the_plain_loop():
    calls = []

    def fails(x):
        calls.append(1)
        if len(calls) > 10:
            raise ZeroDivisionError("of the layer")
        return x * 1.5

    with pytest.raises(ZeroDivisionError, match="of the layer"):
        trained(layer(fails), epochs=5)
