"""Checkpoints: a run that was cut anywhere and goes on gives what the run left alone gives, bit for bit."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lanes import USABLE, open_lane
from resumed_runs import CutAt, Killed, X, Y, assert_same_run, cut, fit, make, resumed
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import ConfigError, DivergenceError, ModelFileError
from portnn.training import Callback, Checkpoint, EarlyStopping, ReduceOnPlateau, latest_checkpoint


# Not on read-only NumPy: a twin that writes takes over there after the first step, which resuming puts elsewhere.
@pytest.mark.parametrize("lane", [name for name in USABLE if name not in ("numpy-readonly", "strict:no_x64")])
def test_exact_resume(lane, tmp_path):
    with open_lane(lane) as backend:
        alone = fit(make(backend))
        assert alone.history.stopped
        assert alone.lr_factor < 1
        # Within an epoch; and on NumPy at its ends, while early stopping waits, and in the last epoch.
        for step in range(1, alone.step + 1) if lane == "numpy" else [6]:
            cut(tmp_path / "c", step, backend)
            assert_same_run(alone, fit(resumed(tmp_path / "c", backend)))


@pytest.mark.parametrize("name", ["SGD", "Momentum", "NAdam", "AMSGrad", "Chain", "Accumulate", "WeightDecay"])
def test_exact_resume_of_optimizers(name, tmp_path):
    from families import OPTIMIZERS

    kwargs = {"optimizer": OPTIMIZERS[name]}
    for step in (3, 6):
        cut(tmp_path / "c", step, **kwargs)
        assert_same_run(fit(make(**kwargs)), fit(resumed(tmp_path / "c", **kwargs)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_exact_resume_of_any_shape(data, tmp_path):
    """Any number of examples, batch size and dtype; cut any number of times."""
    n, size = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    steps = 3 * math.ceil(n / size)
    cuts = sorted(data.draw(st.sets(st.integers(1, steps), max_size=3)))

    def new(seed):
        layer = nn.Sequential([nn.Flatten(), nn.Affine(5), nn.LayerNorm(), nn.Dropout(0.5), nn.Affine(3)])
        net = Network(layer, (4, 4, 1), rng=seed, dtype=dtype)
        return Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01), rng=seed, callbacks=())

    def run(trainer):
        trainer.fit(X[:n], Y[:n], epochs=3 - trainer.epoch, batch_size=size)
        return trainer

    parts, path = new(1), tmp_path / "c"
    for step in cuts:
        parts.callbacks = (CutAt(path, step),)
        with pytest.raises(Killed):
            run(parts)
        parts = new(2)
        parts.load(path)
    parts.callbacks = ()
    assert_same_run(run(new(1)), run(parts))


@pytest.mark.parametrize("lane", [name for name in USABLE if name not in ("numpy", "numpy-readonly", "strict:no_x64")])
def test_resume_on_another_backend_goes_on_with_the_same_curve(lane, tmp_path):
    alone = fit(make("cpu"))
    with open_lane(lane) as backend:
        for before, after in (("cpu", backend), (backend, "cpu")):
            cut(tmp_path / "c", 6, before)
            there = fit(resumed(tmp_path / "c", after))
            np.testing.assert_allclose(there.history["loss"], alone.history["loss"], rtol=1e-4)


def test_going_on_after_the_last_epoch(tmp_path):
    """A run of 3 epochs that is made one of 6 equals a run of 6."""
    first = make(callbacks=[Checkpoint(tmp_path, seconds=math.inf)])
    fit(first, until=3)
    longer = resumed(latest_checkpoint(tmp_path), callbacks=())
    fit(longer, until=6)
    alone = fit(make(callbacks=()), until=6)
    assert_same_run(alone, longer)


def test_killed_after_the_last_epoch(tmp_path):
    """What callbacks do at the end of a run is still to be done."""

    def new(*more):
        return make(callbacks=[EarlyStopping("loss", larger_is_better=True, patience=9), *more])

    alone, killed = fit(new(), until=4), new(Checkpoint(tmp_path))
    assert alone.callbacks[0].best_epoch < 4
    fit(killed, until=4)
    again = new()
    again.load(latest_checkpoint(tmp_path))
    assert again.epoch == 4
    assert_same_run(alone, fit(again, until=4))
    with pytest.raises(ConfigError, match="epochs must be a positive int, not 0"):
        fit(again, until=4)


def test_saved_outside_of_fit(tmp_path):
    """What callbacks remember is of one call of fit; the next one begins anew, resumed or not."""
    first = fit(make(), until=2)
    first.save(tmp_path / "c")
    second = resumed(tmp_path / "c")
    assert not second.resuming
    for trainer in (first, second):
        trainer.partial_fit(X, Y)
        fit(trainer, until=4)
    assert_same_run(first, second)


def test_a_checkpoint_holds_a_network(tmp_path, backend):
    cut(tmp_path / "c", 6)
    net, trainer = Network.load(tmp_path / "c", device=backend), resumed(tmp_path / "c")
    expected = trainer.network.predict(X)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_can_be_read_without_portnn(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    cut(tmp_path / "c", 6)
    trainer = resumed(tmp_path / "c")
    w = load_torch(tmp_path / "c")["params.1.w"]
    assert isinstance(w, torch.Tensor)
    np.testing.assert_array_equal(w.numpy(), trainer.network.params[1]["w"])
    with safe_open(tmp_path / "c", framework="numpy") as file:
        assert {"optimizer.0.1.w", "optimizer.1.6.b", "state.2.mean", "callbacks.0.params.1.w"} <= set(file.keys())
        training = json.loads(file.metadata()["training"])
    assert (training["version"], training["epoch"], training["step"]) == (1, 1, 6)
    assert training["progress"]["batches"] == 2


# ---- what does not fit


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer": nn.Sequential([nn.Flatten(), nn.Affine(3)])}, "the checkpoint's network has layer .*the trainer's"),
        ({"optimizer": optim.SGD()}, "the checkpoint's optimizer is Adam; the trainer's is SGD"),
        ({"callbacks": ()}, r"state of the callbacks \['EarlyStopping', 'ReduceOnPlateau'\]; the trainer has \[\]"),
        ({"callbacks": [ReduceOnPlateau(), EarlyStopping()]}, "state of the callbacks"),
    ],
)
def test_another_trainer(change, sentence, tmp_path):
    cut(tmp_path / "c", 6)
    trainer = make(**change)
    before = tree.map(np.array, trainer.network.params)
    with pytest.raises(ConfigError, match=sentence):
        trainer.load(tmp_path / "c")
    assert trainer.step == 0
    tree.map(np.testing.assert_array_equal, trainer.network.params, before)
    fit(trainer, until=1)


def test_other_data(tmp_path):
    cut(tmp_path / "c", 6)
    trainer = resumed(tmp_path / "c")
    for arguments in ({"x": X[:40], "y": Y[:40], "batch_size": 16}, {"x": X, "y": Y, "batch_size": 10}):
        with pytest.raises(ConfigError, match=r"saved within an epoch of \[50, 16\]"):
            trainer.fit(**arguments)
    fit(trainer)
    assert_same_run(fit(make()), trainer)


def test_a_network_is_no_checkpoint(tmp_path):
    make().network.save(tmp_path / "n")
    with pytest.raises(ModelFileError, match="holds a network, but no training to go on with: Network.load reads it"):
        make().load(tmp_path / "n")
    with pytest.raises(ModelFileError, match="there is no such model file"):
        make().load(tmp_path / "none")


def changed(path, change, tensors=None):
    """The file with another training part, and without its hash."""
    with safe_open(path, framework="numpy") as file:
        metadata = {k: v for k, v in file.metadata().items() if k != "blake2b"}
    training = json.loads(metadata["training"])
    change(training)
    save_file((tensors or (lambda t: t))(load_file(path)), path, metadata | {"training": json.dumps(training)})


def without(key):
    return lambda tensors: {k: v for k, v in tensors.items() if k != key}


@pytest.mark.parametrize(
    ("change", "tensors", "sentence"),
    [
        (lambda t: t.update(version=2), None, "the version of its training part is 2; this portnn reads 1"),
        (lambda t: t.pop("epoch"), None, "'epoch'"),
        (lambda t: t.update(epoch=-1), None, "-1 is no count"),
        (lambda t: t.update(step=2**64), None, "is no count"),
        (lambda t: t.update(step=True), None, "True is no count"),
        (lambda t: t.update(lr_factor="1"), None, "'1' is no number"),
        (lambda t: t.update(rng=[0, 0]), None, "not enough values"),
        (lambda t: t.update(rng=[-1, 0, []]), None, "seed must be"),
        (lambda t: t.update(history={"records": [{"loss": "x"}], "stopped": False, "message": ""}), None, "no number"),
        (lambda t: t.update(history=[]), None, "list indices"),
        (lambda t: t.update(progress=None), None, "does not fit its own description"),
        (lambda t: t["progress"].update(seconds=0), None, "2 batches in 0.0 seconds"),
        (lambda t: t["progress"].update(skipped=3), None, "it has skipped more than there was"),
        (lambda t: t.update(data=[1.5, None]), None, "1.5 is no count"),
        (lambda t: t["callbacks"][0].pop(), None, "does not fit its own description"),
        (lambda t: t["callbacks"][0][1].update(best="low"), None, "could not convert"),
        (lambda t: None, without("optimizer.0.1.w"), "missing in the tree: optimizer.0.1.w"),
        (lambda t: None, without("callbacks.0.params.1.w"), "missing in the tree: params.1.w"),
        (lambda t: None, lambda t: t | {"callbacks.7.w": np.ones(1)}, "not expected in the tree: callbacks.7.w"),
        (lambda t: None, lambda t: t | {"other": np.ones(1)}, "not expected in the tree: other"),
        (lambda t: None, lambda t: t | {"optimizer.0.1.b": np.ones(3, np.float32)}, "the architecture needs"),
        (lambda t: None, lambda t: t | {"optimizer.0.1.b": np.ones(12)}, "is float64; the network is float32"),
    ],
)
def test_a_training_part_that_does_not_fit(change, tensors, sentence, tmp_path):
    cut(tmp_path / "c", 6)
    changed(tmp_path / "c", change, tensors)
    trainer = make()
    with pytest.raises(ModelFileError, match=f"c does not fit its own description: .*{sentence}|{sentence}"):
        trainer.load(tmp_path / "c")
    assert trainer.step == 0


def test_numbers_of_other_libraries_in_a_record(tmp_path):
    class Odd(Callback):
        def on_epoch_end(self, trainer, record):
            record |= {"a": np.float32(0.5), "b": np.int64(3), "c": math.nan}

    first = fit(make(callbacks=[Odd()]), until=1)
    first.save(tmp_path / "c")
    record = resumed(tmp_path / "c", callbacks=()).history.records[0]
    assert (record["a"], record["b"]) == (0.5, 3)
    assert math.isnan(record["c"])
    first.history.records[0]["d"] = np.ones(2)
    with pytest.raises(
        ConfigError, match="a value of type ndarray cannot be saved: records and callbacks hold numbers"
    ):
        first.save(tmp_path / "c")
    assert resumed(tmp_path / "c", callbacks=()).epoch == 1


def test_no_checkpoint_of_a_network_that_diverged(tmp_path):
    trainer = make(augment=None)
    trainer.network.params[1]["w"][0, 0] = np.nan
    with pytest.raises(DivergenceError, match=r"params.1.w is not finite after step 0, so no checkpoint is written"):
        trainer.save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_full_batch_methods_go_on_from_the_parameters(tmp_path):
    quiet = nn.Sequential([nn.Flatten(), nn.Affine(5), nn.Tanh(), nn.Affine(3)])
    kwargs = {"optimizer": optim.LBFGS(), "augment": None, "callbacks": (), "layer": quiet}
    first = make(**kwargs)
    first.fit(X, Y, epochs=3)
    first.save(tmp_path / "c")
    second = resumed(tmp_path / "c", **kwargs)
    assert second.epoch == 3
    assert second.fit(X, Y, epochs=3)["loss"][3] <= first.history["loss"][2]


def test_the_optimizer_of_another_run_is_not_taken(tmp_path):
    with open_lane("numpy"):
        trainer = make(optimizer=optim.Accumulate(2, optim.Adam()), callbacks=())
    trainer.partial_fit(X, Y)
    trainer.save(tmp_path / "c")
    with pytest.raises(ConfigError, match=r"optimizer is \(Accumulate, 2, Adam\); the trainer's is \(Accumulate, 3, "):
        resumed(tmp_path / "c", optimizer=optim.Accumulate(3, optim.Adam()), callbacks=())


# ---- damaged files, and files of before


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_the_error_of_a_damaged_checkpoint_names_the_whole_one_before_it(damage, tmp_path):
    fit(make(callbacks=[Checkpoint(tmp_path, steps=1, seconds=math.inf, keep=9)]), until=1)
    *_, second, third, last = sorted(tmp_path.iterdir())
    for path in (third, last):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ModelFileError, match=f"{path.name} .*; the latest whole checkpoint before it is {second}$"):
            make().load(path)
    assert resumed(second, callbacks=()).step == 2
    first = sorted(tmp_path.iterdir())[0]
    first.write_bytes(b"")
    with pytest.raises(ModelFileError, match="damaged") as raised:
        make().load(first)
    assert "whole" not in str(raised.value)
    with pytest.raises(ModelFileError, match="there is no such model file") as raised:
        make().load(tmp_path / "model")
    assert "whole" not in str(raised.value)


@pytest.mark.parametrize("step", [2, 3])  # between two batches, and within one
def test_an_accumulation_of_before_its_pieces_had_weights(step, tmp_path):
    """Such a file has the sum of their mean gradients; for pieces of one size the run goes on as it would have."""
    kwargs = {"optimizer": optim.Accumulate(2, optim.Momentum()), "callbacks": ()}
    size = 10  # five pieces an epoch
    alone = fit(make(**kwargs), until=3, batch_size=size)
    first = make(**kwargs)
    first.callbacks = (CutAt(tmp_path / "c", step),)
    with pytest.raises(Killed):
        fit(first, until=3, batch_size=size)

    def as_it_was(tensors):
        old = {key: t for key, t in tensors.items() if not key.startswith("optimizer.2.")}
        assert len(old) == len(tensors) - 2
        return {key: t / np.float32(size) if key.startswith("optimizer.0.") else t for key, t in old.items()}

    changed(tmp_path / "c", lambda t: None, as_it_was)
    again = fit(resumed(tmp_path / "c", **kwargs), until=3, batch_size=size)
    np.testing.assert_allclose(again.history["loss"], alone.history["loss"], rtol=1e-5)


def test_slots_of_another_meaning_are_refused(tmp_path, monkeypatch):
    """The first version of centred RMSProp kept the mean of the squares where now the variance is."""
    optimizer = optim.CentredRMSProp(lr=0.01)
    now = fit(make(optimizer=optimizer, callbacks=()), until=1)
    now.save(tmp_path / "now")
    with monkeypatch.context() as patch:
        patch.setattr(optim.CentredRMSProp, "kind", optim.CentredRMSProp)
        fit(make(optimizer=optimizer, callbacks=()), until=1).save(tmp_path / "before")
    again = make(optimizer=optimizer, callbacks=())
    with pytest.raises(ConfigError, match="the checkpoint's optimizer is CentredRMSProp; the trainer's is .*variance"):
        again.load(tmp_path / "before")
    again.load(tmp_path / "now")
    assert again.step == now.step
