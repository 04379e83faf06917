"""Weights of examples and classes: what weighs nothing is not there, and pieces of a batch are the whole batch."""

import math

import numpy as np
import pytest
from families import LOSSES
from helpers import get, put
from lanes import USABLE64, open_lane

from portnn import Network, Trainer, losses, nn, optim, regularizers, tree
from portnn.errors import ConfigError, DataError, ShapeError
from portnn.training import Callback
from portnn.training.entering import enter_examples
from portnn.training.recipe import Recipe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6))
Y = np.arange(64) % 3
WEIGHTS = RNG.uniform(0.1, 3.0, size=64)
#: Of the first quarter nothing counts.
QUARTER = np.where(np.arange(64) < 16, 0.0, WEIGHTS)
PENALTY = regularizers.ElasticNet(3.0, 0.2)
BY_CLASS = losses.SoftmaxCrossEntropy(class_weight=(1.0, 20.0, 0.1))


def in_order(n, epoch):
    return np.arange(n)


def make(optimizer=None, device="cpu", loss=None, layer=None, dtype="float64", **options):
    layer = layer or nn.Sequential([nn.Affine(5), nn.Tanh(), nn.Affine(3)])
    net = Network(layer, 6, rng=0, dtype=dtype, device=device)
    return Trainer(net, loss or losses.SoftmaxCrossEntropy(), optimizer or optim.SGD(0.3), rng=0, **options)


def params(trainer):
    backend = trainer.network.backend
    return get(backend, tree.map(backend.copy, trainer.network.params))


def assert_near(a, b, **tolerance):
    tree.map(lambda p, q: np.testing.assert_allclose(p, q, **(tolerance or {"rtol": 0, "atol": 1e-12})), a, b)


# ---- pieces of a batch


@pytest.mark.parametrize("lane", USABLE64)
@pytest.mark.parametrize(
    ("loss", "weights", "on_nonfinite"),
    [(None, None, "stop"), (None, WEIGHTS, "skip"), (BY_CLASS, None, "skip"), (BY_CLASS, QUARTER, "stop")],
    ids=["alike", "weights", "class weights", "nothing counts in a piece"],
)
def test_pieces_are_the_whole_batch(lane, loss, weights, on_nonfinite):
    """Pieces of 16, 16, 16 and 2: the last one is smaller."""
    with open_lane(lane) as backend:
        pieces, whole = (
            make(o, backend, loss, regularizer=PENALTY, order=in_order, on_nonfinite=on_nonfinite)
            for o in (optim.Accumulate(4, optim.Momentum(0.1)), optim.Momentum(0.1))
        )
        weights = None if weights is None else weights[:50]
        histories = [
            trainer.fit(X[:50], Y[:50], epochs=3, batch_size=size, sample_weight=weights)
            for trainer, size in ((pieces, 16), (whole, 50))
        ]
        assert_near(params(pieces), params(whole))
        if weights is None and loss is None:
            np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-12)


def test_links_around_and_within_an_accumulation_are_those_of_the_whole_batch():
    for around in (
        lambda o, n: optim.chain(optim.L2(0.1), optim.WeightDecay(0.1, optim.Accumulate(n, o) if n else o)),
        lambda o, n: (
            optim.Accumulate(n, optim.chain(optim.ClipByNorm(0.01), o)) if n else optim.chain(optim.ClipByNorm(0.01), o)
        ),
    ):
        pieces, whole = (make(around(optim.SGD(0.1), n), regularizer=PENALTY, order=in_order) for n in (3, 0))
        pieces.fit(X[:50], Y[:50], epochs=3, batch_size=20, sample_weight=WEIGHTS[:50])
        whole.fit(X[:50], Y[:50], epochs=3, batch_size=50, sample_weight=WEIGHTS[:50])
        assert_near(params(pieces), params(whole))


def test_what_an_epoch_leaves_over_goes_on_in_the_next_one():
    """Three pieces an epoch, two a batch: the second batch has pieces of both epochs."""
    pieces, by_hand = make(optim.Accumulate(2, optim.SGD(0.1)), order=in_order), make(optim.SGD(0.1))
    pieces.fit(X[:40], Y[:40], epochs=2, batch_size=16)
    numbers = np.arange(40)
    for batch in ([*numbers[:32]], [*numbers[32:], *numbers[:16]], [*numbers[16:]]):
        by_hand.partial_fit(X[batch], Y[batch])
    assert_near(params(pieces), params(by_hand))


