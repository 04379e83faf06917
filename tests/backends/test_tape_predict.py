"""Predictions from tapes: the bits of the plain call, whatever becomes of the network in between."""

import copy
import threading

import numpy as np
import pytest
from families import LAYERS
from portnn_backends.on_numpy import forward as numpy_forward
from portnn_backends.on_numpy.blas import numbers_of_threads
from portnn_backends.on_numpy.forward import TapeForward
from portnn_backends.on_numpy.subnormal import is_flushing
from tapes import OTHER_NUMBERS, layer, needs_numba

from portnn import MLPClassifier, Network, Trainer, kernels, losses, metrics, nn, optim
from portnn.errors import DataError, ShapeError
from portnn.forward import Forward
from portnn.random import Stream
from portnn.training import Callback

pytestmark = needs_numba

#: So many predictions come before a tape here.
FIRST = 3


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(numpy_forward, "_FIRST", FIRST)


def plainly(net, x, **options):
    """What the network predicts without a tape."""
    other = copy.copy(net)
    other._compiled = (other.layer, other.backend, other.dtype), Forward(net.forward.apply)
    assert type(other.forward) is Forward
    return other.predict(x, **options)


def recorded(net, *inputs, **options):
    """The network, which has tapes for inputs like these, or a reason why not."""
    for x in inputs:
        for _ in range(FIRST + 1):
            net.predict(x, **options)
    return net


def assert_same(net, x, **options):
    ours, theirs = net.predict(x, **options), plainly(net, x, **options)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes()


def assert_from_tape(net, x, **options):
    """As `assert_same`, and no batch goes through from Python."""
    before = net.forward.replayed
    assert_same(net, x, **options)
    size = options.get("batch_size", 1024)
    assert net.forward.replayed == before + -(-len(x) // size), net.forward.reason


def network(*layers, dtype="float32", inputs=4):
    return Network(nn.Sequential(layers or (nn.Affine(8), nn.ReLU(), nn.Affine(3))), inputs, rng=0, dtype=dtype)


def numbers(n, *shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=(n, *(shape or (4,)))).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_bits_of_the_plain_call(name, dtype):
    case = LAYERS[name]
    net = Network(case.layer, case.input_shape, rng=0, dtype=dtype)
    x = np.random.default_rng(1).uniform(0.1, 1.0, size=(70, *case.input_shape)).astype(dtype)
    recorded(net, x, x[:1], x[:32])
    for batch in (x[::-1].copy(), x[5:6], x[20:52]):
        assert_from_tape(net, batch)
    net.params = net.to_device(net.layer.init(Stream(5), net.input_shape)[0])
    assert_from_tape(net, x)
    assert_from_tape(net, x[:1])


@pytest.mark.parametrize("hidden", [300, 700])
def test_products_that_are_split_and_batches_on_all_cores(hidden):
    """9 batches and a smaller one: as many as there are cores at once, the last ones one by one."""
    net, x = (
        network(nn.Affine(hidden), nn.Tanh(), nn.Affine(300), nn.ReLU(), nn.Affine(10), inputs=200),
        numbers(620, 200),
    )
    recorded(net, x, batch_size=64)
    assert_from_tape(net, x, batch_size=64)
    assert_from_tape(net, numbers(620, 200, seed=2), batch_size=64)
    assert_from_tape(net, x[:64])
    assert_from_tape(net, x[:128], batch_size=64)


def test_bytes():
    net = network()
    x = np.random.default_rng(0).integers(0, 256, size=(20, 4), dtype=np.uint8)
    recorded(net, x, x[:1])
    assert_from_tape(net, 255 - x)
    assert_from_tape(net, x[3:4])
    net.trained_on = "unscaled"
    with pytest.warns(UserWarning, match="bytes"):
        net.predict(x[:1])


def test_bytes_and_numbers_of_another_scale_warn():
    net, x = network(), numbers(1)
    recorded(net, x)
    net.trained_on = "bytes"
    with pytest.warns(UserWarning, match="divided"):
        net.predict(np.abs(x) + 100)
    assert_from_tape(net, x)


def test_a_few_predictions_are_not_recorded(monkeypatch):
    monkeypatch.undo()
    net, x = network(), numbers(10_000)
    for _ in range(5):
        net.predict(x)
        net.predict(x[:1])
        net(x[:1])
    assert net.forward.tapes == []
    assert net.forward.replayed == 0
    assert numpy_forward._FIRST >= 100


def in_place(net):
    net.params[0]["w"] *= 3.0


def one_array(net):
    net.params[0]["w"] = net.params[0]["w"] * 3.0


def all_arrays(net):
    net.params = tuple({name: a + 1.0 for name, a in part.items()} for part in net.params)


def of_another_dtype(net):
    net.params[2]["b"] = np.arange(3.0)


def turned(net):
    net.params[0]["w"] = np.asfortranarray(net.params[0]["w"] + 1.0)


def a_step(net):
    Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(numbers(12), np.arange(12) % 3, epochs=9)


def loaded(net):
    net.params = Network(net.layer, net.input_shape, rng=1, dtype=net.dtype).to("cpu").params


@pytest.mark.parametrize("change", [in_place, one_array, all_arrays, of_another_dtype, turned, a_step, loaded])
@pytest.mark.parametrize("n", [1, 40])
def test_changed_parameters_are_seen(change, n):
    net, x = network(), numbers(n)
    recorded(net, x)
    before = net.predict(x)
    change(net)
    assert_same(net, x)
    assert net.predict(x).tobytes() != before.tobytes()
    change(net)
    assert_same(net, x)


def test_changed_state_is_seen():
    net, x = network(nn.Affine(5), nn.BatchNorm(), nn.Affine(3)), numbers(1)
    recorded(net, x)
    a_step(net)
    assert_from_tape(net, x)


def test_what_does_not_fit_is_refused_as_ever():
    net, x = network(), numbers(1)
    recorded(net, x)
    whole = net.params
    for wrong in (
        {"w": whole[0]["w"]},
        {**whole[0], "more": whole[0]["b"]},
        {"w": whole[0]["w"][:, :3], "b": whole[0]["b"]},
    ):
        net.params = (wrong, *whole[1:])
        with pytest.raises(ShapeError):
            net.predict(x)
    net.params = whole
    assert_from_tape(net, x)
    del net.params[0]["b"]
    with pytest.raises(ShapeError):
        net.predict(x)


@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")
def test_an_array_of_another_shape_in_place():
    net, x = network(), numbers(1)
    recorded(net, x)
    net.params[0]["w"].shape = (8, 4)
    with pytest.raises(ShapeError):
        net.predict(x)


def test_another_layer():
    net, x = network(), numbers(1)
    recorded(net, x)
    net.layer = nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(3)])
    assert_same(net, x)
    net.layer = nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(2)])
    for _ in range(2):
        with pytest.raises(ShapeError):
            net.predict(x)


