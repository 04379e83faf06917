"""What happens where a loss or an update is not finite."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from array_api_compat import array_namespace
from helpers import get, prepared_piece
from lanes import host_closed, open_lane

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import ConfigError, DivergenceError
from portnn.training import Callback, Checkpoint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = RNG.integers(0, 3, size=40)
#: One example for which the loss of any network with an Affine overflows float32.
BAD = np.where(np.arange(40)[:, None] == 17, np.float32(3e38), X)


def make(device="cpu", layer=None, optimizer=None, on_nonfinite="skip", callbacks=()):
    layer = layer or nn.Sequential([nn.Affine(8), nn.BatchNorm(), nn.Tanh(), nn.Affine(3)])
    net = Network(layer, 6, device=device, rng=0)
    optimizer = optimizer or optim.Adam(lr=0.01)
    return Trainer(net, losses.SoftmaxCrossEntropy(), optimizer, rng=0, on_nonfinite=on_nonfinite, callbacks=callbacks)


class Losses(Callback):
    def __init__(self):
        self.all = []

    def on_losses(self, trainer, losses):
        self.all += losses


def everything(trainer):
    backend = trainer.network.backend
    trees = trainer.network.params, trainer.network.state, trainer.stepper.slots
    return get(backend, tree.map(backend.copy, trees))


def test_a_skipped_step_changes_nothing(backend):
    trainer = make(backend)
    trainer.partial_fit(X, Y)
    before = everything(trainer)
    assert math.isnan(trainer.partial_fit(BAD, Y))
    tree.map(np.testing.assert_array_equal, everything(trainer), before)
    assert trainer.step == 2
    assert math.isfinite(trainer.partial_fit(X, Y))


def test_skipping_changes_no_other_step(backend):
    runs = []
    for on_nonfinite in ("stop", "skip"):
        layer = nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(3)])
        trainer = make(backend, layer, on_nonfinite=on_nonfinite)
        trainer.fit(X, Y, epochs=3, batch_size=8)
        runs.append(everything(trainer))
    tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *runs)


@pytest.mark.parametrize(
    "optimizer", [optim.Accumulate(2, optim.Momentum()), optim.chain(optim.ClipByNorm(1.0), optim.NAdam())]
)
def test_an_epoch_with_a_bad_example(optimizer):
    watch = Losses()
    trainer = make(callbacks=[watch], optimizer=optimizer)
    history = trainer.fit(BAD, Y, epochs=2, batch_size=8)
    assert history["skipped"] == [1, 1]
    assert sum(map(math.isnan, watch.all)) == 2
    first = [loss for loss in watch.all[:5] if not math.isnan(loss)]
    assert history["loss"][0] == pytest.approx(sum(first) / 4)
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(everything(trainer)))


def test_a_gradient_that_is_not_finite_is_skipped_too():
    """The loss is; the update would not be."""
    trainer = make(optimizer=optim.SGD(lr=1e38), layer=nn.Affine(3))
    before = everything(trainer)
    assert math.isnan(trainer.partial_fit(X * 1e6, Y))
    tree.map(np.testing.assert_array_equal, everything(trainer), before)


def test_an_epoch_of_nothing_but_bad_steps_ends_the_run():
    with pytest.raises(DivergenceError, match=r"no step of epoch 1 could be applied: none of their losses and updates"):
        make().fit(np.full_like(X, 3e38), Y, epochs=2, batch_size=8)


def test_the_host_does_not_wait():
    with open_lane("strict:device1") as backend:
        trainer = make(backend)
        piece = prepared_piece(trainer, X, Y, 8)
        with host_closed(backend):
            trainer.stepper.advance((piece,))


def test_resumed_in_an_epoch_with_a_skipped_step(tmp_path):
    alone = make()
    alone.fit(BAD, Y, epochs=2, batch_size=8)
    first = make(callbacks=[Checkpoint(tmp_path, steps=1, seconds=math.inf, keep=99)])
    first.fit(BAD, Y, epochs=2, batch_size=8)
    for step in range(1, 10):
        second = make()
        second.load(tmp_path / f"checkpoint-{step:09d}.safetensors")
        second.fit(BAD, Y, epochs=2 - second.epoch, batch_size=8)
        tree.map(np.testing.assert_array_equal, everything(alone), everything(second))
        for column in ("loss", "skipped"):
            assert second.history[column] == alone.history[column]


# ---- stopping


@dataclass(frozen=True)
class Log(nn.Layer):
    """Not finite for what is not positive."""

    def init(self, rng, input_shape):
        return {}, (), input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        return array_namespace(x).log(x), state, lambda dy, input_grad=True: (dy / x, {})


def sentence(trainer, x, **kwargs):
    with pytest.raises(DivergenceError) as raised:
        trainer.fit(x, Y, **kwargs)
    return str(raised.value)


def test_names_step_and_layer(backend):
    """The layer where it begins, if nothing before it is trained."""
    layer = nn.Sequential([nn.Sequential([nn.Identity(), Log()]), nn.Affine(3)])
    found = sentence(make(backend, layer, on_nonfinite="stop"), X, batch_size=40)
    assert re.match(r"the loss is (nan|inf) at step 1 \(epoch 1\): try a smaller learning rate than in Adam", found)
    assert found.endswith("the first layer whose output is not finite is 0.1 (Log)")


@dataclass(frozen=True)
class Branches(nn.Layer):
    """Somebody's own container: the sum of what layers with names of their own make."""

    ways: dict

    def init(self, rng, input_shape):
        made = {name: way.init(rng.child(name), input_shape) for name, way in self.ways.items()}
        return {k: v[0] for k, v in made.items()}, {k: v[1] for k, v in made.items()}, input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        made = {k: way.forward(params[k], state[k], x, train=train, rng=rng) for k, way in self.ways.items()}

        def backward(dy, input_grad=True):
            back = {k: v[2](dy) for k, v in made.items()}
            return sum(dx for dx, _ in back.values()), {k: grads for k, (_, grads) in back.items()}

        return sum(v[0] for v in made.values()), {k: v[1] for k, v in made.items()}, backward


