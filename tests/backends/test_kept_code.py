"""Compiled loops: kept on disk, loaded without Numba, and called as Numba calls them."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tapes import needs_numba

pytestmark = needs_numba

PROGRAM = """
    import hashlib, json, sys
    import numpy as np
    from portnn import Network, Trainer, losses, nn, optim, tree
    x, y = np.random.default_rng(0).normal(size=(60, 6, 6, 2)).astype("f"), np.arange(60) % 3
    layers = [nn.Conv2D(4), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.Flatten(), nn.Dropout(0.5), nn.Affine(3)]
    net = Network(nn.Sequential(layers), (6, 6, 2), rng=0)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
    trainer.fit(x, y, batch_size=5, epochs=2)
    bits = hashlib.sha256(b"".join(leaf.tobytes() for leaf in tree.leaves(net.params))).hexdigest()
    print(json.dumps([bits, trainer.stepper.loop.reason, "numba" in sys.modules]))
"""


def trained(folder):
    """The bits of a training, why it was not recorded, and whether Numba was imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.slow
def test_what_is_kept_needs_no_numba(tmp_path):
    bits, reason, imported = trained(tmp_path)
    assert (reason, imported) == (None, True)
    (folder,) = tmp_path.iterdir()
    kept = sorted(path for path in folder.iterdir() if not path.name.startswith("call-"))
    assert len(kept) > 8
    assert trained(tmp_path) == [bits, None, False]
    # What is damaged is compiled anew, and not run.
    before = kept[0].read_bytes()
    kept[0].write_bytes(before[:-7] + b"\0" * 7)
    kept[1].write_bytes(b"")
    assert trained(tmp_path) == [bits, None, True]
    assert kept[0].read_bytes() == before
    assert trained(tmp_path) == [bits, None, False]


@pytest.mark.slow
def test_compiled_ahead(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "portnn", "compile"]
    done = subprocess.run(
        command, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "trained 14 small networks on NumPy" in done.stdout
    (folder,) = tmp_path.iterdir()
    kept = set(folder.iterdir())
    assert trained(tmp_path)[1:] == [None, False]
    assert set(folder.iterdir()) == kept


def loop(name, subject="rows"):
    from portnn_backends.on_numpy.compile import loops

    return getattr(loops(subject), name)


def test_arrays_of_all_orders_and_a_result():
    are_rows = loop("are_rows")
    for index in (np.arange(6), np.arange(12)[::2], np.arange(6, dtype=np.int32), np.arange(0)):
        assert are_rows(index, 12) is True
        assert are_rows(index, 4) is (not index.size)
    matrix = np.arange(30.0, dtype=np.float32).reshape(5, 6)
    for x in (matrix, np.asfortranarray(matrix), matrix[:, ::2], matrix[::-1]):
        index, out = np.array([3, 0]), np.empty((2, x.shape[1]), np.float32)
        loop("divided_rows")(x, index, 4.0, out)
        np.testing.assert_array_equal(out, x[index] / np.float32(4.0))


def test_an_index_out_of_range_is_an_error():
    copied_rows, x = loop("copied_rows", "replay"), np.ones((3, 2))
    with pytest.raises(IndexError, match="copied_rows: an index is out of range"):
        copied_rows(x, np.array([5]), np.empty((1, 2)))


def test_a_loop_of_no_name_and_loops_that_need_numba():
    from numba.core.errors import NumbaError
    from portnn_backends.on_numpy.compile import compiled
    from portnn_backends.on_numpy.compiler import compile_loop

    with pytest.raises(AttributeError):
        loop("no_such_loop")(np.ones(3))

    @compiled
    def greedy(x):
        x[0] = np.ones(x.size).sum()

    @compiled
    def of_another_library(x):
        x[1, 1].reshape(6)[0] = 1.0

    with pytest.raises(NumbaError):
        compile_loop(greedy, (np.ones(3),), "greedy")
    with pytest.raises(NumbaError, match="of_another_library calls numba_attempt_nocopy_reshape, which is not there"):
        compile_loop(of_another_library, (np.ones((2, 2, 3, 2)),), "of_another_library")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 7, 15, 16, 17, 100])
def test_uniform_numbers_of_any_count(dtype, size):
    key = np.array([3, 2**64 - 5], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 9, 0, 0]))
    out = np.empty(size, dtype)
    loop("uniform32" if dtype == "float32" else "uniform64", "noise")(0, np.uint64(9), *key, out)
    np.testing.assert_array_equal(out, generator.random(size, dtype=np.dtype(dtype).type))


def test_code_is_kept_in_the_first_place_that_can_be_written(tmp_path, monkeypatch, caplog):
    from portnn_backends.on_numpy import kept

    places = tmp_path / "a file", tmp_path / "a folder" / "within"
    places[0].write_text("", encoding="utf-8")
    monkeypatch.setattr(kept, "_places", lambda: places)
    kept._folders.cache_clear()
    try:
        assert kept.is_empty()
        assert kept.read("loop") is None
        kept.write("loop", b"code")
        assert not kept.is_empty()
        assert kept.read("loop") == b"code"
        assert [path.name for path in places[1].rglob("*") if path.is_file()] == ["loop"]
        assert not caplog.records
        monkeypatch.setattr(kept, "_folders", lambda: (places[0],))
        kept._not_written.cache_clear()
        kept.write("loop", b"other code")
        kept.write("another", b"code")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
    finally:
        monkeypatch.undo()
        kept._folders.cache_clear()