@pytest.mark.parametrize("n", [1, 40])
def test_the_outputs_are_an_array_of_their_own(n):
    net, x = network(), numbers(n)
    recorded(net, x)
    first, second = net.predict(x), net.predict(x + 1)
    kept = first.copy()
    second[...] = 7.0
    net.predict(x + 2)
    assert first.tobytes() == kept.tobytes()
    assert first.flags.owndata
    assert first.flags.writeable
    own = network(nn.Identity())
    assert not np.shares_memory(recorded(own, x).predict(x), x)


def test_examples_are_looked_at_as_ever():
    net, x = network(), numbers(1)
    recorded(net, x, numbers(40))
    for bad in (np.nan, np.inf):
        for n in (1, 40):
            with pytest.raises(DataError, match=r"1 values that are NaN or infinite, the first at \[0, 2\]"):
                net.predict(np.array([[0.0, 0.0, bad, 0.0]] + [[0.0] * 4] * (n - 1), np.float32))
    with pytest.raises(ShapeError):
        net.predict(np.zeros((1, 5), np.float32))
    large = np.full((1, 4), 1e30, np.float32)  # whose squares are infinite
    assert_same(net, large)


@pytest.mark.parametrize("n", [1, 12])
def test_arrays_that_lie_otherwise(n):
    net, x = network(), numbers(n)
    recorded(net, x)
    wide = numbers(n, 8)
    off = np.frombuffer(b"\0" + wide[:, :4].tobytes(), np.uint8)[1:].view(np.float32).reshape(n, 4)
    for other in (wide[:, ::2], np.asfortranarray(x + 1), x[::-1], off, x.astype(float), x.tolist(), np.ma.array(x)):
        assert_same(net, other)
    x.flags.writeable = False
    assert_from_tape(net, x)


