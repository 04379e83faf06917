"""Data that no memory holds: arrays on disk."""

import tracemalloc

import numpy as np
import pytest
from lanes import USABLE, open_lane
from resumed_runs import X_NEW, Y_NEW, X, Y, assert_same_run, cut, fit, make, resumed
from sources import no_thread_is_left, on_disk

from portnn import Network, Trainer, losses, nn, optim
from portnn.errors import DataError, ShapeError


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    with no_thread_is_left():
        yield


@pytest.mark.parametrize("lane", [name for name in USABLE if name not in ("strict:no_x64", "jax")])
def test_a_memory_map_trains_as_the_array_does(lane, tmp_path):
    weight = np.linspace(0.5, 1.5, 50)
    mapped = {"x": on_disk(tmp_path, "x", X), "y": on_disk(tmp_path, "y", Y)}
    new = on_disk(tmp_path, "x_new", X_NEW), on_disk(tmp_path, "y_new", Y_NEW)
    with open_lane(lane) as backend:
        trainers = []
        for data, validation in (({"x": X, "y": Y}, (X_NEW, Y_NEW)), (mapped, new)):
            trainer = make(backend)
            trainer.fit(**data, sample_weight=weight, epochs=3, batch_size=16, validation_data=validation)
            trainers.append(trainer)
        assert_same_run(*trainers)
        assert trainers[1].evaluate(*new) == trainers[0].evaluate(X_NEW, Y_NEW)


@pytest.mark.parametrize("dtype", ["uint8", "float64", ">f4", "int16"])
def test_memory_maps_of_other_types(dtype, tmp_path):
    x = (np.abs(X) * 50).astype(dtype)
    first, second = make(callbacks=()), make(callbacks=())
    first.fit(x, Y, epochs=2)
    second.fit(on_disk(tmp_path, "x", x), Y.tolist(), epochs=2)
    assert_same_run(first, second)


def test_resume_with_a_memory_map(tmp_path):
    cut(tmp_path / "c", 6)
    trainer = resumed(tmp_path / "c")
    mapped = on_disk(tmp_path, "x", X)
    trainer.fit(mapped, Y, epochs=8 - trainer.epoch, batch_size=16, validation_data=(X_NEW, Y_NEW))
    assert_same_run(fit(make()), trainer)


def test_a_memory_map_stays_on_disk(tmp_path):
    """200 MB of examples train and are measured with a few."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(50_000, 1000))  # all 0
    y = np.arange(50_000) % 3
    trainer = Trainer(Network(nn.Affine(3), 1000, rng=0), losses.SoftmaxCrossEntropy(), optim.SGD(), rng=0)
    tracemalloc.start()
    trainer.fit(x, y, batch_size=500, validation_data=(x, y))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert x.nbytes == 200_000_000
    assert peak < 60_000_000, f"{peak:,} bytes"


def test_bad_memory_maps(tmp_path):
    bad = np.array(X)
    bad[49, 2, 1, 0] = np.inf
    trainer = make(callbacks=())
    with pytest.raises(ShapeError, match=r"x has shape \(50, 4, 4\); the network takes \(n, 4, 4, 1\)"):
        trainer.fit(on_disk(tmp_path, "flat", X[..., 0]), Y)
    with pytest.raises(ShapeError, match="x has 50 examples, but y has 49 targets"):
        trainer.fit(on_disk(tmp_path, "x", X), Y[:49])
    with pytest.raises(DataError, match="sample_weight must be >= 0"):
        trainer.fit(on_disk(tmp_path, "x", X), Y, sample_weight=-np.ones(50))
    with pytest.raises(ShapeError, match=r"validation x has shape \(50, 4, 4\)"):
        trainer.fit(X, Y, validation_data=(on_disk(tmp_path, "flat", X[..., 0]), Y))
    assert trainer.step == 0
    with pytest.raises(
        DataError, match=r"batch \d of the epoch: x has 1 values that are NaN or infinite, the first at"
    ):
        trainer.fit(on_disk(tmp_path, "bad", bad), Y, batch_size=16)
    with pytest.raises(DataError, match=r"batch 1 of the epoch: the class numbers in y must lie in 0 \.\. 2"):
        trainer.fit(on_disk(tmp_path, "x", X), Y + 9)
    assert trainer.step < 8


def test_a_single_example_on_disk_is_refused_at_the_door(tmp_path):
    with pytest.raises(ShapeError, match="BatchNorm cannot train on a batch of one value"):
        make().fit(on_disk(tmp_path, "x", X), Y, batch_size=7)
