import copy
import dataclasses
import math
import pickle
import signal

import numpy as np
import pytest
from families import LOSSES, OPTIMIZERS
from helpers import assert_equal, get, prepared_piece
from lanes import USABLE, USABLE64, host_closed, open_lane

from portnn import Network, Trainer, get_backend, losses, metrics, nn, optim, tree
from portnn.data import shuffled_batches
from portnn.errors import ConfigError, DataError, DivergenceError, ShapeError
from portnn.loop import Loop
from portnn.random import Stream
from portnn.training import Callback
from portnn.training.entering import enter_examples
from portnn.training.interrupts import between_steps
from portnn.training.recipe import Recipe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
LABELS = (X[:, 0] + 0.1 * X[:, 1] > 0).astype(np.int64) + (X[:, 2] > 1)
MLP = nn.Sequential([nn.Affine(16), nn.Tanh(), nn.Affine(3)])


class Watch(Callback):
    def __init__(self):
        self.losses, self.events = [], []

    def on_fit_begin(self, trainer, epochs, steps_per_epoch):
        self.events.append(("begin", epochs, steps_per_epoch))

    def on_losses(self, trainer, losses):
        self.losses += losses

    def on_epoch_end(self, trainer, record):
        self.events.append(("epoch", record["epoch"]))

    def on_fit_end(self, trainer):
        self.events.append(("end",))


def make(device="cpu", optimizer=None, dtype="float32", callbacks=(), layer=MLP, loss=None, **kwargs):
    net = Network(layer, 6, device=device, rng=0, dtype=dtype)
    return Trainer(
        net,
        loss or losses.SoftmaxCrossEntropy(),
        optimizer or optim.Adam(lr=0.01),
        callbacks=callbacks,
        rng=0,
        **kwargs,
    )


