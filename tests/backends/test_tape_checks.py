"""A tape is checked with other examples, other parameters and other numbers of the step: constants are found out."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from tapes import OTHER_NUMBERS, Losses, assert_found, layer, needs_numba, trained

from portnn import Network, Trainer, losses, nn, optim, tree

pytestmark = needs_numba


@pytest.mark.parametrize("n", [40, 8], ids=["some of the examples", "all examples"])
@pytest.mark.parametrize("summary", [np.max, np.mean, np.min], ids=["largest", "mean", "smallest"])
def test_what_does_not_depend_on_the_order_of_a_batch(summary, n):
    """It is the same for the same examples in another order, and is to be found out all the same."""

    def normed(x):
        return x / (2.0 + abs(float(summary(np.array(x)))))

    if n == 8:  # batches that come one by one, each of them all that there is
        rng = np.random.default_rng(1)
        batches = [(rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8)) for _ in range(15)]

        def make():
            network = Network(nn.Sequential([layer(normed), nn.Affine(3)]), 4, device="cpu", rng=0)
            trainer = Trainer(network, losses.SoftmaxCrossEntropy(), optim.SGD(), rng=0, callbacks=[Losses()])
            trainer.fit_batches(batches)
            return trainer

        assert_found(make, OTHER_NUMBERS)
    else:
        assert_found(lambda: trained(first=layer(normed)), OTHER_NUMBERS)


def test_what_depends_on_the_labels_of_a_batch():
    @dataclass(frozen=True)
    class Counted(losses.SoftmaxCrossEntropy):
        def __call__(self, prediction, target, sample_weight=None):
            value, backward = super().__call__(prediction, target, sample_weight)
            factor = 1.0 + 0.1 * float(np.bincount(np.array(target), minlength=3).max())
            return value * factor, lambda dloss=1.0: backward(dloss) * factor

    assert_found(lambda: trained(loss=Counted()), OTHER_NUMBERS)


@dataclass(frozen=True)
class Own(optim.SGD):
    """An optimizer that does something to what it is given before a step of SGD."""

    change: object = None

    def update(self, params, grads, slots, hyper):
        return super().update(*self.change(params, grads, slots, hyper))


def optimizer(change, lr=0.05):
    return Own(lr=lr, change=change)


def scaled(grads, factor):
    return tree.map(lambda g: g * factor, grads)


def _root_of_the_rate(params, grads, slots, hyper):
    return params, scaled(grads, math.sqrt(hyper["lr"])), slots, hyper


def _rate_as_text(params, grads, slots, hyper):
    return params, scaled(grads, float(f"{hyper['lr']}")), slots, hyper


def _full_of_the_rate(params, grads, slots, hyper):
    return params, tree.map(lambda g: g + np.full(g.shape, hyper["lr"], g.dtype), grads), slots, hyper


def _branch_on_the_rate(params, grads, slots, hyper):
    return params, scaled(grads, 2.0) if hyper["lr"] > 0.047 else grads, slots, hyper


def _smaller_of_the_rate(params, grads, slots, hyper):
    return params, scaled(grads, min(hyper["lr"], 0.047)), slots, hyper


def _whole_part_of_the_rate(params, grads, slots, hyper):
    return params, scaled(grads, 1.0 + divmod(hyper["lr"], 0.045)[0]), slots, hyper


def _places_changed(params, grads, slots, hyper):
    a, b = params[1], params[3]  # shapes (4, 6) and (6, 6), and two biases of one shape
    params = (params[0], {**a, "b": b["b"]}, params[2], {**b, "b": a["b"]}, *params[4:])
    return params, grads, slots, hyper


OPTIMIZERS = {
    "a root of the rate": (_root_of_the_rate, OTHER_NUMBERS),
    "the rate as text": (_rate_as_text, "_rate_as_text"),
    "full of the rate": (_full_of_the_rate, ""),
    "a branch on the rate": (_branch_on_the_rate, "_branch_on_the_rate"),
    "the smaller of two": (_smaller_of_the_rate, "_smaller_of_the_rate"),
    "the whole part": (_whole_part_of_the_rate, "_whole_part_of_the_rate"),
    "parameters change places": (_places_changed, "change places"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    change, reason = OPTIMIZERS[name]
    rate = optim.schedules.Exponential(0.05, factor=0.995)
    assert_found(lambda: trained(optimizer=optimizer(change, rate)), reason)
