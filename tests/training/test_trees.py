"""Whose arrays are overwritten: those of the steps alone, whoever has been given some."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pytest
from helpers import assert_equal
from lanes import USABLE, open_lane
from overwritten import X, Y, fit, network, trainer_of, values

from portnn import MLPClassifier, Network, nn, optim, tree
from portnn.nn.trees import Trees
from portnn.training import Callback, EarlyStopping

#: Not on read-only NumPy: nothing is overwritten there.
LANES = [name for name in USABLE if name not in ("numpy-readonly", "strict:no_x64")]

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=LANES)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def test_a_layer_of_another_network(lane):
    a, b = network(lane, 1), network(lane, 2)
    trainer = fit(trainer_of(b))
    before = values(lane, a.params)
    b.params[0].update(a.params[0])
    fit(trainer)
    assert_equal(values(lane, a.params), before)


class AtEpochEnd(Callback):
    def __init__(self, work):
        self.work = work

    def on_epoch_end(self, trainer, record):
        self.work(trainer)


@pytest.mark.parametrize("copied", [True, False])
def test_parameters_that_a_callback_keeps_and_puts_back_again_and_again(lane, copied):
    kept = []

    def keep_or_put_back(trainer):
        net = trainer.network
        if not kept:
            trees = tree.map(lane.copy, net.params) if copied else net.params
            kept.extend([trees, values(lane, trees), net.state, values(lane, net.state)])
        net.params, net.state = kept[0], kept[2]

    net = network(lane)
    fit(trainer_of(net, AtEpochEnd(keep_or_put_back)), epochs=4)
    assert_equal(values(lane, kept[0]), kept[1])
    assert_equal(values(lane, kept[2]), kept[3])
    assert_equal(values(lane, net.params), kept[1])


def test_every_epoch_can_be_kept_as_it_is(lane):
    kept = []
    fit(trainer_of(network(lane), AtEpochEnd(lambda t: kept.append((t.network.params, t.network.state)))), 3)
    copies = []
    fit(
        trainer_of(
            network(lane), AtEpochEnd(lambda t: copies.append(values(lane, (t.network.params, t.network.state))))
        ),
        3,
    )
    for now, then in zip(kept, copies, strict=True):
        assert_equal(values(lane, now), then)


def test_layers_that_are_frozen_in_another_network(lane):
    old = network(lane, 1)
    trainer = fit(trainer_of(old))
    layer = nn.Sequential([*map(nn.Frozen, old.layer.layers[:3]), nn.Affine(2)])
    new = Network(layer, 6, rng=2, device=lane)
    new.state = (*map(nn.Frozen.hold, old.params[:3], old.state[:3]), new.state[3])
    before = new.predict(X)
    fit(trainer)
    trainer.partial_fit(X, Y)
    np.testing.assert_array_equal(new.predict(X), before)


def test_one_array_in_two_places(lane):
    layer = nn.Sequential([nn.Affine(6), nn.Tanh(), nn.Affine(6), nn.Affine(3)])
    nets = [Network(layer, 6, rng=3, device=lane) for _ in range(2)]
    for net, same in zip(nets, (False, True), strict=True):
        params = net.params
        twice = params[0] if same else tree.map(lane.copy, params[0])
        net.params = (params[0], params[1], twice, params[3])
        fit(trainer_of(net))
    assert_equal(*(values(lane, net.params) for net in nets))


def test_parts_of_an_array_of_the_users():
    flat = np.arange(100, dtype=np.float32) / 100
    before = flat.copy()
    net = Network(nn.Affine(3), 6, rng=0)
    net.params = {"w": flat[:18].reshape(6, 3), "b": flat[50:53]}
    fit(trainer_of(net))
    np.testing.assert_array_equal(flat, before)
    assert not np.shares_memory(net.params["w"], flat)


def test_what_early_stopping_has_kept_is_not_trained_on(lane):
    early = EarlyStopping(patience=1, min_delta=1e9, larger_is_better=True)
    net = network(lane)
    trainer = fit(trainer_of(net, early), epochs=5)
    best = net.params
    before = values(lane, best)
    trainer.callbacks = ()
    fit(trainer)
    assert_equal(values(lane, best), before)


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_of_a_network_and_of_a_trainer_are_apart(copying):
    first = fit(trainer_of(network()))
    net, second = copying(first.network), copying(first)
    before = values(net.backend, (net.params, net.state))
    slots = tree.map(np.array, second.stepper.slots)
    fit(first)
    assert_equal(values(net.backend, (net.params, net.state)), before)
    assert_equal(second.stepper.slots, slots)
    slots = tree.map(np.array, first.stepper.slots)
    second.network = net
    fit(second)
    assert_equal(first.stepper.slots, slots)
    assert_equal(first.network.params, net.params)  # both have done the same


def mapped(path, model):
    joblib.dump(model, path)
    return joblib.load(path, mmap_mode="r")


@pytest.mark.parametrize("optimizer", [optim.Adam(), optim.SGD(), optim.Accumulate(2, optim.Momentum())])
def test_a_trainer_in_a_read_only_file_goes_on(optimizer, tmp_path):
    first = fit(trainer_of(network(), optimizer=optimizer))
    second = mapped(tmp_path / "trainer", first)
    assert all(isinstance(a, np.memmap) for a in tree.leaves(second.network.params))
    for trainer in (first, second):
        trainer.partial_fit(X, Y)
        fit(trainer)
    assert_equal(first.network.params, second.network.params)
    assert_equal(first.network.state, second.network.state)


@pytest.mark.parametrize(
    "settings", [{}, {"solver": "sgd"}, {"batch_norm": True}, {"solver": "lbfgs", "warm_start": True}]
)
def test_an_estimator_in_a_read_only_file_learns_on(settings, tmp_path):
    first = MLPClassifier((8,), max_iter=2, random_state=0, **settings)
    with pytest.warns(Warning, match="converge"):
        first.fit(X, Y)
    second = mapped(tmp_path / "estimator", first)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    for estimator in (first, second):
        if "warm_start" in settings:
            with pytest.warns(Warning, match="converge"):
                estimator.fit(X, Y)
        else:
            estimator.partial_fit(X, Y)
    for a, b in zip(first.coefs_, second.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_read_only_parameters_are_trained():
    nets = [network() for _ in range(2)]
    nets[1].params = tree.map(np.array, nets[1].params)
    for leaf in tree.leaves(nets[1].params):
        leaf.flags.writeable = False
    for net in nets:
        fit(trainer_of(net))
    assert_equal(nets[0].params, nets[1].params)


def test_steps_overwrite_their_own_arrays_as_long_as_nobody_has_them():
    pytest.importorskip("numba")
    net = network()
    trainer = fit(trainer_of(net))

    def addresses():
        with net.trees.reading() as (params, _):
            return [a.ctypes.data for a in tree.leaves(params)]

    before = addresses()
    trainer.partial_fit(X, Y)
    net.predict(X)
    trainer.evaluate(X, Y)
    fit(trainer)
    assert addresses() == before
    kept = net.params
    trainer.partial_fit(X, Y)
    assert not set(addresses()) & set(before)
    assert [a.ctypes.data for a in tree.leaves(kept)] == before


def test_readers_are_forgotten_and_owners_are_not():
    trees = Trees({"w": np.zeros(2)}, ())
    with trees.reading() as (params, _), trees.reading():
        copied, _ = trees.own(np.array)
        assert copied["w"] is not params["w"]
        assert trees.own(np.array)[0]["w"] is copied["w"], "the readers have other arrays"
    with trees.reading():
        pass
    assert trees.own(np.array)[0]["w"] is copied["w"]
    trees.give()
    assert trees.own(np.array)[0]["w"] is not copied["w"]
