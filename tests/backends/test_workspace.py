"""What NumPy computes with: the cores, the memory that is used again, and the loops that Numba compiles."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from portnn_backends.on_numpy import workspace as numpy_workspace
from portnn_backends.on_numpy.blas import numbers_of_threads
from portnn_backends.on_numpy.workspace import Workspace, empty, share, workspace

from portnn import Network, Trainer, get_backend, kernels, losses, nn, optim
from portnn.random import Stream

FLOAT32 = np.dtype(np.float32)
LARGE = (100, 1000)


def blas_threads():
    return numbers_of_threads()


@pytest.fixture
def two_cores(monkeypatch):
    """As if BLAS had two threads, wherever the tests run; they are taken over only with Numba."""
    pytest.importorskip("numba")
    take = numpy_workspace.take
    monkeypatch.setattr(numpy_workspace, "take", lambda: max(2, take()))


def test_memory_is_used_again_once_nobody_holds_it():
    with workspace():
        first = empty(LARGE, FLOAT32)
        place = first.ctypes.data
        second = empty(LARGE, FLOAT32)
        assert second.ctypes.data != place
        part = first[3:5].T
        del first
        third = empty(LARGE, FLOAT32)
        assert third.ctypes.data != place, "a view still holds it"
        del part
        smaller = empty((90, 1000), FLOAT32)
        assert smaller.ctypes.data == place
        assert smaller.shape == (90, 1000)
        assert smaller.dtype == FLOAT32
        assert smaller.flags.c_contiguous
        assert smaller.flags.writeable


def test_much_larger_memory_is_left_for_larger_arrays():
    with workspace():
        place = empty((1000, 1000), FLOAT32).ctypes.data
        assert empty((10, 1000), FLOAT32).ctypes.data != place


def test_nothing_is_kept_outside():
    with workspace():
        empty(LARGE, FLOAT32)
        with workspace():
            empty(LARGE, FLOAT32)
        assert workspace().held
        assert workspace()._memory
    assert not workspace().held
    assert not workspace()._memory


def parts_of(lengths, cost):
    found = []
    share(lambda *slices: found.append(slices), *lengths, cost=cost)
    return sorted(found, key=str)


@pytest.mark.usefixtures("two_cores")
def test_work_is_split_where_it_is_worth_it():
    whole = [(slice(0, 7), slice(0, 10))]
    assert parts_of((7, 10), cost=1e9) == whole, "the cores are not ours"
    with workspace():
        assert parts_of((7, 10), cost=1) == whole
        assert parts_of((7, 10), cost=1e9) == [(slice(0, 3), slice(0, 5)), (slice(3, 7), slice(5, 10))]


@pytest.mark.usefixtures("two_cores")
def test_parts_run_at_the_same_time():
    barrier = threading.Barrier(2, timeout=60)
    with workspace():
        share(lambda part: barrier.wait(), 2, cost=1e9)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("where", [0, 1])
def test_an_error_in_a_part_is_raised(where):
    def fail(part):
        if part.start == where:
            raise ArithmeticError("no")

    with workspace():
        with pytest.raises(ArithmeticError, match="no"):
            share(fail, 2, cost=1e9)
        assert len(parts_of((4,), cost=1e9)) == 2, "the cores can go on"


def test_blas_gets_its_threads_back():
    pytest.importorskip("numba")
    before = blas_threads()
    with workspace():
        share(lambda part: None, 2, cost=1e9)
        assert max(blas_threads()) == 1 or max(before) > numpy_workspace._MOST_CORES
    assert blas_threads() == before


@pytest.mark.usefixtures("two_cores")
def test_two_owners_work_through_their_parts_alone():
    before, seen = blas_threads(), []
    with workspace():
        share(lambda part: None, 2, cost=1e9)

        def other():
            with workspace():
                share(lambda part: seen.append((part, threading.current_thread())), 4, cost=1e9)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == [(slice(0, 2), thread), (slice(2, 4), thread)]
    assert blas_threads() == before


def fitted(layer, x, y):
    net = Network(layer, x.shape[1:], rng=0)
    Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(x, y, epochs=1, batch_size=300)
    return net


@pytest.mark.usefixtures("two_cores")
def test_networks_trained_at_once_are_those_trained_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(900, 12, 12, 2)).astype(np.float32), rng.integers(0, 10, size=900)
    layer = nn.Sequential(
        [nn.Conv2D(8), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.Flatten(), nn.Affine(256), nn.Dropout(0.5)]
    )
    alone, together = fitted(layer, x, y), [None] * 3

    def train(i):
        together[i] = fitted(layer, x, y)

    threads = [threading.Thread(target=train, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in together:
        for one, other in zip(net.params, alone.params, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python, on threads beside a fork
def test_a_child_process_has_cores_of_its_own():
    code = """
import os, numpy as np
from portnn_backends.on_numpy.workspace import share, workspace
with workspace():
    share(lambda part: None, 2, cost=1e9)
child = os.fork()
with workspace():
    seen = []
    share(lambda part: seen.append(part), 2, cost=1e9)