@dataclass(frozen=True)
class Enormous(nn.Layer):
    """Finite, but not twice."""

    def init(self, rng, input_shape):
        return {}, (), input_shape

    def forward(self, params, state, x, *, train=False, rng=None):
        return x * 0.0 + 3e38, state, lambda dy, input_grad=True: (dy * 0.0, {})


INSIDE = nn.Sequential([nn.Identity(), Log()])


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        (nn.Residual(INSIDE), "1.layer.1 (Log)"),
        (nn.Residual(nn.Identity(), Log()), "1.shortcut (Log)"),
        (nn.Residual(Enormous(), Enormous()), "1 (Residual)"),
        (nn.Frozen(Log()), "1.layer (Log)"),
        (nn.Frozen(INSIDE), "1.layer.1 (Log)"),
        (nn.Sequential([nn.Tanh(), nn.Residual(nn.Frozen(INSIDE))]), "1.1.layer.layer.1 (Log)"),
        (nn.Frozen(nn.Sequential([nn.Residual(nn.Tanh(), nn.Residual(INSIDE))])), "1.layer.0.shortcut.layer.1 (Log)"),
        (Branches({"calm": nn.Tanh(), "wild": nn.Residual(INSIDE)}), "1.ways.wild.layer.1 (Log)"),
    ],
)
def test_names_the_layer_inside_containers(layer, place, backend):
    found = sentence(make(backend, nn.Sequential([nn.Tanh(), layer, nn.Affine(3)]), on_nonfinite="stop"), X)
    assert found.endswith(f"the first layer whose output is not finite is {place}")


def test_names_a_layer_that_is_not_finite_in_training_only():
    """With the random numbers of the step: what is left of a huge number by dropout is beyond the largest."""

    def place(layer):
        net = nn.Sequential([nn.Tanh(), Enormous(), layer, nn.Affine(3)])
        return sentence(make(layer=net, on_nonfinite="stop"), X).rpartition(" is ")[2]

    assert place(nn.Residual(nn.Sequential([nn.Tanh(), nn.Dropout(0.5)]), nn.Dropout(0.5))) == "2.shortcut (Dropout)"
    assert place(nn.Residual(nn.Tanh(), nn.Frozen(nn.Dropout(0.5)))) == "3 (Affine)"