def curve(device, dtype, layer=MLP, steps=100):
    watch = Watch()
    trainer = make(device, dtype=dtype, callbacks=[watch], layer=layer)
    trainer.fit(X, LABELS, epochs=steps // 7 + 1, batch_size=8)
    return watch.losses[:steps]


# ---- same seed, same curve


@pytest.mark.parametrize("lane", USABLE64)
def test_same_curve_in_float64(lane):
    relu = nn.Sequential([nn.Affine(16), nn.ReLU(), nn.Affine(3)])
    with open_lane(lane) as backend:
        np.testing.assert_allclose(curve(backend, "float64", relu), curve("cpu", "float64", relu), rtol=1e-10)


@pytest.mark.parametrize("lane", USABLE)
def test_same_curve_in_float32(lane):
    """With a smooth activation: rounding may push a pre-activation over a kink of ReLU, and then the curves part."""
    with open_lane(lane) as backend:
        np.testing.assert_allclose(curve(backend, "float32"), curve("cpu", "float32"), rtol=1e-4)


def test_same_seed_same_bits():
    first, again = make(), make()
    for trainer in (first, again):
        trainer.fit(X, LABELS, epochs=3, batch_size=8)
    tree.map(np.testing.assert_array_equal, first.network.params, again.network.params)


def test_the_order_of_the_batches():
    seen = []

    class Spy(optim.SGD):
        pass

    trainer = make(optimizer=Spy())
    advance = trainer.stepper.advance

    def spied(pieces, usual_weight):
        seen.extend(piece.index.tolist() for piece in pieces)
        advance(pieces, usual_weight)

    trainer.stepper.advance = spied
    trainer.fit(X, LABELS, epochs=2, batch_size=16)
    assert [len(batch) for batch in seen] == [16, 16, 16, 2] * 2
    for epoch in (0, 1):
        assert sorted(sum(seen[4 * epoch : 4 * epoch + 4], [])) == list(range(50))
        expected = shuffled_batches(50, 16, Stream(0).child("order").at(epoch))
        assert seen[4 * epoch : 4 * epoch + 4] == [batch.tolist() for batch in expected]
    assert seen[:4] != seen[4:]


# ---- training


@pytest.mark.parametrize("name", ["SGD", "Adam", "Chain"])
def test_learns(name, backend):
    trainer = make(backend, optimizer=OPTIMIZERS[name])
    history = trainer.fit(X, LABELS, epochs=30, batch_size=10)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert all(backend.owns(p) for p in tree.leaves(trainer.network.params))
    assert all(p.dtype == backend.dtype("float32") for p in tree.leaves(trainer.network.params))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(name):
    case = LOSSES[name]
    rng = np.random.default_rng(1)
    (target,) = case.target(rng, 50)
    shape = np.asarray(case.prediction(rng, 1)[0]).shape[1:]
    last = [nn.Softmax()] if name.startswith("NegativeLogLikelihood") else []
    layer = nn.Sequential([nn.Affine(math.prod(shape)), *last])
    if len(shape) > 1:
        target = target.reshape(50, -1)
    history = make(layer=layer, loss=case.loss).fit(X, target, epochs=20, batch_size=10)
    assert history["loss"][-1] < history["loss"][0]


def test_nothing_leaves_the_device_in_a_step():
    with open_lane("strict:device1") as backend:
        trainer = make(backend)
        piece = prepared_piece(trainer, X, LABELS, 8)
        with host_closed(backend):
            trainer.stepper.advance((piece,))
        (((loss,), _),) = trainer.stepper.pending
        assert backend.owns(loss)


def test_history_and_callbacks():
    watch = Watch()
    trainer = make(callbacks=[watch], metrics={"accuracy": metrics.accuracy})
    history = trainer.fit(X, LABELS, epochs=2, batch_size=16, validation_data=(X[:20], LABELS[:20]))
    trainer.fit(X, LABELS, epochs=1, batch_size=50)
    assert watch.events == [
        ("begin", 2, 4),
        ("epoch", 1),
        ("epoch", 2),
        ("end",),
        ("begin", 1, 1),
        ("epoch", 3),
        ("end",),
    ]
    assert history is trainer.history
    assert history["epoch"] == [1, 2, 3]
    assert set(history.records[0]) == {
        "epoch", "loss", "seconds", "samples_per_second", "lr", "val_loss", "val_accuracy",
    }  # fmt: skip
    assert (trainer.epoch, trainer.step, len(watch.losses)) == (3, 9, 9)
    # The last batch of two counts as two, not as sixteen.
    first = (16 * sum(watch.losses[:3]) + 2 * watch.losses[3]) / 50
    assert history["loss"][0] == pytest.approx(first)


def test_evaluate_is_the_mean_over_the_examples(backend):
    if str(backend) == "strict:no_x64":
        pytest.skip("argmax of array-api-strict 2.6 gives int64 on its device without int64, and so fails")
    trainer = make(backend, metrics={"accuracy": metrics.accuracy})
    scores = get(backend, trainer.network(X))
    whole = trainer.evaluate(X, LABELS)
    for size in (1, 7, 50):
        assert trainer.evaluate(X, LABELS, batch_size=size) == pytest.approx(whole, rel=1e-5)
    assert whole["accuracy"] == pytest.approx((scores.argmax(axis=1) == LABELS).mean())


def test_evaluate_does_not_depend_on_the_batches_where_classes_have_weights():
    trainer = make(loss=losses.SoftmaxCrossEntropy(class_weight=(1.0, 5.0, 0.5)))
    whole = trainer.evaluate(X, LABELS)["loss"]
    for size in (1, 7):
        assert trainer.evaluate(X, LABELS, batch_size=size)["loss"] == pytest.approx(whole, rel=1e-5)


def test_weights_of_classes_need_classes():
    weighted = losses.HalfSquaredError(class_weight=(1.0, 2.0, 3.0))
    make(loss=weighted).fit(X, np.eye(3)[LABELS])
    with pytest.raises(DataError, match=r"the targets in y must lie in 0 \.\. 1"):
        make(loss=weighted).fit(X, X[:, :3])


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64"])
def test_labels_of_any_integer_type(kind, backend):
    loss = losses.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 3.0))
    if not backend.supports(kind):
        pytest.skip(f"{backend} has no {kind}")
    labels = backend.asarray(LABELS.astype(kind), kind)
    expected = make("cpu", loss=loss).partial_fit(X, LABELS)
    assert make(backend, loss=loss).partial_fit(X, labels) == pytest.approx(expected, rel=1e-5)


