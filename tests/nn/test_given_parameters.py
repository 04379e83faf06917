"""Parameters and state that are put into a network by hand: converted, or refused in a sentence, never saved wrong."""

import collections

import numpy as np
import pytest

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import DataError, PortnnError, ShapeError
from portnn.training import Callback, Checkpoint, EarlyStopping, latest_checkpoint

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3


def make(device="cpu", dtype="float32"):
    return Network(nn.Sequential([nn.Affine(5), nn.BatchNorm(), nn.Affine(3)]), 4, rng=0, device=device, dtype=dtype)


def values(net):
    return tree.map(lambda a: np.array(net.backend.to_numpy(a)), {"params": net.params, "state": net.state})


def put(net, change):
    """Host copies of params and state, changed leaf by leaf, in the place of what a network has."""
    given = tree.map(change, values(net))
    net.params, net.state = given["params"], given["state"]


def in_place(net, change):
    for part in (*net.params, *net.state):
        for key, leaf in dict(part or {}).items():
            part[key] = change(np.array(net.backend.to_numpy(leaf)))


FORMS = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "big-endian": lambda a: a.astype(">f4"),
    "list": lambda a: a.tolist(),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
USES = {
    "save": lambda net, path: net.save(path),
    "to": lambda net, path: net.to("cpu"),
    "predict": lambda net, path: net.predict(X),
    "fit": lambda net, path: trainer(net).fit(X, Y),
    "partial_fit": lambda net, path: trainer(net).partial_fit(X, Y),
    "evaluate": lambda net, path: trainer(net).evaluate(X, Y),
    "trainer.save": lambda net, path: trainer(net).save(path),
}


def trainer(net):
    return Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(0.1), rng=0)


@pytest.mark.parametrize("way", [put, in_place])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_other_forms_are_converted(way, form, backend, tmp_path):
    net, rounded = make(backend), make(backend)
    way(net, form)
    put(rounded, lambda a: np.asarray(form(a)).astype(np.float32))
    np.testing.assert_allclose(net.predict(X), rounded.predict(X), rtol=1e-5, atol=1e-6)
    for leaf in tree.leaves((net.params, net.state)):
        assert backend.owns(leaf)
        assert leaf.dtype == backend.dtype("float32")
    net.save(tmp_path / "net")
    tree.map(np.testing.assert_array_equal, values(Network.load(tmp_path / "net")), values(rounded))


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wherever_it_is_used(use, dtype, tmp_path):
    net = make(dtype=dtype)
    put(net, lambda a: a.astype(np.float16))
    use(net, tmp_path / "net")
    assert {str(leaf.dtype) for leaf in tree.leaves((net.params, net.state))} == {dtype}
    if (tmp_path / "net").exists():
        Network.load(tmp_path / "net")


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_other_containers(use, tmp_path):
    net, before = make(), make().predict(X)
    net.params = [collections.OrderedDict(part) for part in net.params]
    net.state = list(net.state)
    use(net, tmp_path / "net")
    assert type(net.params) is tuple
    assert all(type(part) is dict for part in net.params)
    if use in (USES["save"], USES["predict"]):
        np.testing.assert_array_equal(net.predict(X), before)
    if (tmp_path / "net").exists():
        Network.load(tmp_path / "net")


def wrong(change):
    def put_in(net):
        params = [dict(part) for part in net.params]
        change(params)
        net.params = tuple(params)

    return put_in


def wrong_state(net):
    net.state[1]["mean"] = np.zeros(4, np.float32)


WRONG = {
    "shape": (wrong(lambda p: p[0].update(w=np.ones((4, 6)))), ShapeError, r"params.0.w has shape \(4, 6\); the archi"),
    "broadcasts": (
        wrong(lambda p: p[0].update(b=np.ones(1))),
        ShapeError,
        r"params.0.b has shape \(1,\); .* needs \(5,\)",
    ),
    "missing": (
        wrong(lambda p: p[0].pop("b")),
        ShapeError,
        r"params.0 is a dict with keys \['w'\]; .* keys \['b', 'w'\]",
    ),
    "too many": (
        wrong(lambda p: p.append({})),
        ShapeError,
        r"params is a tuple of 4; the architecture has a tuple of 3",
    ),
    "text": (wrong(lambda p: p[2].update(b="zeros")), DataError, "params.2.b has dtype"),
    "none": (wrong(lambda p: p[2].update(b=None)), DataError, "params.2.b has dtype object"),
    "complex": (wrong(lambda p: p[2].update(b=np.ones(3) * 1j)), DataError, "params.2.b has dtype complex128"),
    "a tree": (
        wrong(lambda p: p[2].update(b={"c": 1})),
        ShapeError,
        r"params.2.b is a dict with keys \['c'\]; .*array of",
    ),
    "nothing": (lambda net: setattr(net, "params", None), ShapeError, "params is an object of type NoneType"),
    "state": (wrong_state, ShapeError, r"state.1.mean has shape \(4,\); the architecture needs \(5,\)"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(("change", "error", "sentence"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_done(use, change, error, sentence, tmp_path):
    net = make()
    change(net)
    with pytest.raises(error, match=sentence):
        use(net, tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_what_was_given_stays_as_it_was():
    """Steps overwrite parameters, and what was converted may share memory with the user's arrays."""
    net, given = make(), values(make())
    net.params, net.state = given["params"], tree.map(lambda a: a.astype(np.float64), given["state"])
    trainer(net).fit(X, Y, epochs=3)
    tree.map(np.testing.assert_array_equal, given, values(make()))


def test_nothing_is_touched_that_fits(backend):
    net = make(backend)
    params, state = net.params, net.state
    net.settle()
    assert net.params is params
    assert net.state is state


def test_a_layer_that_is_replaced_has_its_own_shapes():
    net = make()
    net.predict(X)
    other = Network(nn.Affine(2), 4, rng=0)
    net.layer, net.output_shape, net.params, net.state = other.layer, other.output_shape, other.params, other.state
    np.testing.assert_array_equal(net.predict(X), other.predict(X))
    net.params = make().params
    with pytest.raises(PortnnError):
        net.settle()


class Puts(Callback):
    """Puts parameters of another dtype, or of another shape, into the network after each epoch."""

    def __init__(self, change):
        self.change = change

    def on_epoch_end(self, trainer, record):
        put(trainer.network, self.change)


def test_a_callback_that_puts_parameters_there(tmp_path):
    watches = [EarlyStopping("loss", patience=9), Checkpoint(tmp_path, epochs=1)]
    net = make()
    callbacks = [Puts(lambda a: a.astype(np.float64)), *watches]
    run = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=callbacks, rng=0)
    run.fit(X, Y, epochs=2)
    again = Trainer(make(), losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=[EarlyStopping("loss")], rng=0)
    again.load(latest_checkpoint(tmp_path))
    assert again.epoch == 2
    run.callbacks = (Puts(lambda a: a[:1]),)
    with pytest.raises(ShapeError, match=r"params\.0\.b has shape \(1,\); the architecture needs \(5,\)"):
        run.fit(X, Y, epochs=2)
