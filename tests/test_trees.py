"""Whose arrays are overwritten: those of the steps alone, whoever has been given some, and from whatever thread."""

from __future__ import annotations

import copy
import io
import pickle
import sys
import threading
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
from lanes import USABLE, open_lane

from portnn import MLPClassifier, Network, Trainer, losses, nn, optim, tree
from portnn.nn.trees import Trees
from portnn.training import Callback, EarlyStopping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = np.arange(96) % 3
#: Not on read-only NumPy: nothing is overwritten there.
LANES = [name for name in USABLE if name not in ("numpy-readonly", "strict:no_x64")]

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=LANES)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def network(backend="cpu", seed=0, *layers):
    layer = nn.Sequential([nn.Affine(8), nn.BatchNorm(), nn.Tanh(), nn.Affine(3)])
    return Network(layer, 6, rng=seed, device=backend)


def trainer_of(net, *callbacks, optimizer=None):
    return Trainer(net, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(0.01), callbacks=callbacks, rng=0)


def fit(trainer, epochs=2):
    trainer.fit(X, Y, epochs=epochs, batch_size=32, validation_data=(X, Y))
    return trainer


def values(backend, trees):
    return tree.map(lambda a: np.array(backend.to_numpy(a)), trees)


def assert_equal(a, b):
    tree.map(np.testing.assert_array_equal, a, b)


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


# ---- other threads


WIDE = nn.Sequential([nn.Affine(192), nn.BatchNorm(), nn.ReLU(), nn.Affine(3)])
X_WIDE = RNG.normal(size=(1600, 48)).astype(np.float32)
Y_WIDE = np.arange(1600) % 3


class EveryStep(Callback):
    """Remembers what the network was after each step."""

    def __init__(self):
        self.seen = set()

    def due(self, trainer):
        self.on_pause(trainer)
        return False

    def on_pause(self, trainer):
        net = trainer.network
        with net.trees.reading() as trees:
            self.seen.add(digest(net.backend, trees))


def digest(backend, trees):
    return b"".join(backend.to_numpy(a).tobytes() for a in tree.leaves(trees))


def loaded(net, path):
    net.save(path)
    return Network.load(path)


WAYS = {
    "save": loaded,
    "to": lambda net, path: net.to("cpu"),
    "pickle": lambda net, path: pickle.loads(pickle.dumps(net)),
    "deepcopy": lambda net, path: copy.deepcopy(net),
    "copy": lambda net, path: copy.copy(net),
}


@contextmanager
def threads_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class StopsOnceFound(Callback):
    def __init__(self, found, wanted):
        self.found, self.wanted = found, wanted

    def on_epoch_end(self, trainer, record):
        if len(self.found) >= self.wanted:
            trainer.stop()

    def __reduce__(self):  # what is found is not pickled over and over
        return Callback, ()


def while_training(trainer, work, wanted=6, x=X_WIDE):
    """What ``work`` gives, again and again, in a thread while a network is trained in this one for some epochs."""
    found, over = [], threading.Event()

    def again_and_again():
        while not over.is_set():
            found.append(work())

    trainer.callbacks += (StopsOnceFound(found, wanted),)
    thread = threading.Thread(target=again_and_again)
    with threads_take_turns_often():
        thread.start()
        trainer.fit(x, np.arange(len(x)) % 3, epochs=60, batch_size=32)
        over.set()
        thread.join()
    assert len(found) >= wanted
    return found


OTHERS = [pytest.param(name, "save", marks=pytest.mark.slow) for name in ("torch", "jax") if name in USABLE]


@pytest.mark.parametrize(("name", "way"), [*(("numpy", way) for way in WAYS), *OTHERS])
def test_another_thread_gets_whole_networks(name, way, tmp_path):
    with open_lane(name) as backend:
        net = Network(WIDE, 48, rng=0, device=backend)
        every = EveryStep()
        every.due(trainer_of(net))
        found = while_training(trainer_of(net, every), lambda: WAYS[way](net, tmp_path / "net"), wanted=20)
        taken = {digest(other.backend, (other.params, other.state)) for other in found}
        assert len(taken) > 1, "always the same moment"
        assert taken <= every.seen


def test_another_thread_predicts_with_whole_networks():
    net = Network(WIDE, 48, rng=0)
    every = EveryStep()
    every.due(trainer_of(net))
    found = while_training(trainer_of(net, every), lambda: net.predict(X_WIDE[:7]).tobytes())
    like = values(net.backend, (net.params, net.state))
    possible = set()
    for content in every.seen:
        leaves, start = [], 0
        for leaf in tree.leaves(like):
            leaves.append(np.frombuffer(content, leaf.dtype, leaf.size, start).reshape(leaf.shape))
            start += leaf.nbytes
        net.params, net.state = tree.rebuild(like, leaves)
        possible.add(net.predict(X_WIDE[:7]).tobytes())
    assert set(found) <= possible