def test_tensors_that_want_a_gradient_leave_none_behind():
    torch = pytest.importorskip("torch")
    trainer = make("torch")
    trainer.fit(torch.tensor(X, requires_grad=True), torch.tensor(LABELS))
    assert not any(p.requires_grad for p in tree.leaves(trainer.network.params))
    assert not trainer.network.predict(torch.tensor(X, requires_grad=True)).requires_grad


def test_masked_data_meet_the_door(backend):
    masked = np.ma.masked_array(X, mask=X > 2)
    for method in (lambda: make(backend).fit(masked, LABELS), lambda: make(backend).network.predict(masked)):
        with pytest.raises(DataError, match="x has masked values"):
            method()


def test_a_batch_larger_than_the_data_is_one_batch():
    trainer = make()
    trainer.fit(X, LABELS, batch_size=1000)
    assert trainer.step == 1


def test_partial_fit_is_one_step(backend):
    by_hand, whole = make(backend), make(backend)
    expected = whole.evaluate(X, LABELS)["loss"]
    loss = by_hand.partial_fit(X, LABELS)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert by_hand.step == 1
    assert by_hand.partial_fit(X[:1], LABELS[:1]) > 0


def test_partial_fit_on_all_is_fit_with_one_batch():
    first, second = make(dtype="float64"), make(dtype="float64")
    for _ in range(5):
        first.partial_fit(X, LABELS)
    second.fit(X, LABELS, epochs=5, batch_size=50)
    tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), first.network.params, second.network.params)


def test_sample_weights(backend):
    """A weight of 2 counts like the example twice, one of 0 like none."""
    weight = np.where(np.arange(50) < 10, 2.0, np.where(np.arange(50) < 20, 0.0, 1.0))
    often = np.repeat(np.arange(50), weight.astype(int))
    weighted, repeated = make(backend, dtype="float32"), make(backend, dtype="float32")
    for _ in range(3):
        first = weighted.partial_fit(X, LABELS, sample_weight=weight)
        assert first == pytest.approx(repeated.partial_fit(X[often], LABELS[often]), rel=1e-5)
    weighted.fit(X, LABELS, epochs=1, batch_size=10, sample_weight=weight)


@pytest.mark.parametrize(
    ("weight", "error", "sentence"),
    [
        (np.ones(49), ShapeError, r"sample_weight has shape \(49,\); one number for each of 50 examples is needed"),
        (-np.ones(50), DataError, "sample_weight must be >= 0, and above 0 somewhere"),
        (np.zeros(50), DataError, "sample_weight must be >= 0, and above 0 somewhere"),
        (np.full(50, np.nan), DataError, "sample_weight has 50 values that are NaN"),
    ],
)
def test_bad_sample_weights(weight, error, sentence):
    with pytest.raises(error, match=sentence):
        make().fit(X, LABELS, sample_weight=weight)


def test_images_stay_bytes():
    pixels = (np.random.default_rng(0).uniform(size=(50, 6)) * 255).astype(np.uint8)
    histories = []
    for x in (pixels, pixels / np.float32(255)):
        trainer = make()
        histories.append(trainer.fit(x, LABELS, epochs=2, batch_size=10, validation_data=(x, LABELS)))
    trainer = make()
    assert enter_examples(trainer.network, trainer.loss, pixels, LABELS).x.dtype == np.uint8
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-5)


def test_the_users_arrays_are_not_written_to(backend):
    net = Network(MLP, 6, device=backend, rng=0)
    before = tree.map(lambda p: np.array(backend.to_numpy(p)), net.params)
    held, x = net.params, backend.asarray(X)
    Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(x, LABELS, epochs=2)
    tree.map(np.testing.assert_array_equal, get(backend, held), before)
    np.testing.assert_array_equal(get(backend, x), X)


