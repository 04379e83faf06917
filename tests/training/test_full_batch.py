"""Full-batch methods through SciPy, and gradients averaged over micro-batches."""

import numpy as np
import pytest
from families import FULL_BATCH
from helpers import assert_close, assert_here, get

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import ConfigError, DivergenceError
from portnn.training import Callback, EarlyStopping, ReduceOnPlateau, full_batch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ np.asarray([[1.0, 0.0], [-2.0, 1.0], [0.5, 3.0]]) + 0.1 * RNG.normal(size=(60, 2)) + 0.7
WEIGHTS = RNG.uniform(0.1, 2.0, size=60)
all_methods = pytest.mark.parametrize("method", FULL_BATCH.values(), ids=FULL_BATCH)
MLP = nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(2)])


def make(method, device="cpu", dtype="float64", layer=None, **options):
    net = Network(layer or nn.Affine(2), 3, device=device, dtype=dtype, rng=0)
    return Trainer(net, losses.HalfSquaredError(), method, rng=0, **options)


def least_squares(rate=0.0, weights=None):
    """Weights and biases of the best straight plane, by the normal equations."""
    share = np.ones(60) / 60 if weights is None else weights / weights.sum()
    a = np.column_stack([X, np.ones(60)])
    penalty = rate * np.diag([1.0, 1.0, 1.0, 0.0])
    solution = np.linalg.solve(a.T @ (share[:, None] * a) + penalty, a.T @ (share[:, None] * Y))
    return {"w": solution[:3], "b": solution[3]}


@all_methods
def test_finds_the_least_squares_solution(method, backend64):
    trainer = make(method, backend64)
    history = trainer.fit(X, Y, epochs=100, batch_size=17)
    assert not history.stopped
    assert 1 < len(history) < 100
    assert history.message
    assert_here(backend64, "float64", trainer.network.params)
    expected = least_squares()
    for name, value in get(backend64, trainer.network.params).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5)
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1], rel=1e-9)
    assert trainer.step == trainer.epoch == len(history)


@all_methods
def test_penalty_and_sample_weights(method):
    method = type(method)(penalty=optim.L2(0.3))
    trainer = make(method)
    trainer.fit(X, Y, epochs=200, batch_size=7, sample_weight=WEIGHTS)
    expected = least_squares(0.3, WEIGHTS)
    for name, value in trainer.network.params.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4)


def test_a_network_in_float32(backend):
    trainer = make(optim.LBFGS(), backend, "float32", MLP)
    history = trainer.fit(X, Y, epochs=150)
    assert_here(backend, "float32", trainer.network.params)
    assert history["loss"][-1] < 0.05 * history["loss"][0]
    assert {"loss", "seconds", "evaluations"} <= history.records[0].keys()


def test_the_size_of_the_pieces_changes_nothing():
    ends = []
    for size in (None, 1, 13, 60):
        trainer = make(optim.LBFGS(), layer=MLP)
        trainer.fit(X, Y, epochs=5, batch_size=size)
        ends.append(trainer.network.params)
    for end in ends[1:]:
        assert_close(end, ends[0], "float64")


def test_dropout_and_batch_norm(backend):
    """Dropout is one function during a run, and running statistics move."""
    layer = nn.Sequential([nn.Affine(16), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.2), nn.Affine(2)])
    trainer = make(optim.LBFGS(), backend, "float32", layer)
    history = trainer.fit(X, Y, epochs=30, batch_size=60)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert np.abs(get(backend, trainer.network.state)[1]["mean"]).max() > 1e-3
    assert trainer.evaluate(X, Y)["loss"] < history["loss"][0]


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        if trainer.epoch == self.epoch:
            trainer.stop()


@all_methods
def test_limit_stop_and_going_on(method):
    trainer = make(method, layer=MLP)
    history = trainer.fit(X, Y, epochs=3)
    assert (len(history), history.stopped) == (3, False)
    trainer.callbacks = (StopAt(5),)
    assert trainer.fit(X, Y, epochs=10).stopped
    assert len(history) == 5
    trainer.callbacks = ()
    trainer.optimizer = optim.Adam()
    trainer.fit(X, Y, epochs=1)
    assert len(history) == 6
    assert "lr" in history.records[-1]


def test_a_stop_within_an_iteration(monkeypatch):
    """What a signal handler asks for between two evaluations."""
    trainer = make(optim.LBFGS(), layer=MLP)
    trainer.fit(X, Y, epochs=2)
    kept = trainer.network.params
    evaluate = full_batch._Objective.__call__

    def stopped(self, vector):
        if self.evaluations:
            trainer.stop()
        return evaluate(self, vector)

    monkeypatch.setattr(full_batch._Objective, "__call__", stopped)
    assert trainer.fit(X, Y, epochs=5).stopped
    assert trainer.network.params is kept
    assert len(trainer.history) == 2


def test_validation_and_early_stopping():
    trainer = make(optim.LBFGS(), layer=MLP, callbacks=[EarlyStopping(patience=3)])
    history = trainer.fit(X[:10], Y[:10], epochs=500, validation_data=(X[10:], Y[10:]))
    assert history.stopped
    best = min(history["val_loss"])
    assert trainer.evaluate(X[10:], Y[10:])["loss"] == pytest.approx(best, rel=1e-9)


