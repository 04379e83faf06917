"""The groups of the CuPy backend without a GPU, as `test_cupy_on_host` has its twins. `test_groups` has all of them."""

import inspect
import re
from itertools import product

import numpy as np
import pytest
from cupy_on_host import COMPILER, in_order, launches, never_waiting, open_cupy_on_host, with_source
from groups import Comparison
from helpers import assert_close, assert_equal, get, put
from portnn_backends.on_cupy import affine_groups as cupy_affine_groups
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import loss_groups as cupy_loss_groups
from portnn_backends.on_cupy import sums as cupy_sums

from portnn import losses, nn
from portnn.kernels import portable
from portnn.nn.grouping import joined
from portnn.random import Stream

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no g++ (on Linux) to compile the kernels with")

LABELS = losses.SoftmaxCrossEntropy()

#: A row of members of each group, and what one step of it launches beside the products.
ROWS = {
    "activation": ((nn.Affine(4), nn.ReLU()), ["activated", "activated_slopes"]),
    "activation of its input": ((nn.Affine(4), nn.GELU()), ["activated", "activated_slopes"]),
    "head": ((nn.Affine(4), LABELS), ["head_rows", "head_columns"]),
    "layer and head": ((nn.Affine(4), nn.ReLU(), nn.Affine(4), LABELS), ["activated", "head_rows", "head_columns"]),
}


@pytest.fixture
def backend():
    with open_cupy_on_host() as backend:
        yield backend


def group_of(backend, members):
    return next(group for group in backend.groups() if group.takes(members))


@pytest.mark.parametrize("name", ROWS)
def test_parity(backend, name):
    members, expected = ROWS[name]
    comparison = Comparison(backend, group_of(backend, members), "float32")
    with launches() as launched:
        comparison.members(members, 7, None)
    assert comparison.taken
    assert {*expected} <= {*launched}
    comparison.members(members, 5, np.nan)


@pytest.mark.parametrize("name", ROWS)
def test_where_everything_is_scarce(backend, name, monkeypatch):
    """Blocks that go on to further rows, threads that loop, and sums in two launches."""
    monkeypatch.setattr(cupy_compile, "_BLOCKS", 3)
    monkeypatch.setattr(cupy_loss_groups, "_BLOCKS", 3)
    monkeypatch.setattr(cupy_sums, "_ROWS", 1)
    members, _ = ROWS[name]
    comparison = Comparison(backend, group_of(backend, members), "float32")
    with launches() as launched:
        comparison.members(members, 401, None)
    assert comparison.taken
    assert {"head_totals", "column_sums"} & {*launched}


def network(backend, layers, loss, shape, n, dtype="float32"):
    """What a step needs of some layers and a loss, and its arguments."""
    rng, layer = np.random.default_rng(0), nn.Sequential(layers)
    params, state, _ = layer.init(Stream(0), shape)
    x, target = rng.normal(size=(n, *shape)), rng.integers(0, 3, n)
    args = put(backend, (params, state, x, target), dtype)
    return joined(layer, loss, backend.groups()), args


@pytest.mark.parametrize(("n", "k", "hidden"), [(3, 70, 130), (65, 5, 33), (2, 3, 2_049)])
def test_rows_and_columns_of_every_length(backend, n, k, hidden):
    """More columns than a block has, and more than a thread takes."""
    forward, args = network(backend, [nn.Affine(hidden), nn.Tanh(), nn.Affine(3)], LABELS, (k,), n)
    made = []
    for form in (launches(), portable()):
        with backend.context(), form as launched:
            value, _, backward = forward(*args, None, rng=None)
            made.append(get(backend, (value, backward())))
        assert launched is None or "head_rows" in launched
    assert_close(*made, "float32")


def test_the_same_bits_in_every_order_of_threads(backend):
    forward, args = network(backend, [nn.Affine(40), nn.ReLU(), nn.Affine(10)], LABELS, (5,), 70)
    made = []
    for backwards in (False, True):
        with in_order(backwards):
            value, _, backward = forward(*args, None, rng=None)
            made.append(get(backend, (value, backward())))
    assert_equal(*made)


def test_nothing_is_read_back(backend):
    forward, args = network(backend, [nn.Affine(4), nn.Sigmoid(), nn.Affine(3)], LABELS, (5,), 7)
    weight = put(backend, np.ones(7), "float32")
    with never_waiting():
        forward(*args, weight, rng=None)[2]()


def refuses(backend, members, params, x, *behind):
    group = group_of(backend, members)
    layers = members[:-1] if behind else members
    options = {"train": True, "rngs": [None] * len(layers)} | ({"input_grad": True} if behind else {})
    given = (layers, *members[-1:], params, (), x, *behind) if behind else (layers, params, (), x)
    with launches() as launched:
        made = group.function(*given, **options)
    assert launched == []
    return made is NotImplemented