def test_what_another_thread_saves_of_a_run_goes_on_as_the_run(tmp_path):
    alone = trainer_of(Network(WIDE, 48, rng=0))
    number = iter(range(10**6))

    def save():
        path = tmp_path / f"{next(number)}.safetensors"
        alone.save(path)
        return path

    paths = while_training(alone, save)
    within = 0
    for path in paths[:: max(1, len(paths) // 8)]:
        other = trainer_of(Network(WIDE, 48, rng=5))
        other.load(path)
        within += other.progress.batches > 0
        assert other.step == 50 * other.epoch + other.progress.batches
        if other.epoch < alone.epoch:
            other.fit(X_WIDE, Y_WIDE, epochs=alone.epoch - other.epoch, batch_size=32)
        assert_equal(other.network.params, alone.network.params)
        assert other.history["loss"] == alone.history["loss"]
    assert within


def test_what_another_thread_pickles_of_a_run_is_of_one_step():
    trainer = trainer_of(Network(WIDE, 48, rng=0))
    found = while_training(trainer, lambda: pickle.dumps(trainer))
    steps = trainer_of(Network(WIDE, 48, rng=0))
    expected = {}

    class Note(Callback):
        def due(self, trainer):
            self.on_pause(trainer)
            return False

        def on_pause(self, trainer):
            expected[trainer.step] = digest(trainer.network.backend, (trainer.network.params, trainer.stepper.slots))

    steps.callbacks = (Note(),)
    steps.fit(X_WIDE, Y_WIDE, epochs=trainer.epoch, batch_size=32)
    seen = 0
    for other in map(pickle.loads, found):
        if other.step:
            seen += 1
            assert digest(other.network.backend, (other.network.params, other.stepper.slots)) == expected[other.step]
            assert other.step == 50 * len(other.history) + other.progress.batches
    assert seen


def test_an_estimator_that_is_copied_within_its_fit_predicts_as_its_network_does_then():
    taken = []

    class Takes(Callback):
        def on_epoch_end(self, trainer, record):
            taken.append((copy.deepcopy(estimator), trainer.network.predict(X.astype(np.float64))))

    estimator = MLPClassifier((8,), batch_norm=True, max_iter=3, callbacks=[Takes()], random_state=0)
    with pytest.warns(Warning, match="converge"):
        estimator.fit(X.astype(np.float64), Y)
    for other, outputs in taken:
        np.testing.assert_array_equal(other._outputs(X.astype(np.float64), "predict"), outputs)


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_another_thread_copies_an_estimator_while_it_is_fitted(copying):
    first = MLPClassifier((64,), early_stopping=True, max_iter=60, n_iter_no_change=300, random_state=0)
    found, over = [], threading.Event()

    def work():
        while not hasattr(first, "_trainer"):
            over.wait(0.001)
        while not over.is_set():
            found.append(copying(first))

    thread = threading.Thread(target=work)
    with threads_take_turns_often():
        thread.start()
        with pytest.warns(Warning, match="converge"):
            first.fit(X_WIDE, Y_WIDE)
        over.set()
        thread.join()
    assert found
    for other in found[:: max(1, len(found) // 5)]:
        assert np.isfinite(other.predict_proba(X_WIDE)).all()
        done = len(other._trainer.history)
        other.set_params(early_stopping=False).partial_fit(X_WIDE, Y_WIDE)
        assert other.history_ is other._trainer.history
        assert len(other.history_) >= done


@pytest.mark.parametrize("when", ["on_epoch_end", "on_losses", "on_pause", "on_fit_begin", "on_fit_end"])
def test_a_callback_may_save_itself_or_wait_for_a_thread_that_does(when, tmp_path):
    class Saves(Callback):
        pass

    def save(self, trainer, *rest):
        trainer.save(tmp_path / "a")
        thread = threading.Thread(target=lambda: (trainer.save(tmp_path / "b"), trainer.network.predict(X)))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        pickle.dump(trainer.network, io.BytesIO())

    setattr(Saves, when, save)
    fit(trainer_of(network(), Saves()))
    assert Network.load(tmp_path / "b").output_shape == (3,)


def test_a_thread_that_wants_the_network_gets_its_turn():
    net = network()
    trainer = trainer_of(net)
    # Steps follow upon each other without a break, and these 180 take a twentieth of a second.
    while_training(trainer, net.to_tensors, wanted=10, x=X)