@pytest.mark.parametrize("bad", [3, 20])
def test_a_piece_that_is_skipped_is_not_in_the_mean(bad):
    """Nor in the penalty: the last one of a batch, or another one."""
    x = np.where(np.arange(64)[:, None] == bad, 1e308, X)
    layer, loss, targets = nn.Sequential([nn.Affine(3)]), losses.MeanSquaredError(), np.eye(3)[Y]
    trainer = make(optim.Accumulate(2, optim.SGD(0.1)), order=in_order, regularizer=PENALTY, layer=layer, loss=loss,
                   on_nonfinite="skip")  # fmt: skip
    trainer.fit(x, targets, batch_size=16, sample_weight=WEIGHTS)
    by_hand = make(optim.SGD(0.1), loss=loss, regularizer=PENALTY, layer=layer)
    batches = [range(16, 32), range(32, 64)] if bad < 16 else [[*range(16), *range(32, 64)]]
    for batch in batches:
        by_hand.partial_fit(X[list(batch)], targets[list(batch)], sample_weight=WEIGHTS[list(batch)])
    assert trainer.history["skipped"] == [1]
    assert_near(params(trainer), params(by_hand))


def test_pieces_without_their_weights_weigh_the_same():
    """An optimizer that is stepped by hand is told of gradients alone."""
    rule, p = optim.Accumulate(2, optim.SGD(1.0)), {"w": np.zeros(2)}
    state = rule.init(p)
    for gradient in (1.0, 3.0):
        p, state = rule.step(p, {"w": np.full(2, gradient)}, state)
    np.testing.assert_allclose(p["w"], -2.0)


# ---- classes and penalties


def test_a_penalty_is_shared_by_what_examples_and_classes_weigh(backend64):
    """The loss of one batch is that of a full-batch method, and so is the gradient."""
    both = {"device": backend64, "loss": BY_CLASS, "regularizer": regularizers.ElasticNet(3.0)}
    step, whole = make(optim.SGD(1e-3), **both), make(optim.LBFGS(), **both)
    before = params(step)
    loss = step.partial_fit(X, Y, sample_weight=WEIGHTS)
    class_weight = np.asarray([1.0, 20.0, 0.1])[Y] * WEIGHTS
    penalty = 1.5 * sum(float((layer["w"] ** 2).sum()) for layer in before if layer)
    logits = get(backend64, whole.network(X))
    values = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(64), Y]
    expected = ((class_weight * values).sum() + penalty) / class_weight.sum()
    assert loss == pytest.approx(expected, rel=1e-9)
    from portnn.training.full_batch import _Objective

    with backend64.context():
        data = enter_examples(whole.network, whole.loss, X, Y, WEIGHTS, training=True)
        objective = _Objective(whole.optimizer, Recipe.of(whole), whole.stepper, data, 16, lambda: None)
        value, gradient = objective(objective.vector(whole.network.params))
    assert value == pytest.approx(expected, rel=1e-9)
    stepped = np.concatenate([leaf.reshape(-1) for leaf in tree.leaves(params(step))])
    start = np.concatenate([leaf.reshape(-1) for leaf in tree.leaves(before)])
    np.testing.assert_allclose((start - stepped) / 1e-3, gradient, rtol=1e-6, atol=1e-9)


class Watch(Callback):
    """The weights after every step, on the host."""

    def __init__(self):
        self.seen, self.losses = [], []

    def due(self, trainer):
        return True

    def on_losses(self, trainer, losses):
        self.losses += losses
        self.seen.append(params(trainer))


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.01), optim.Accumulate(1, optim.SGD(0.01))], ids=["SGD", "Accumulate"]
)
def test_a_batch_in_which_nothing_counts_has_the_share_of_any_other(optimizer, backend64):
    def shrunk(weights):
        watch = Watch()
        trainer = make(optimizer, backend64, layer=nn.Affine(3), regularizer=PENALTY, order=in_order, callbacks=[watch])
        before = params(trainer)["w"]
        trainer.fit(X * 0.0, Y, batch_size=32, sample_weight=weights)
        return before - watch.seen[0]["w"]

    for weight in (1.0, 100.0):
        nothing, all_alike = np.repeat([0.0, weight], 32), np.full(64, weight)
        np.testing.assert_allclose(shrunk(nothing), shrunk(all_alike), rtol=1e-9)


