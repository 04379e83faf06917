"""Every group of every backend against the composition of its members."""

import pytest
from groups import Comparison, composition, composition_with_loss, in_groups_of, rows_of
from helpers import TOLERANCE
from lanes import USABLE, open_lane

from portnn import losses, nn
from portnn.backend import get_backend


def groups():
    """Every group of every usable backend, as (lane, number)."""
    for lane in USABLE:
        with open_lane(lane) as backend:
            yield from ((lane, number) for number, _ in enumerate(backend.groups()))


GROUPS = list(groups())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("lane", "number"), GROUPS)
def test_parity(lane, number, dtype):
    with open_lane(lane) as backend:
        comparison = Comparison(backend, backend.groups()[number], dtype)
        comparison.everything()
        assert comparison.taken


@pytest.mark.parametrize(("lane", "number"), GROUPS)
def test_members_are_known(lane, number):
    """There is a row for each class that a member may be of."""
    with open_lane(lane) as backend:
        group = backend.groups()[number]
        rows = [tuple(map(type, row)) for row in rows_of(group)]
        for kinds, found in zip(group.members, zip(*rows, strict=True), strict=True):
            assert set(found) == set(kinds if isinstance(kinds, tuple) else (kinds,))


# That the comparison finds what is wrong.


def doubled(layers, params, states, x, *, train, rngs):
    y, new, backward = composition(layers, params, states, x, train=train, rngs=rngs)
    return y, new, lambda dy, input_grad=True: backward(2.0 * dy, input_grad)


def greedy(layers, params, states, x, *, train, rngs):
    x[...] = 0.0
    return composition(layers, params, states, x, train=train, rngs=rngs)


def forgetful(layers, loss, params, states, x, target, weight, *, input_grad, **options):
    return composition_with_loss(layers, loss, params, states, x, target, None, input_grad=input_grad, **options)


AFFINE_RELU, AFFINE_LOSS = (nn.Affine, (nn.ReLU, nn.Tanh)), (nn.Affine, losses.SoftmaxCrossEntropy)


@pytest.mark.parametrize(
    ("kinds", "function"),
    [(AFFINE_RELU, composition), (AFFINE_LOSS, composition_with_loss), ((nn.Conv2D, nn.Dropout), composition)],
    ids=["layers", "loss", "state and noise"],
)
def test_a_right_group_passes(kinds, function):
    comparison = Comparison(get_backend("numpy"), in_groups_of(*kinds, function=function), "float64")
    with get_backend("numpy").context():
        comparison.everything()
    assert comparison.taken > 10


@pytest.mark.parametrize(
    ("kinds", "function"), [(AFFINE_RELU, doubled), (AFFINE_RELU, greedy), (AFFINE_LOSS, forgetful)], ids=str
)
def test_a_wrong_group_is_found(kinds, function):
    comparison = Comparison(get_backend("numpy"), in_groups_of(*kinds, function=function), "float64")
    with pytest.raises(AssertionError):
        comparison.everything()
