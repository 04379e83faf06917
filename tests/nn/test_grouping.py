"""How groups are found in a network, and that nothing but the way of computing changes by them."""

import numpy as np
import pytest
from groups import composition, composition_with_loss, in_groups_of
from helpers import assert_equal, get

from portnn import Network, Trainer, kernels, losses, nn, optim, tree
from portnn.backend import backend_class_of, get_backend
from portnn.errors import DivergenceError, ShapeError
from portnn.nn.grouping import grouped, joined
from portnn.random import Stream

LOSS = losses.SoftmaxCrossEntropy()


def pair(**options):
    return in_groups_of(nn.Affine, (nn.Tanh, nn.ReLU), function=composition, **options)


def head(**options):
    return in_groups_of(nn.Affine, losses.SoftmaxCrossEntropy, function=composition_with_loss, **options)


def run(layer, groups, seed=0, loss=LOSS, width=5):
    """What a step computes of a layer and a loss, with groups, and which members were given to each group."""
    net = Network(layer, width, rng=seed, dtype="float64")
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(6, width)), rng.integers(0, 3, 6), rng.uniform(size=6)
    forward = joined(net.layer, loss, groups)
    value, state, backward = forward(net.params, net.state, x, y, weight, rng=Stream(3))
    return (value, state, backward()), [group.function.calls for group in groups]


def assert_same_step(layer, groups, expected_calls):
    found, calls = run(layer, groups)
    assert calls == expected_calls
    assert_equal(found, run(layer, ())[0])
    with kernels.portable():
        found, calls = run(layer, groups)
        assert calls == expected_calls  # none is new
        assert_equal(found, run(layer, ())[0])


A, T, R, D, B = nn.Affine(4), nn.Tanh(), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm()
LAST = nn.Affine(3)


def test_the_longest_groups_are_taken():
    three = in_groups_of(nn.Affine, nn.Dropout, nn.Affine, function=composition)
    layer = nn.Sequential([A, T, A, D, A, T, LAST])
    # The second pair would be left with its activation.
    assert_same_step(layer, [pair(), three, head()], [[(A, T)], [(A, D, A)], [(LAST,)]])


def test_of_equal_length_the_first_one_is_taken():
    other = in_groups_of(nn.Tanh, nn.Affine, function=composition)
    assert_same_step(nn.Sequential([A, T, LAST]), [other, pair()], [[], [(A, T)]])
    assert_same_step(nn.Sequential([T, LAST, T]), [pair(), pair()], [[(LAST, T)], []])


def test_a_row_goes_through_sequentials_inside_it():
    """Streams of random numbers keep their paths, and parameters, state and gradients their places."""
    noisy = in_groups_of(nn.Dropout, nn.Affine, nn.BatchNorm, function=composition)
    layer = nn.Sequential([nn.Sequential([A, D]), nn.Sequential([]), nn.Sequential([nn.Sequential([A]), B, LAST])])
    assert_same_step(layer, [noisy, head()], [[(D, A, B)], [(LAST,)]])


def test_groups_in_containers_that_are_no_rows():
    width = nn.Affine(5)
    inside = nn.Sequential([width, T])
    layer = nn.Sequential([nn.Frozen(inside), nn.Residual(nn.Sequential([width, R]), inside), LAST])
    assert_same_step(layer, [pair()], [[(width, T), (width, R), (width, T)]])
    assert layer.layers[1].layer == nn.Sequential([width, R])  # as it was


def test_a_network_of_one_layer():
    assert_same_step(LAST, [head()], [[(LAST,)]])
    assert_same_step(nn.Residual(nn.Affine(5)), [head()], [[]])


def test_what_does_not_fit_is_left_alone():
    class Own(nn.Tanh):
        pass

    assert_same_step(nn.Sequential([A, Own(), LAST]), [pair()], [[]])
    assert_same_step(nn.Sequential([A, T, LAST]), [pair(fits=lambda members: members[0].units == 3)], [[]])
    layer = nn.Sequential([A, D, nn.Residual(nn.Identity()), LAST])
    assert grouped(layer, [pair()]) is layer
    assert grouped(layer, ()) is layer
    assert grouped(LAST, ()) is LAST


def refusing(*args, **options):
    return NotImplemented