def test_a_smaller_batch_size():
    net, x = network(), numbers(8)
    recorded(net, x)
    before = net.forward.replayed
    assert_same(net, x, batch_size=3)
    assert net.forward.replayed == before
    recorded(net, x, batch_size=3)
    assert_from_tape(net, x, batch_size=3)
    for wrong in (0, True, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            net.predict(x, batch_size=wrong)


def test_portable_functions_where_they_are_asked_for():
    net, x = network(nn.Affine(8), nn.ReLU(), nn.Affine(3)), numbers(1)
    recorded(net, x)
    before = net.forward.replayed
    with kernels.portable():
        found = net.predict(x)
        assert found.tobytes() == plainly(net, x).tobytes()
    assert net.forward.replayed == before


def test_a_row_leaves_the_process_as_it_was():
    net, x = network(), numbers(1)
    recorded(net, x)
    before = numbers_of_threads()
    assert_from_tape(net, x)
    assert numbers_of_threads() == before
    assert not is_flushing()


@pytest.mark.parametrize("n", [1, 40])
def test_subnormal_numbers_stay(n):
    net, x = network(nn.Affine(4)), np.zeros((n, 4), np.float32)
    net.params = ({"w": np.eye(4, dtype=np.float32), "b": np.zeros(4, np.float32)},)
    x[:, 1] = 1e-40
    recorded(net, x)
    assert_from_tape(net, x)
    assert np.all(net.predict(x)[:, 1] == np.float32(1e-40))


def counts_in_python(x):
    return x / max(1, int(np.sum(x > 0)))


def sorts(x):
    return x + np.sort(x, axis=0)


def draws(x):
    return x + np.random.default_rng().normal(size=x.shape).astype(x.dtype)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (counts_in_python, "a value of an array is looked at"),
        (sorts, "numpy.sort"),
        (lambda x: x + np.asarray(x).copy(), f"the layers: what was recorded {OTHER_NUMBERS}"),
        (lambda x: x * np.float32(np.asarray(x).mean()), OTHER_NUMBERS),
        (lambda x: x[0], "no array with a row for each example"),
        (draws, OTHER_NUMBERS),
    ],
)
def test_what_is_not_recorded_says_why(own, reason, caplog):
    net, x = network(nn.Affine(3), layer(own)), numbers(6)
    with caplog.at_level("INFO", logger=numpy_forward.__name__):
        for _ in range(3 * FIRST):
            net(x)
    assert reason in net.forward.reason
    assert [record.message for record in caplog.records] == [
        f"predictions go batch by batch, from Python: {net.forward.reason}"
    ]
    assert net.forward.tapes == []
    if own is not draws:
        assert net(x).tobytes() == net.layer.apply(net.params, net.state, x).tobytes()


def test_few_forms_are_kept(monkeypatch):
    monkeypatch.setattr(numpy_forward, "_FORMS", 3)
    net, x = network(), numbers(10)
    for n in range(1, 8):
        recorded(net, x[:n])
        assert_from_tape(net, x[:n])
    forward = net.forward
    assert len(forward.tapes) == 3
    assert sorted(shape[0] for shape, _ in forward._small) == [5, 6, 7]
    assert_same(net, x[:1])
    recorded(net, x[:1])
    assert_from_tape(net, x[:1])


