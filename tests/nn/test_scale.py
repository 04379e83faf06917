"""A network knows whether it was trained on bytes, and says so when it is given other numbers of 0 .. 255."""

import copy
import pickle
import warnings

import numpy as np
import pytest

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import DataError, ModelFileError
from portnn.storage import read_tensors, write_tensors

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 4, 4)).astype(np.uint8)
FLOATS = BYTES.astype(np.float32)
Y = np.arange(40) % 3
OTHERS = [FLOATS, BYTES.astype(np.int64), BYTES.astype(np.uint16), FLOATS.astype(np.float16), FLOATS * 0.9]
FINE = [BYTES, FLOATS / 255, FLOATS / 255 * 1.1, (FLOATS - 128) / 70, FLOATS - 128, BYTES > 100, np.zeros((3, 4, 4))]


def make_trainer(device="cpu", optimizer=None):
    net = Network(nn.Sequential([nn.Flatten(), nn.Affine(3)]), (4, 4), rng=0, device=device)
    return Trainer(net, losses.SoftmaxCrossEntropy(), optimizer or optim.SGD(0.01), rng=0)


def trained(x, device="cpu", optimizer=None):
    trainer = make_trainer(device, optimizer)
    trainer.fit(x, Y[: len(x)])
    return trainer


def doors(trainer, x):
    y = Y[: len(x)]
    return {
        "predict": lambda: trainer.network.predict(x),
        "evaluate": lambda: trainer.evaluate(x, y),
        "fit": lambda: trainer.fit(x, y),
        "partial_fit": lambda: trainer.partial_fit(x, y),
        "fit_batches": lambda: trainer.fit_batches([(x, y)]),
    }


BEYOND = r"x holds numbers up to \d+(\.\d+)?, and the network was trained on bytes"
DIVIDED = r"x is of bytes \(uint8\), which are divided by 255, and the network was trained on numbers beyond 1"


@pytest.mark.parametrize("door", ["predict", "evaluate", "fit", "partial_fit", "fit_batches"])
def test_the_other_kind_at_every_door_warns(door):
    for x in OTHERS:
        with pytest.warns(UserWarning, match=BEYOND):
            doors(trained(BYTES), x)[door]()
    with pytest.warns(UserWarning, match=DIVIDED):
        doors(trained(FLOATS), BYTES)[door]()


def test_the_other_kind_warns_on_every_backend(backend):
    for first, second, sentence in ((BYTES, FLOATS, BEYOND), (FLOATS, BYTES, DIVIDED)):
        net = trained(first, backend).network
        for x in (second, backend.asarray(second)):
            with pytest.warns(UserWarning, match=sentence):
                net.predict(x)


@pytest.mark.parametrize("optimizer", [optim.SGD(0.01), optim.LBFGS()])
def test_validation_data_of_another_kind_warn(optimizer):
    for x, other, sentence in ((BYTES, FLOATS, BEYOND), (FLOATS, BYTES, DIVIDED)):
        with pytest.warns(UserWarning, match=f"validation {sentence}"):
            make_trainer(optimizer=optimizer).fit(x, Y, epochs=2, validation_data=(other, Y))
        if not isinstance(optimizer, optim.FullBatch):
            with pytest.warns(UserWarning, match=f"validation {sentence}"):
                make_trainer().fit_batches([(x, Y)], epochs=2, validation_data=(other, Y))
            with pytest.warns(UserWarning, match=f"batch|{sentence}"):
                make_trainer().fit_batches([(x, Y), (other, Y)])


def test_arrays_on_disk_are_compared_too(tmp_path):
    for name, x in (("bytes", BYTES), ("floats", FLOATS)):
        np.save(tmp_path / name, x)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("bytes", "floats")}
    for one, other, sentence in (("bytes", "floats", BEYOND), ("floats", "bytes", DIVIDED)):
        with pytest.warns(UserWarning, match=sentence):
            trained(mapped[one]).fit(mapped[other], Y)
        with pytest.warns(UserWarning, match=f"validation {sentence}"):
            make_trainer().fit(mapped[one], Y, validation_data=(mapped[other][:], Y))


def test_what_is_fine_does_not_warn():
    for x in FINE:
        for act in doors(trained(BYTES), x).values():
            act()
    for first in FINE:
        trained(first).network.predict(BYTES)
    for act in doors(trained(FLOATS), FLOATS).values():
        act()
    make_trainer().network.predict(FLOATS)


def test_standardised_data_of_any_kind_do_not_warn():
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (0.1, 1.0, 100.0):
            trained(rng.normal(scale=scale, size=(40, 4, 4))).network.predict(BYTES)
            trained(BYTES).network.predict(rng.normal(scale=scale, size=(40, 4, 4)))


def test_a_network_keeps_what_it_was_trained_on(tmp_path):
    trainer = trained(BYTES)
    net = trainer.network
    net.save(tmp_path / "net")
    trainer.save(tmp_path / "run")
    resumed = make_trainer()
    resumed.load(tmp_path / "run")
    copies = [
        net,
        Network.load(tmp_path / "net"),
        Network.load(tmp_path / "run"),
        resumed.network,
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
        net.to("cpu"),
    ]
    for one in copies:
        assert one.trained_on == "bytes"
        with pytest.warns(UserWarning, match=BEYOND):
            one.predict(FLOATS)
    untrained = make_trainer().network
    untrained.save(tmp_path / "new")
    assert Network.load(tmp_path / "new").trained_on is None
    tensors, metadata = read_tensors(tmp_path / "net")
    write_tensors(tmp_path / "odd", tensors, metadata | {"trained_on": "coins"})
    with pytest.raises(ModelFileError, match="trained_on is one of bytes, unscaled, numbers, not 'coins'"):
        Network.load(tmp_path / "odd")


def test_what_was_refused_was_not_trained_on():
    trainer = make_trainer()
    with pytest.raises(DataError):
        trainer.fit(FLOATS, Y + 7)
    assert trainer.network.trained_on is None


def test_later_data_say_what_a_network_is_trained_on():
    trainer = trained(FLOATS)
    trainer.fit(FLOATS / 255, Y)
    trainer.network.predict(BYTES)
    with pytest.warns(UserWarning, match="X is of bytes|x is of bytes"):
        trained(FLOATS).fit(BYTES, Y)


def test_the_warning_points_at_the_program():
    net = trained(BYTES).network
    with pytest.warns(UserWarning, match=BEYOND) as caught:
        net.predict(FLOATS)
    assert caught[0].filename == __file__


def test_bytes_are_numbers_to_the_estimators():
    pytest.importorskip("sklearn")
    from portnn import MLPRegressor

    x = BYTES.reshape(40, 16)
    model = MLPRegressor(hidden_layer_sizes=3, max_iter=100, tol=1e9, random_state=0).fit(x, Y)
    np.testing.assert_array_equal(model.predict(x.astype(float)), model.predict(x))