if child == 0:
    os._exit(0 if seen else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17, 31, 70_001])
def test_uniform_numbers_are_those_of_numpy(size, dtype):
    stream = Stream(2**64 - 1).child("noise").at(2**64 - 1)
    with workspace():
        drawn = stream.uniform_like(np.empty((1, size), dtype))
    np.testing.assert_array_equal(drawn[0], stream.generator().random(size, dtype=np.dtype(dtype).type))


def test_rows_that_are_not_there():
    from portnn import functional

    x = np.zeros((3, 2), np.uint8)
    for index in ([3], [0, -4]):
        with pytest.raises(IndexError):
            functional.take_rows(x, np.asarray(index), FLOAT32)


def test_class_numbers_that_are_no_class_count_as_none(twin_and_portable):
    from portnn import functional

    logits, target = np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([-1, 2])
    for smoothing in (0.0, 0.2):
        values, backward = twin_and_portable(functional.softmax_cross_entropy, logits, target, smoothing)
        np.testing.assert_allclose(*values, rtol=1e-12)
        np.testing.assert_allclose(*backward(np.ones(2)), rtol=1e-12, atol=1e-15)


@pytest.fixture
def twin_and_portable():
    def both(function, *args):
        (a, back_a), (b, back_b) = function(*args), function.portable(*args)
        return (a, b), lambda dy: (back_a(dy), back_b(dy))

    return both


@pytest.mark.slow
def test_everything_works_without_numba(tmp_path):
    """The suite's tests of NumPy's twins, in a process in which Numba seems not to be installed."""
    (tmp_path / "no_numba.py").write_text('import sys\nsys.modules["numba"] = None\n', encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no_numba", "-p", "no:cacheprovider", "-k", "numpy or not ["]
    done = subprocess.run(
        [*command, "tests/backends/test_kernels.py", "tests/functional/test_convolution.py"], env=env, check=False
    )
    assert done.returncode == 0


TRAINED = """
import sys
import numpy as np
{before}
from portnn import Network, Trainer, losses, nn, optim
x, y = np.random.default_rng(0).normal(size=(400, 6, 6, 2)), np.arange(400) % 3
layers = [nn.Conv2D(4), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(), nn.Flatten(), nn.Dropout(0.5), nn.Affine(256)]
net = Network(nn.Sequential([*layers, nn.Affine(3)]), (6, 6, 2), rng=0)
Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0).fit(x, y, batch_size=200)
print(net.predict(x).tobytes().hex())
print("numba" in sys.modules and sys.modules["numba"] is not None)
"""


@pytest.mark.slow
def test_numba_switched_off_is_numba_not_there():
    """By its variable it is not even loaded; switched off in the program, its loops would be run by Python."""
    pytest.importorskip("numba")

    def trained(before, **environment):
        command = [sys.executable, "-W", "error", "-c", TRAINED.format(before=before)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    without, loaded = trained('sys.modules["numba"] = None')
    assert loaded == "False"
    assert trained("", NUMBA_DISABLE_JIT="1") == [without, "False"]
    assert trained("import numba; numba.config.DISABLE_JIT = 1") == [without, "True"]


def test_a_workspace_may_be_entered_again():
    space = Workspace()
    with space, space:
        assert space.held
    assert not space.held


RULES = {rule.rule.__name__: rule for name in optim.__all__ if hasattr(rule := getattr(optim, name), "slot_count")}


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("rule", sorted(RULES))
def test_many_leaves_have_the_bits_of_one_after_the_other(rule):
    assert len(RULES) == 12
    optimizer, rng = RULES[rule](), np.random.default_rng(0)
    hyper, shapes = vars(optimizer) | optimizer.hyper(3), [(500, 700), (), (0, 3), (7,)]
    leaves = [
        tuple(np.asarray(np.abs(rng.normal(size=shape)), np.float32) for _ in range(2 + optimizer.slot_count))
        for shape in shapes
    ]
    copies = [tuple(a.copy() for a in leaf) for leaf in leaves]
    one_by_one = [kernels.registry[rule](*leaf, **hyper) for leaf in copies]
    with get_backend("cpu").context():
        at_once = kernels.update_leaves(kernels.registry[rule], leaves, hyper)
    for leaf, actual, expected in zip(leaves, at_once, one_by_one, strict=True):
        assert actual[0] is leaf[0]
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("held", [True, False])
def test_numbers_that_are_not_finite_are_found(dtype, held):
    backend = get_backend("cpu")
    largest = np.finfo(dtype).max
    with backend.context() if held else nullcontext():
        for n in (0, 1, 7, 100_001):
            x = np.full((n, 2), largest, dtype)
            for good in (x, x[::-1], x.T, -x, 0 * x):
                assert backend.all_finite(good)
            for place in {0, n // 2, n - 1} if n else ():
                for value in (np.nan, np.inf, -np.inf):
                    for base in (x, 0 * x):
                        bad = base.copy()
                        bad[place, 1] = value
                        assert not backend.all_finite(bad)
                        assert not backend.all_finite(bad[:, ::-1])