def test_memory_is_bounded(monkeypatch):
    net, x = network(), numbers(100)
    recorded(net, x)
    one = net.forward.nbytes
    monkeypatch.setattr(numpy_forward, "_MOST_BYTES", int(1.5 * one))
    recorded(net, x[:99])
    assert len(net.forward.tapes) == 1
    assert_from_tape(net, x[:99])
    monkeypatch.setattr(numpy_forward, "_MOST_BYTES", one // 8)
    recorded(net, x[:98])
    assert net.forward.reason is None
    before = net.forward.replayed
    assert_same(net, x[:98])
    assert net.forward.replayed == before


def test_copies_and_pickles_have_none():
    net, x = network(), numbers(1)
    recorded(net, x)
    for other in (copy.copy(net), copy.deepcopy(net), net.to("cpu")):
        assert other.predict(x).tobytes() == net.predict(x).tobytes()
        assert other.forward is not net.forward
    assert "_compiled" not in net.__getstate__()


@pytest.mark.parametrize("n", [1, 300])
def test_threads_predict_at_once(n):
    net = network(nn.Affine(400), nn.ReLU(), nn.Affine(200), nn.ReLU(), nn.Affine(10), inputs=100)
    inputs = [numbers(n, 100, seed=seed) for seed in range(4)]
    expected = [plainly(net, x) for x in inputs]
    recorded(net, inputs[0])
    wrong, start = [], threading.Barrier(len(inputs))

    def ask(number):
        start.wait()
        for _ in range(60):
            if net.predict(inputs[number]).tobytes() != expected[number].tobytes():
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_tape_in_use_is_not_waited_for():
    net, x = network(), numbers(1)
    recorded(net, x, numbers(40))
    for kept in net.forward._kept.values():
        assert kept.lock.acquire(blocking=False)
    before = net.forward.replayed
    assert_same(net, x)
    assert_same(net, numbers(40))
    assert net.forward.replayed == before
    net.forward.forget_threads()  # as a child does
    assert_from_tape(net, x)


class Biases(Callback):
    """What the network gives for zeros after each step, by its parameters."""

    def __init__(self):
        self.seen = set()

    def on_epoch_end(self, trainer, record):
        self.seen.add(trainer.network.params[0]["b"].tobytes())


class Asked(Callback):
    """Goes on when somebody has asked in the meantime: however busy the machine is, some do in each epoch."""

    def __init__(self):
        self.event = threading.Event()

    def on_epoch_end(self, trainer, record):
        assert self.event.wait(timeout=30)
        self.event.clear()


def test_while_another_thread_trains():
    """Each prediction is of the parameters between two steps."""

    def trainer_of(net, *callbacks):
        return Trainer(net, losses.HalfSquaredError(), optim.SGD(lr=0.01), rng=0, callbacks=callbacks)

    def fit(trainer):
        trainer.fit(numbers(32), numbers(32, 3, seed=1), epochs=120, batch_size=32)

    biases = Biases()
    fit(trainer_of(network(nn.Affine(3)), biases))
    assert len(biases.seen) > 100
    net, zeros = network(nn.Affine(3)), np.zeros((1, 4), np.float32)
    recorded(net, zeros)
    first = net.predict(zeros).tobytes()
    asked = Asked()
    thread = threading.Thread(target=fit, args=(trainer_of(net, asked),))
    before, found = net.forward.replayed, set()
    thread.start()
    while thread.is_alive():
        found.add(net.predict(zeros).tobytes())
        asked.event.set()
    thread.join()
    assert net.forward.replayed > before
    assert found <= biases.seen | {first}
    assert len(found) > 50
    assert net.predict(zeros).tobytes() in biases.seen


def fitted(own_forward):
    net = Network(nn.Sequential([nn.Affine(16), nn.BatchNorm(), nn.ReLU(), nn.Affine(3)]), 4, rng=0)
    if not own_forward:
        net._compiled = (net.layer, net.backend, net.dtype), Forward(net.forward.apply)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), metrics={"accuracy": metrics.accuracy}, rng=0)
    x, y = numbers(60), np.arange(60) % 3
    trainer.fit(x, y, epochs=6, batch_size=20, validation_data=(numbers(50, seed=3), np.arange(50) % 3))
    return trainer, trainer.evaluate(x, y, batch_size=7)


def test_what_is_measured_in_training_is_the_same():
    (ours, measured), (theirs, expected) = fitted(True), fitted(False)
    assert ours.network.forward.replayed
    assert measured == expected
    for name in ("loss", "val_loss", "val_accuracy"):
        assert ours.history[name] == theirs.history[name]


def test_estimators_predict_from_tapes():
    x, y = numbers(60), np.arange(60) % 3
    classifier = MLPClassifier((8,), max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match="iterations"):
        classifier.fit(x, y)
    expected = classifier.predict_proba(x[:1])
    for _ in range(2 * FIRST):
        found = classifier.predict_proba(x[:1])
    assert found.tobytes() == expected.tobytes()
    forward = classifier._trainer.network.forward
    assert forward.replayed
    classifier.coefs_[0] = classifier.coefs_[0] * 2.0
    changed = classifier.predict_proba(x[:1])
    assert changed.tobytes() != expected.tobytes()
    assert classifier._trainer.network.predict(x[:1]).shape == (1, 3)


def test_without_numba(monkeypatch):
    from portnn_backends.on_numpy import backend

    monkeypatch.setattr(backend, "HAS_NUMBA", False)
    net = network()
    assert type(net.forward) is Forward
    monkeypatch.undo()
    assert type(network().forward) is TapeForward
    assert recorded(net, numbers(1)).predict(numbers(1)).shape == (1, 3)