def test_data_on_another_device_or_library(backend):
    trainer = make("cpu")
    trainer.fit(backend.asarray(X), backend.asarray(LABELS), epochs=1)
    reference = make("cpu")
    reference.fit(X, LABELS, epochs=1)
    tree.map(np.testing.assert_array_equal, trainer.network.params, reference.network.params)


# ---- noise


@dataclasses.dataclass(frozen=True)
class Noise(nn.Layer):
    """Multiplies by random numbers in training: what dropout and its like do with ``rng``."""

    def init(self, rng, input_shape):
        return {}, (), input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        factor = rng.uniform_like(x) if train else 0.5
        return factor * x, state, lambda dy, input_grad=True: (factor * dy, {})


def test_noise_is_the_same_on_every_backend(backend):
    noisy = nn.Sequential([nn.Affine(16), Noise(), nn.Tanh(), Noise(), nn.Affine(3)])
    np.testing.assert_allclose(curve(backend, "float32", noisy, 40), curve("cpu", "float32", noisy, 40), rtol=1e-4)


def test_noise_differs_from_step_to_step_and_layer_to_layer():
    seen = []

    class Spy(Noise):
        def forward(self, params, state, x, *, train=False, rng=None):
            seen.append(rng.uniform_like(x).tobytes())
            return super().forward(params, state, x, train=train, rng=rng)

    trainer = make(layer=nn.Sequential([nn.Affine(4), Spy(), Spy(), nn.Affine(3)]))
    trainer.fit(X, LABELS, epochs=2, batch_size=25)
    assert len(seen) == len(set(seen)) == 8


# ---- ending early


def test_a_stop_before_the_first_step_is_not_lost():
    """A signal may come while the data are being checked."""
    trainer = make()
    trainer.stop()
    assert trainer.fit(X, LABELS, epochs=3).stopped
    assert trainer.step == 0
    assert not trainer.fit(X, LABELS).stopped


def test_stop_ends_after_the_current_step():
    class StopAtFive(Callback):
        def on_losses(self, trainer, losses):
            if trainer.step >= 5:
                trainer.stop()

    trainer = make(callbacks=[StopAtFive()])
    history = trainer.fit(np.tile(X, (4000, 1)), np.tile(LABELS, 4000), epochs=3, batch_size=2)
    assert history.stopped
    assert trainer.step < 100_000
    trainer.callbacks = ()
    trainer.fit(X, LABELS)
    assert not trainer.history.stopped


def test_stop_from_a_callback_between_epochs():
    class StopAfterTwo(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 2:
                trainer.stop()

    trainer = make(callbacks=[StopAfterTwo()])
    history = trainer.fit(X, LABELS, epochs=10)
    assert len(history) == 2
    assert history.stopped
    assert trainer.step == 4


def test_stop_in_the_last_step_of_an_epoch_keeps_the_epoch():
    class StopAtOnce(Callback):
        def on_losses(self, trainer, losses):
            trainer.stop()

    trainer = make(callbacks=[StopAtOnce()])
    assert len(trainer.fit(X, LABELS, epochs=3, batch_size=50)) == 1
    assert trainer.history.stopped
    assert not trainer.fit(X, LABELS, epochs=1, batch_size=50).stopped


@dataclasses.dataclass(frozen=True)
class Explode(optim.schedules.Schedule):
    """A rate that throws the parameters out of float32 in the second step."""

    def __call__(self, step):
        return 0.1 if step == 1 else 1e308


def test_a_loss_that_is_not_finite_ends_the_run():
    watch = Watch()
    trainer = make(optimizer=optim.SGD(lr=Explode()), callbacks=[watch])
    with pytest.raises(DivergenceError, match=r"the loss is (nan|inf) at step 3 \(epoch 1\): try a smaller"):
        trainer.fit(X, LABELS, epochs=3, batch_size=10)
    assert watch.events[-1] == ("end",)


def test_partial_fit_meets_divergence():
    trainer = make(optimizer=optim.SGD(lr=Explode()))
    trainer.partial_fit(X, LABELS)
    trainer.partial_fit(X, LABELS)
    with pytest.raises(DivergenceError, match="the loss is (nan|inf) at step 3"):
        trainer.partial_fit(X, LABELS)


def test_divergence_in_the_last_step_is_met():
    """Its loss was computed before the update, and is still finite."""
    trainer = make(optimizer=optim.SGD(lr=Explode()))
    with pytest.raises(
        DivergenceError, match=r"parameter 0\.b is not finite after step 2: try a smaller learning rate"
    ):
        trainer.fit(X, LABELS, epochs=2, batch_size=25)


def test_an_interrupt_leaves_the_network_whole(backend):
    """Ctrl-C within a step is held back until the step has put its results in place."""
    trainer = make(backend)
    trainer.partial_fit(X, LABELS)
    stepper = trainer.stepper
    loop = stepper.loop

    class Interrupted(Loop):
        def run(self, *args):
            results = loop.run(*args)
            if trainer.step == 3:
                signal.raise_signal(signal.SIGINT)
            return results

    stepper.loop = Interrupted(backend, ())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, LABELS, epochs=5, batch_size=10)
    assert trainer.step == 4
    assert np.isfinite(get(backend, trainer.network(X))).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stepper.loop = loop
    trainer.fit(X, LABELS)