def test_refused():
    with pytest.raises(ConfigError, match="LBFGS needs all examples at once: call fit"):
        make(optim.LBFGS()).partial_fit(X, Y)
    big = Trainer(Network(nn.Affine(500), 500), losses.HalfSquaredError(), optim.BFGS())
    with pytest.raises(ConfigError, match=r"BFGS needs 1,\d+ GiB for 250,500 parameters: take LBFGS"):
        big.fit(np.zeros((2, 500)), np.zeros((2, 500)))
    with pytest.raises(ConfigError, match="penalty must be an L2"):
        optim.LBFGS(penalty=optim.L1(0.1))
    with pytest.raises(ConfigError, match="memory must be a positive int"):
        optim.LBFGS(memory=0)
    with pytest.raises(ConfigError, match="gtol must be"):
        optim.BFGS(gtol=-1.0)
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(DivergenceError, match=r"the loss is .* within iteration 1"),
    ):
        make(optim.LBFGS(), dtype="float32").fit(1e30 * X, Y)


class Leak(Callback):
    def on_epoch_end(self, trainer, record):
        next(iter(()))


def test_an_error_of_a_callback_is_not_taken_for_the_end():
    with pytest.raises(RuntimeError, match="StopIteration in a callback"):
        make(optim.LBFGS(), callbacks=[Leak()]).fit(X, Y, epochs=3)


def test_nothing_to_train_and_no_rate_to_lower():
    with pytest.raises(ConfigError, match="LBFGS has nothing to train"):
        make(optim.LBFGS(), layer=nn.Frozen(nn.Affine(2))).fit(X, Y)
    with pytest.raises(ConfigError, match="LBFGS has no learning rate for ReduceOnPlateau to lower"):
        make(optim.LBFGS(), callbacks=[ReduceOnPlateau("loss")]).fit(X, Y)


# ---- micro-batches


@pytest.mark.parametrize(
    "around", [lambda o: o, lambda o: optim.chain(optim.L2(0.1), o), lambda o: optim.WeightDecay(0.1, o)]
)
def test_micro_batches_equal_the_batch(around, backend):
    schedule = optim.schedules.Step(0.02, every=2, factor=0.5)
    ends = []
    for every, optimizer in ((1, optim.Adam(lr=schedule)), (3, optim.Accumulate(3, optim.Adam(lr=schedule)))):
        trainer = make(around(optimizer), backend, "float32", MLP)
        for step in range(4 * every):
            size = 60 // every
            piece = slice(size * (step % every), size * (step % every + 1))
            trainer.partial_fit(X[piece], Y[piece])
        ends.append(get(backend, trainer.network.params))
    assert_close(*ends, "float32")


def test_an_accumulation_goes_on_over_epochs():
    """With 2 batches an epoch and 3 a step, parameters change in batch 3 and 6: in the second and third epoch."""
    trainer = make(optim.Accumulate(3, optim.SGD(lr=0.1)))
    changed = []
    for _ in range(3):
        before = np.array(trainer.network.params["w"])
        trainer.fit(X, Y, epochs=1, batch_size=30)
        changed.append(not np.array_equal(before, trainer.network.params["w"]))
    assert changed == [False, True, True]


def test_step_by_hand():
    params, optimizer = {"w": np.ones(2)}, optim.Accumulate(2, optim.SGD(lr=1.0))
    state = optimizer.init(params)
    params, state = optimizer.step(params, {"w": np.asarray([1.0, 2.0])}, state)
    np.testing.assert_array_equal(params["w"], [1.0, 1.0])
    params, state = optimizer.step(params, {"w": np.asarray([3.0, 0.0])}, state)
    np.testing.assert_array_equal(params["w"], [-1.0, 0.0])


def test_accumulate_refuses():
    with pytest.raises(ConfigError, match="every must be a positive int"):
        optim.Accumulate(0, optim.SGD())
    with pytest.raises(ConfigError, match="optimizer must be an Optimizer"):
        optim.Accumulate(2, optim.LBFGS())
    with pytest.raises(ConfigError, match="an Accumulate within another one"):
        optim.Accumulate(2, optim.chain(optim.L2(0.1), optim.Accumulate(2, optim.SGD())))


def test_a_run_says_what_it_reached():
    trainer = make(optim.LBFGS(gtol=1e-9, ftol=0.0))
    history = trainer.fit(X, Y, epochs=100)
    assert history.status == 0
    assert history.minimum == pytest.approx(history["loss"][-1])
    history = make(optim.LBFGS(max_evaluations=3), layer=MLP).fit(X, Y, epochs=100)
    assert (history.status, sum(history["evaluations"])) == (1, 4)
    assert "EVALUATIONS" in history.message

    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.stop()

    stopped = make(optim.LBFGS(), layer=MLP, callbacks=[Stop()])
    history = stopped.fit(X, Y, epochs=100)
    assert (history.status, history.message) == (99, "stopped")
    assert history.minimum == stopped.evaluate(X, Y)["loss"]