def test_what_the_groups_refuse(backend):
    affine, f32 = nn.Affine(3), lambda *shape: put(backend, np.ones(shape), "float32")
    w = {"w": f32(5, 3), "b": f32(3)}
    x, labels = f32(4, 5), put(backend, np.zeros(4, np.int64), "float32")
    relu, head = (affine, nn.ReLU()), (affine, LABELS)
    squares, deep = (affine, losses.HalfSquaredError()), (affine, nn.ReLU(), nn.Affine(3), LABELS)
    double = put(backend, np.ones((4, 5)), "float64")
    odd = [f32(4, 6), f32(0, 5), double, f32(4, 5, 1), put(backend, np.ones((4, 5), np.int32), "float32")]
    for other in odd:
        assert refuses(backend, relu, (w, {}), other)
        assert refuses(backend, head, (w,), other, labels, None)
        assert refuses(backend, deep, (w, {}, {"w": f32(3, 3), "b": f32(3)}), other, labels, None)
    assert refuses(backend, relu, ({"w": f32(5, 3), "b": f32(1)}, {}), x)
    wrong = [f32(4, 2), f32(4), labels[:3], put(backend, np.ones((4, 3)), "float64"), np.zeros(4, np.int64)]
    for target in wrong:
        assert refuses(backend, head, (w,), x, target, None)
    for target in (labels, f32(4)):  # class numbers, for numbers
        assert refuses(backend, squares, (w,), x, target, None)
    for weight in (f32(3), f32(4, 1), put(backend, np.ones(4), "float64"), np.ones(4)):
        assert refuses(backend, head, (w,), x, labels, weight)
    wide = cupy_loss_groups._THREADS * cupy_loss_groups._MOST_VALUES + 1
    assert refuses(backend, head, ({"w": f32(wide, 3), "b": f32(3)},), f32(4, wide), labels, None)
    assert refuses(backend, deep, (w, {}, {"w": f32(2, 3), "b": f32(3)}), x, labels, None)


def test_last_layers_that_are_too_wide_are_no_heads(backend):
    most, act = cupy_loss_groups.MOST_SCORES, nn.ReLU()
    for members, fit in (
        ((nn.Affine(most), LABELS), True),
        ((nn.Affine(most + 1), LABELS), False),
        ((nn.Affine(2_048), act, nn.Affine(most), LABELS), True),
        ((nn.Affine(2_049), act, nn.Affine(most), LABELS), False),
        ((nn.Affine(8_192), act, nn.Affine(1), LABELS), True),
        ((nn.Affine(4), act, nn.Affine(3), losses.Huber()), False),
    ):
        assert any(group.takes(members) for group in backend.groups()) is fit


def test_every_geometry_fits_a_block():
    for k, scores in product(
        [1, 5, 32, 127, 128, 512, 2_048, 4_000, 30_000], range(1, cupy_loss_groups.MOST_SCORES + 1)
    ):
        per = cupy_loss_groups._values_of_thread(k, scores)
        if per is not None:
            assert 1 <= per * scores <= cupy_loss_groups._WEIGHTS
            assert -(-k // (32 * per)) * 32 <= cupy_loss_groups._THREADS
        assert per is not None or k > 2_048


@pytest.mark.parametrize(
    ("table", "subject"), [(cupy_affine_groups.ACTIVATIONS, "affine_groups"), (cupy_loss_groups.LOSSES, "loss_groups")]
)
def test_the_tables_are_those_of_the_sources(table, subject):
    """Each layer or loss has its structure, and its parameter is one of its fields."""
    structures = re.findall(r"^struct (\w+) {", cupy_compile.source(subject), re.MULTILINE)
    assert {kind.__name__ for kind in table} <= {*structures}
    for kind, field in table.items():
        given = set(inspect.signature(kind).parameters) - {"class_weight"}
        assert given == ({field} if field else set())


# What the comparison is there to find.


FAULTS = [
    ("activation", "y > 0 ? dy : y", "y > 1 ? dy : y"),
    ("head", "gone = may_leave_out &&", "gone = false &&"),
    ("activation", "values[j] + bias[at.lane(j)]", "values[j]"),
    ("head", "slopes[j] * share", "slopes[j]"),
    ("head", "value = share * (mine == 0 ? (REAL)0 : value)", "value = share * value"),
    ("head", "else if (wanted)\n      dh_sums", "else if (column < 2)\n      dh_sums"),
    ("layer and head", "ACTIVATION::gradient(dy, before,", "(before,"),
    ("layer and head", "for (int i = 0; i < warps; i++) z", "for (int i = 0; i < 1; i++) z"),
]


@pytest.mark.parametrize(
    ("name", "old", "new"), [*FAULTS[:2], *(pytest.param(*fault, marks=pytest.mark.slow) for fault in FAULTS[2:])]
)
def test_faults_are_found(backend, monkeypatch, name, old, new):
    changed = []

    def change(text):
        found = re.subn(re.escape(old), lambda _: new, text)
        changed.append(found[1])
        return found[0]

    with_source(monkeypatch, change)
    members, _ = ROWS[name]
    if "warps" in old:  # of which there is one only where all is small
        members = (nn.Affine(200), *members[1:])
    comparison = Comparison(backend, group_of(backend, members), "float32")
    with pytest.raises(AssertionError):
        comparison.members(members, 7, np.inf if "value" in old else None)
    assert any(changed)