def nothing_counts_at_first(feed):
    trainer = make(
        order=in_order, regularizer=PENALTY, layer=nn.Sequential([nn.Affine(5), nn.BatchNorm(), nn.Affine(3)])
    )
    history = feed(trainer)
    assert history["loss"][0] > 0
    return params(trainer), get(trainer.network.backend, trainer.network.state), history["loss"]


def test_a_batch_in_which_nothing_counts_is_one_wherever_it_comes_from(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    weights = np.where(QUARTER > 0, 1.0, 0.0)
    batches = [(X[i : i + 16], Y[i : i + 16], weights[i : i + 16]) for i in range(0, 64, 16)]
    memory, disk, stream = (
        nothing_counts_at_first(feed)
        for feed in (
            lambda t: t.fit(X, Y, batch_size=16, sample_weight=weights),
            lambda t: t.fit(mapped, Y, batch_size=16, sample_weight=weights),
            lambda t: t.fit_batches(batches),
        )
    )
    assert_near(memory[0], disk[0])
    assert_near(memory[0], stream[0])
    assert_near(memory[1], stream[1])
    assert memory[2] == disk[2] == stream[2]
    memory, disk = (
        nothing_counts_at_first(lambda t, x=x: t.fit(x, Y, batch_size=16, sample_weight=QUARTER)) for x in (X, mapped)
    )
    assert memory[2] == disk[2]


def test_weights_of_which_none_counts_at_all_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for x in (X, np.load(tmp_path / "x.npy", mmap_mode="r")):
        with pytest.raises(DataError, match="sample_weight must be >= 0, and above 0 somewhere"):
            make().fit(x, Y, sample_weight=np.zeros(64))
    with pytest.raises(DataError, match="above 0 somewhere"):
        make().partial_fit(X, Y, sample_weight=np.zeros(64))
    with pytest.raises(DataError, match="batch 1 of the epoch: sample_weight must be >= 0"):
        make().fit_batches([(X, Y, -np.ones(64))])


# ---- an example of weight 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_depend_on_what_weighs_nothing(name, typed):
    """Whatever its prediction is, and as part of the batch."""
    backend, dtype = typed
    case, rng = LOSSES[name], np.random.default_rng(2)
    prediction, target = np.asarray(case.prediction(rng, 6)[0]), np.asarray(case.target(rng, 6)[0])
    weight = np.asarray([0.0, 1.0, 2.0, 0.0, 0.5, 1.5])
    counted = [put(backend, a[[1, 2, 4, 5]], dtype) for a in (prediction, target, weight)]
    expected, _ = case.loss(*counted)
    for bad in (math.inf, -math.inf, math.nan):
        spoilt = prediction.copy()
        spoilt[[0, 3]] = bad
        given = [put(backend, a, dtype) for a in (spoilt, target, weight)]
        with np.errstate(all="ignore"):
            value, backward = case.loss(*given)
            total, _ = case.loss.totals(*given)
            gradient = get(backend, backward())
        assert float(value) == pytest.approx(float(expected), rel=1e-4)
        assert math.isfinite(float(total))
        assert (gradient[[0, 3]] == 0).all()
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("optimizer", [optim.SGD(0.01), optim.Accumulate(2, optim.SGD(0.01)), optim.LBFGS()], ids=str)
@pytest.mark.parametrize("by_class", [False, True], ids=["sample weight", "class weight"])
def test_an_example_of_weight_zero_cannot_change_a_run(optimizer, by_class, backend):
    """Its hidden activations overflow, and so would those of a normalisation."""
    y = np.where(np.arange(64) % 4 == 0, 2, np.arange(64) % 2)
    counted = y != 2
    loss = losses.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.0)) if by_class else losses.SoftmaxCrossEntropy()
    weights = None if by_class else counted * 1.0
    layer = nn.Sequential([nn.Affine(8), nn.Softplus(), nn.Affine(3)])
    runs = []
    for value in (1.0, 3e38):
        x = np.where(counted[:, None], X, value)
        trainer = make(optimizer, backend, loss, layer, "float32", order=in_order)
        trainer.fit(x, y, epochs=2, batch_size=16, sample_weight=weights)
        runs.append(params(trainer))
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(runs[0]))
    tree.map(np.testing.assert_array_equal, *runs)


