"""Whose arrays are overwritten: what other threads get of a network that is trained is whole."""

from __future__ import annotations

import copy
import io
import pickle
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import assert_equal
from lanes import USABLE, open_lane
from overwritten import WIDE, X_WIDE, Y_WIDE, X, Y, fit, network, trainer_of, values

from portnn import MLPClassifier, Network, tree
from portnn.training import Callback

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")


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
    # Steps follow upon each other without a break, and these 900 take a tenth of a second, on a machine that is free.
    while_training(trainer, net.to_tensors, wanted=10, x=np.tile(X, (5, 1)))