def test_where_a_group_refuses_the_members_compute():
    both = (in_groups_of(nn.Affine, nn.Tanh, function=refusing),
            in_groups_of(nn.Affine, losses.SoftmaxCrossEntropy, function=refusing))  # fmt: skip
    assert_same_step(nn.Sequential([A, T, LAST]), both, [[(A, T)], [(LAST,)]])
    net = Network(nn.Sequential([A, T]), 5, rng=0)
    one = grouped(net.layer, both[:1])
    with pytest.raises(ShapeError, match=r"affine takes x \(n, k\)"):
        one.forward(net.params, net.state, np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("input_grad", [True, False])
def test_a_layer_in_groups_is_a_layer(input_grad):
    layer = nn.Sequential([nn.Flatten(), nn.Sequential([A, T]), D, LAST])
    net = Network(layer, (5, 1), rng=0, dtype="float64")
    x, rng = np.random.default_rng(0).normal(size=(6, 5, 1)), Stream(2)
    group = pair()
    made = []
    for one in (layer, grouped(layer, [group])):
        y, state, backward = one.forward(net.params, net.state, x, train=True, rng=rng)
        dx, grads = backward(np.ones_like(y), input_grad=input_grad)
        assert (dx is None) is not input_grad
        made.append((y, state, dx if input_grad else (), grads, one.apply(net.params, net.state, x)))
        with pytest.raises(ShapeError, match="takes dy of the shape of its y"):
            backward(np.ones((6, 1)))
    assert group.function.calls == [(A, T)]
    assert_equal(*made)
    assert one.children() == layer.children()
    assert one.init(Stream(0), (5, 1))[2] == (3,)


def test_the_pullback_of_a_group_is_held_to_its_shape():
    one = grouped(nn.Sequential([A, T]), [pair()])
    net = Network(one, 5, rng=0)
    y, _, backward = one.forward(net.params, net.state, np.zeros((2, 5), np.float32))
    with pytest.raises(ShapeError, match="the backward of Affine and Tanh takes dy of the shape of its y"):
        backward(y[:1])


def trained(optimizer, **options):
    rng = np.random.default_rng(0)
    layer = nn.Sequential([nn.Flatten(), A, B, D, nn.Sequential([A, T]), LAST])
    net = Network(layer, (2, 2), rng=0, dtype="float64")
    trainer = Trainer(net, LOSS, optimizer, rng=0)
    weight = rng.choice([0.0, 1.0, 3.0], size=30)
    trainer.fit(rng.normal(size=(30, 2, 2)), rng.integers(0, 3, 30), sample_weight=weight, epochs=3, **options)
    losses_of = [record["loss"] for record in trainer.history.records]
    return get(net.backend, tree.map(np.array, (net.params, net.state))), losses_of


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(optim.Adam(), {"batch_size": 7}), (optim.LBFGS(), {})],
    ids=["mini-batches", "all examples"],
)
def test_a_training_in_groups_has_the_same_bits(monkeypatch, optimizer, options):
    expected = trained(optimizer, **options)
    groups = [pair(), head()]
    monkeypatch.setattr(backend_class_of(np.ndarray), "groups", classmethod(lambda cls: groups))
    assert_equal(*(run[0] for run in (trained(optimizer, **options), expected)))
    assert groups[0].function.calls
    assert bool(groups[1].function.calls) is ("batch_size" in options)


def test_where_a_training_diverges_the_layer_is_named_by_its_own_place(monkeypatch):
    groups = [pair(), head()]
    monkeypatch.setattr(backend_class_of(np.ndarray), "groups", classmethod(lambda cls: groups))
    layer = nn.Sequential([nn.Tanh(), nn.Sequential([nn.Sigmoid(), nn.Affine(4), nn.ReLU()]), LAST])
    trainer = Trainer(Network(layer, 4, rng=0), LOSS, optim.SGD(), rng=0)
    trainer.network.params[1][1]["b"][...] = np.inf
    with pytest.raises(DivergenceError, match=r"the first layer whose output is not finite is 1\.1 \(Affine\)"):
        trainer.fit(np.ones((4, 4), np.float32), np.arange(4) % 3, batch_size=4)
    assert all(group.function.calls for group in groups)


def test_backends_have_none_unless_they_say_so():
    assert [*get_backend("numpy").groups(), *get_backend("strict").groups()] == []