def test_batches_of_which_nothing_counts_leave_the_layers_alone():
    """All their activations overflow."""
    x = np.where(np.arange(64)[:, None] < 16, 1e308, X)
    layer = nn.Sequential([nn.Affine(5), nn.BatchNorm(), nn.Tanh(), nn.Affine(3)])
    trainer, other = (make(layer=layer, order=in_order) for _ in range(2))
    trainer.fit(x, Y, batch_size=16, sample_weight=QUARTER)
    other.fit(X[16:], Y[16:], batch_size=16, sample_weight=QUARTER[16:])
    assert_near(params(trainer), params(other))
    assert_near(trainer.network.state, other.network.state)


# ---- validation


def test_weights_of_validation_data(backend):
    loss = losses.MeanSquaredError()
    layer, t = nn.Sequential([nn.Affine(1)]), X[:, :1].copy()
    trainer = make(device=backend, loss=loss, layer=layer, dtype="float32")
    found = trainer.evaluate(X, t, sample_weight=WEIGHTS, batch_size=10)["loss"]
    errors = (get(backend, trainer.network(X))[:, 0] - t[:, 0]) ** 2
    assert found == pytest.approx((WEIGHTS * errors).sum() / WEIGHTS.sum(), rel=1e-4)
    history = trainer.fit(X, t, validation_data=(X, t, WEIGHTS))
    assert history["val_loss"][0] == pytest.approx(trainer.evaluate(X, t, sample_weight=WEIGHTS)["loss"], rel=1e-5)
    for wrong in (WEIGHTS[:5], WEIGHTS[:, None]):
        with pytest.raises(ShapeError, match="validation sample_weight has shape"):
            trainer.fit(X, t, validation_data=(X, t, wrong))
    with pytest.raises(DataError, match="validation sample_weight must be >= 0, and above 0 somewhere"):
        trainer.fit(X, t, validation_data=(X, t, 0.0 * WEIGHTS))
    with pytest.raises(ConfigError, match=r"a pair \(x, y\), or \(x, y, sample_weight\)"):
        trainer.fit(X, t, validation_data=(X, t, WEIGHTS, 1))


# ---- the last batch


@pytest.mark.parametrize("from_disk", [False, True])
def test_drop_last(from_disk, tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r") if from_disk else X
    watch, by_hand = Watch(), make(order=in_order)
    trainer = make(callbacks=[watch], order=lambda n, epoch: np.roll(np.arange(n), epoch))
    history = trainer.fit(x, Y, epochs=2, batch_size=30, drop_last=True)
    expected = []
    for epoch in range(2):
        order = np.roll(np.arange(64), epoch)
        expected += [by_hand.partial_fit(X[order[i : i + 30]], Y[order[i : i + 30]]) for i in (0, 30)]
    np.testing.assert_allclose(watch.losses, expected, rtol=1e-12)
    assert history["loss"][0] == pytest.approx(sum(expected[:2]) / 2)
    assert make().fit(x, Y, batch_size=32, drop_last=True)["loss"] == make().fit(x, Y, batch_size=32)["loss"]


def test_drop_last_spares_batch_norm_a_batch_of_one():
    layer = nn.Sequential([nn.Affine(5), nn.BatchNorm(), nn.Affine(3)])
    make(layer=layer).fit(X[:33], Y[:33], batch_size=16, drop_last=True)


def test_drop_last_refuses():
    with pytest.raises(ConfigError, match="drop_last leaves nothing of 64 examples in batches of 65: take a smaller"):
        make().fit(X, Y, batch_size=65, drop_last=True)
    with pytest.raises(ConfigError, match="LBFGS needs all examples at once: drop_last is not for it"):
        make(optim.LBFGS()).fit(X, Y, drop_last=True)


def test_drop_last_resumed_within_an_epoch(tmp_path):
    from portnn.training import Checkpoint

    def run(trainer):
        trainer.fit(X, Y, epochs=3 - trainer.epoch, batch_size=15, drop_last=True)
        return trainer

    alone = run(make())
    run(make(callbacks=[Checkpoint(tmp_path, steps=1, seconds=math.inf, keep=99)]))
    for step in range(1, 12):
        again = make()
        again.load(tmp_path / f"checkpoint-{step:09d}.safetensors")
        run(again)
        tree.map(np.testing.assert_array_equal, params(again), params(alone))
        assert again.history["loss"] == alone.history["loss"]
    half = make()
    half.load(tmp_path / "checkpoint-000000006.safetensors")
    with pytest.raises(ConfigError, match="goes on with the same data"):
        half.fit(X, Y, batch_size=15)