def interrupted_twice():
    with between_steps():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one was held back as well")


def interrupted_at_the_end():
    with between_steps():
        signal.raise_signal(signal.SIGINT)


def interrupted_before_an_error():
    with between_steps():
        signal.raise_signal(signal.SIGINT)
        raise ValueError


@pytest.mark.parametrize("interrupted", [interrupted_twice, interrupted_at_the_end, interrupted_before_an_error])
def test_interrupts_are_not_lost(interrupted):
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_are_left_alone():
    seen = []
    previous = signal.signal(signal.SIGINT, lambda *_: seen.append("theirs"))
    try:
        with between_steps() as check:
            signal.raise_signal(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen == ["theirs"]


def test_a_last_batch_of_one_is_refused_at_the_door(backend):
    """Not after an epoch: batch normalisation cannot train on it."""
    trainer = make(backend, layer=nn.Sequential([nn.Affine(4), nn.BatchNorm(), nn.Affine(3)]))
    before = get(backend, tree.map(backend.copy, trainer.network.params))
    with pytest.raises(ShapeError, match="BatchNorm cannot train on a batch of one value a channel"):
        trainer.fit(X[:33], LABELS[:33], batch_size=16)
    assert trainer.step == 0
    tree.map(np.testing.assert_array_equal, get(backend, trainer.network.params), before)
    trainer.fit(X[:34], LABELS[:34], batch_size=16)
    make(backend).fit(X[:33], LABELS[:33], batch_size=16)


def test_state_that_is_put_back_stays_the_users(backend):
    trainer = make(backend, layer=nn.Sequential([nn.BatchNorm(), nn.Affine(3)]))
    saved = tree.map(backend.copy, trainer.network.state)
    before = get(backend, tree.map(backend.copy, saved))
    trainer.fit(X, LABELS)
    trainer.network.state = saved
    trainer.fit(X, LABELS)
    tree.map(np.testing.assert_array_equal, get(backend, saved), before)


def test_history_tells_of_runs_that_failed():
    class Fail(Callback):
        def on_epoch_end(self, trainer, record):
            raise RuntimeError("callback")

    watch = Watch()
    trainer = make(callbacks=[watch, Fail()])
    with pytest.raises(RuntimeError, match="callback"):
        trainer.fit(X, LABELS, epochs=2)
    assert trainer.history.stopped
    assert watch.events[-1] == ("end",)


def test_every_callback_ends_whatever_another_does():
    class Fail(Callback):
        def on_fit_end(self, trainer):
            raise RuntimeError("callback")

    first, last = Watch(), Watch()
    with pytest.raises(RuntimeError, match="callback"):
        make(callbacks=[first, Fail(), last]).fit(X, LABELS)
    assert first.events[-1] == last.events[-1] == ("end",)


def test_a_stop_does_not_outlive_a_refused_fit():
    trainer = make()
    trainer.stop()
    with pytest.raises(DataError):
        trainer.fit(X[:0], LABELS[:0])
    assert not trainer.fit(X, LABELS).stopped


# ---- changing one's mind


def test_another_loss_is_used_from_the_next_call_on(backend):
    target = np.eye(3)[LABELS]
    changed, fresh = make(backend), make(backend, loss=losses.HalfSquaredError())
    changed.partial_fit(X, target)
    changed.loss = losses.HalfSquaredError()
    fresh.network.params = tree.map(backend.copy, changed.network.params)
    assert changed.partial_fit(X, target) == pytest.approx(fresh.partial_fit(X, target), rel=1e-5)


def test_another_optimizer(backend):
    trainer = make(backend, optimizer=optim.Adam(lr=0.01))
    trainer.partial_fit(X, LABELS)
    slots = trainer.stepper.slots
    trainer.optimizer = optim.chain(optim.ClipByNorm(1.0), optim.Adam(lr=1e-9))
    trainer.stepper.prepare(Recipe.of(trainer))
    assert trainer.stepper.slots is slots
    before = get(backend, tree.map(backend.copy, trainer.network.params))
    trainer.partial_fit(X, LABELS)
    tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), get(backend, trainer.network.params), before)
    trainer.optimizer = optim.Momentum()
    trainer.partial_fit(X, LABELS)
    assert len(trainer.stepper.slots) == 1