def test_names_parameters_that_are_not_finite():
    found = sentence(make(on_nonfinite="stop"), BAD, batch_size=40)
    # What the parameters are by then depends on how many steps were done before the loss was looked at: one or more.
    pattern = r"at step 1 .* not finite is 0 \(Affine\)(, and so are its parameters \(b, w\) after step \d+)?$"
    assert re.search(pattern, found)


def test_names_the_last_good_checkpoint(tmp_path):
    class Spoil(Callback):
        def on_epoch_end(self, trainer, record):
            if trainer.epoch == 2:
                trainer.network.params = tree.map(lambda p: p * np.float32(1e38), trainer.network.params)

    callbacks = [Checkpoint(tmp_path, seconds=math.inf, steps=5), Spoil()]
    trainer = make(layer=nn.Sequential([nn.Affine(3), nn.Affine(3)]), on_nonfinite="stop", callbacks=callbacks)
    found = sentence(trainer, X, batch_size=8, epochs=5)
    assert f"the last good checkpoint is {tmp_path}/checkpoint-0000000" in found
    again = make(layer=trainer.network.layer, on_nonfinite="stop")
    again.load(trainer.last_checkpoint)
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(everything(again)))


def test_bad_argument():
    with pytest.raises(ConfigError, match='on_nonfinite must be "stop" or "skip", not \'ignore\''):
        make(on_nonfinite="ignore")


# ---- what the optimizer and the layers remember

#: A gradient whose square overflows float32.
HUGE = np.where(np.arange(40)[:, None] < 8, np.float32(2e25), X)


@pytest.mark.parametrize(
    ("optimizer", "slot"),
    [
        (optim.Adam(0.1), r"1\.[bw]"),
        (optim.chain(optim.L2(0.0), optim.RMSProp(0.1)), r"0\.[bw]"),
        (optim.Adagrad(0.1), r"0\.[bw]"),
        (optim.Accumulate(1, optim.Adam(0.1)), r"2\.[bw]"),
    ],
)
def test_a_moment_that_is_infinite_for_ever_is_told(optimizer, slot, backend):
    """The loss is finite, and so are the parameters: what would end is the learning, in silence."""
    net = Network(nn.Affine(3), 6, device=backend, rng=0)
    trainer = Trainer(net, losses.MeanAbsoluteError(), optimizer, rng=0, order=lambda n, epoch: np.arange(n))
    with pytest.raises(
        DivergenceError, match=rf"^the optimizer's slot {slot} is not finite after step 5: try a smaller"
    ):
        trainer.fit(HUGE, np.zeros((40, 3)), batch_size=8)


def test_a_state_that_is_not_finite_is_told():
    @dataclass(frozen=True)
    class Largest(nn.Layer):
        """Remembers what overflows, and hands the numbers on."""

        def init(self, rng, input_shape):
            return {}, {"square": rng.full((), 0.0)}, input_shape

        def forward(self, params, state, x, *, train=False, rng=None):
            return x, {"square": array_namespace(x).max(x * x)}, lambda dy, input_grad=True: (dy, {})

    layer = nn.Sequential([Largest(), nn.Affine(3)])
    trainer = Trainer(Network(layer, 6, rng=0), losses.MeanAbsoluteError(), optim.SGD(1e-30), rng=0)
    with pytest.raises(DivergenceError, match=r"^state 0\.square is not finite after step 1"):
        trainer.fit(HUGE, np.zeros((40, 3)), batch_size=40)


def test_no_checkpoint_with_a_slot_that_is_not_finite(tmp_path):
    net = Network(nn.Affine(3), 6, rng=0)
    trainer = Trainer(net, losses.MeanAbsoluteError(), optim.Adam(), rng=0)
    trainer.partial_fit(HUGE, np.zeros((40, 3)))
    with pytest.raises(
        DivergenceError, match=r"optimizer\.1\.\w is not finite after step 1, so no checkpoint is written"
    ):
        trainer.save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