def test_an_optimizer_of_another_type_starts_afresh():
    trainer = make(optimizer=optim.SGD(lr=0.01))
    for _ in range(100):
        trainer.partial_fit(X, LABELS)
    fresh = make(optimizer=optim.Adam(lr=0.01))
    fresh.network.params = tree.map(np.array, trainer.network.params)
    trainer.optimizer = optim.Adam(lr=0.01)
    for each in (trainer, fresh):
        each.partial_fit(X, LABELS)
    tree.map(np.testing.assert_array_equal, trainer.network.params, fresh.network.params)


# ---- the door


@pytest.mark.parametrize(
    ("x", "y", "error", "sentence"),
    [
        (X[:0], LABELS[:0], DataError, "x is empty: it has 0 examples"),
        (X[:, :5], LABELS, ShapeError, r"x has shape \(50, 5\); the network takes \(n, 6\)"),
        (X, LABELS[:49], ShapeError, "x has 50 examples, but y has 49 targets"),
        (X, np.int64(1), ShapeError, "x has 50 examples, but y has no targets"),
        (X, LABELS - 1, DataError, r"the class numbers in y must lie in 0 \.\. 2; they go from -1 to 1"),
        (X, LABELS + 1, DataError, r"the class numbers in y must lie in 0 \.\. 2; they go from 1 to 3"),
        (X, LABELS.astype(float), DataError, "y has dtype float64; class numbers must be integers"),
        (X, np.eye(4)[LABELS], ShapeError, r"y has shape \(50, 4\); the network's output is \(n, 3\)"),
        (X, -np.eye(3)[LABELS], DataError, r"the targets in y must lie in 0 \.\. 1; they go from -1.0 to -?0.0"),
        (X, np.eye(3)[LABELS] * np.nan, DataError, "y has 150 values that are NaN or infinite"),
        (np.where(X > 2, np.inf, X), LABELS, DataError, r"x has \d+ values that are NaN or infinite, the first at \["),
    ],
)
def test_bad_data_changes_nothing(x, y, error, sentence):
    trainer = make()
    for method in (trainer.fit, trainer.partial_fit, trainer.evaluate):
        with pytest.raises(error, match=sentence):
            method(x, y)
    with pytest.raises(error, match=sentence.replace(" y ", " validation y ").replace("x has", "validation x has")):
        trainer.fit(X, LABELS, validation_data=(x, y))
    assert trainer.step == 0
    tree.map(np.testing.assert_array_equal, trainer.network.params, make().network.params)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch_size": 0}, "batch_size must be a positive int, not 0"),
        ({"batch_size": 2.5}, "batch_size must be a positive int, not 2.5"),
        ({"epochs": 0}, "epochs must be a positive int, not 0"),
        ({"epochs": -1}, "epochs must be"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make().fit(X, LABELS, **arguments)


def test_targets_of_the_other_losses():
    one = nn.Sequential([nn.Affine(1)])
    with pytest.raises(DataError, match=r"the targets in y must lie in 0 \.\. 1; they go from 0.0 to 2.0"):
        make(layer=one, loss=losses.SigmoidCrossEntropy()).fit(X, LABELS[:, None] * 1.0)
    with pytest.raises(ShapeError, match=r"y has shape \(50,\); the network's output is \(n, 1\)"):
        make(layer=one, loss=losses.HalfSquaredError()).fit(X, X[:, 0])
    yes_no = LABELS[:, None] > 0
    make(layer=one, loss=losses.SigmoidCrossEntropy()).fit(X, yes_no)
    make(layer=one, loss=losses.HalfSquaredError()).fit(X, LABELS[:, None])
    make().fit(X.tolist(), LABELS.tolist())


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: make(loss="mse"), "Trainer's loss must be a Loss, not 'mse'"),
        (
            lambda: make(loss=losses.SoftmaxCrossEntropy),
            r"must be a Loss, not <class .*>; write SoftmaxCrossEntropy\(\)",
        ),
        (lambda: make(optimizer=optim.Adam), r"must be an Optimizer or a FullBatch, not <class .*>; write Adam\(\)"),
        (lambda: make(metrics={"loss": metrics.accuracy}), 'no metric can be called "loss"'),
        (lambda: make().fit(X, LABELS, validation_data=X), r"validation_data must be a pair \(x, y\)"),
        (lambda: make(layer=[nn.Affine(3)]), "a network is made of a layer, not of"),
        (lambda: nn.Affine(3, weight_init=nn.HeNormal), r"weight_init must be an Initializer, .*; write HeNormal\(\)"),
    ],
)
def test_wrong_types(make_it, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_it()


def test_numbers_of_numpy_are_numbers():
    trainer = make(optimizer=optim.Momentum(lr=np.float32(0.1), alpha=np.float64(0.9)))
    trainer.fit(X, LABELS, epochs=np.int64(2), batch_size=np.int32(10))
    assert all(p.dtype == np.float32 for p in tree.leaves(trainer.network.params))
    assert Network(nn.Affine(np.int64(3)), np.int64(4)).output_shape == (3,)


def test_metrics_may_return_any_number(backend):
    kinds = {"python": lambda p, t: 0.25, "numpy": lambda p, t: np.float64(0.25), "array": lambda p, t: p[0, 0] * 0.0}
    measured = make(backend, metrics=kinds).evaluate(X, LABELS, batch_size=7)
    assert measured["python"] == measured["numpy"] == pytest.approx(0.25)
    assert measured["array"] == 0.0
    with pytest.raises(ShapeError, match=r"metric 'vector' must return one number, not an array of shape \(50, 3\)"):
        make(metrics={"vector": lambda p, t: p}).evaluate(X, LABELS)


def test_one_output_is_no_classification():
    one = nn.Sequential([nn.Affine(1)])
    with pytest.raises(ShapeError, match="for one output, take SigmoidCrossEntropy"):
        make(layer=one).fit(X, LABELS)
    trainer = make(layer=one, loss=losses.SigmoidCrossEntropy(), metrics={"accuracy": metrics.accuracy})
    with pytest.raises(ShapeError, match="for one output, take binary_accuracy"):
        trainer.evaluate(X, LABELS[:, None] > 0)
    with pytest.raises(ShapeError, match=r"the network's output is \(n, 1\): write y\[:, None\]"):
        trainer.fit(X, LABELS > 0)


def test_float64_data_train_a_float32_network(backend):
    history = make(backend).fit(X.astype(np.float64), np.eye(3)[LABELS], epochs=1)
    assert np.isfinite(history["loss"][0])
    with pytest.raises(DataError, match="x has 1 values that are NaN or infinite"):
        make(backend).fit(np.where(np.arange(300).reshape(50, 6) == 7, 1e300, X.astype(np.float64)), LABELS)


def test_large_integers_are_features_too(backend):
    x = (X * 1e12).astype(np.int64)
    expected = make("cpu").network(x)
    np.testing.assert_allclose(get(backend, make(backend).network(x)), expected, rtol=1e-4)


def test_the_backends_of_the_lanes_are_the_networks():
    assert make(get_backend("cpu")).network.backend.name == "numpy"


# ---- the order of the examples, and copies


def test_an_order_of_ones_own():
    calls = []

    def backwards(n, epoch):
        calls.append((n, epoch))
        return np.arange(n)[::-1]

    watch, one_by_one = Watch(), make(optimizer=optim.SGD(0.1))
    trainer = make(optimizer=optim.SGD(0.1), order=backwards, callbacks=[watch])
    trainer.fit(X, LABELS, epochs=2, batch_size=16)
    assert calls == [(50, 0), (50, 1)]
    expected = [
        one_by_one.partial_fit(X[::-1][i : i + 16], LABELS[::-1][i : i + 16])
        for _ in range(2)
        for i in range(0, 50, 16)
    ]
    np.testing.assert_allclose(watch.losses, expected, rtol=1e-6)
    trainer.order = lambda n, epoch: np.arange(3)
    with pytest.raises(ShapeError, match="one number for each of 50 examples"):
        trainer.fit(X, LABELS)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_alike_and_apart(copied):
    trainer = make(layer=nn.Sequential([nn.Affine(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Affine(3)]))
    trainer.fit(X, LABELS, epochs=2, batch_size=16)
    twin = copied(trainer)
    before = get(trainer.network.backend, tree.map(np.copy, trainer.network.params))
    twin.fit(X, LABELS, epochs=2, batch_size=16)
    assert_equal(trainer.network.params, before)
    trainer.fit(X, LABELS, epochs=2, batch_size=16)
    assert_equal(trainer.network.params, twin.network.params)
    assert len(trainer.history) == len(twin.history) == 4


ORDERS = {
    "list": lambda n, epoch: list(range(n))[::-1],
    "tuple": lambda n, epoch: tuple(range(n))[::-1],
    "range": lambda n, epoch: range(n - 1, -1, -1),
    "int32": lambda n, epoch: np.arange(n, dtype=np.int32)[::-1],
    "uint64": lambda n, epoch: np.arange(n, dtype=np.uint64)[::-1],
    "big-endian": lambda n, epoch: np.arange(n)[::-1].astype(">i4"),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_orders_in_any_form(order, backend, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (X, mapped):
        expected = make(backend, order=lambda n, epoch: np.arange(n)[::-1]).fit(x, LABELS, batch_size=16)["loss"]
        assert make(backend, order=order).fit(x, LABELS, batch_size=16)["loss"] == expected


def test_orders_on_a_device(backend):
    order = np.random.default_rng(0).integers(0, 50, size=50)  # with replacement
    expected = make(backend, order=lambda n, epoch: order).fit(X, LABELS)["loss"]
    assert make(backend, order=lambda n, epoch: backend.asarray(order)).fit(X, LABELS)["loss"] == expected


@pytest.mark.parametrize(
    ("order", "error", "sentence"),
    [
        (np.arange(50) % 2 == 0, DataError, "must give integers, .*, not bool: np.flatnonzero gives"),
        (np.arange(50.0), DataError, "must give integers, the numbers of the examples, not float64"),
        (np.arange(1, 51), DataError, "numbers of examples from 0 to 49, not from 1 to 50"),
        (np.arange(-1, 49), DataError, "numbers of examples from 0 to 49, not from -1 to 48"),
        (np.full(50, 2**63, np.uint64), DataError, "not from 9223372036854775808"),
        (list(range(49)), ShapeError, r"one number for each of 50 examples, not shape \(49,\)"),
        (np.arange(50)[:, None], ShapeError, r"not shape \(50, 1\)"),
        (None, DataError, "must give an array of integers, not an object of type NoneType"),
        ("backwards", DataError, "not an object of type str"),
        ([[1], [2, 3]], DataError, "not an object of type list"),
    ],
)
def test_orders_that_are_none(order, error, sentence):
    trainer = make(order=lambda n, epoch: order)
    with pytest.raises(error, match=sentence):
        trainer.fit(X, LABELS)
    assert trainer.step == 0
