"""Each operation of NumPy by itself: a tape gives what NumPy gives, bit for bit, also for other values."""

import math

import numpy as np
import pytest
from portnn_backends.on_numpy.compile import HAS_NUMBA
from tapes import needs_numba, replayed

if HAS_NUMBA:
    from portnn_backends.on_numpy.tape.numbers import Unrecordable

pytestmark = needs_numba


def _in_place(x, y):
    z = x * 2.0
    z += y
    z[1:3] = 0.5
    z[..., 0] *= y[..., 1]
    z[2] = y[0]
    z[:, 1:3] = y[:, 2:4]
    np.multiply(z, x, out=z)
    np.negative(z, out=z[...])
    return z


def _assigned(x):
    made = np.empty_like(x)
    made[...] = 1.0
    made[::2] = x[::2]
    made[1::2, :2] = x[0, :2]
    made[0] = x[:, :1].T[0, 0]
    return made


def _filled(x):
    made = np.full_like(x, 2.5)
    made[:, 1:] = x[:, 1:]
    return made + np.zeros_like(x) + np.ones_like(x, dtype=x.dtype)


def _constant(x):
    table = np.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
    return x * table - table[::-1]


def _copy_into(x):
    made = np.empty_like(x)
    np.copyto(made, x)
    made -= x[0]
    return made


def _rounded(x):
    return np.rint(x) + np.floor(x) - np.ceil(x) + np.trunc(x * 3)


#: A function, and the shapes of its arguments.
OPERATIONS = {
    "add": (lambda x, y: x + y, (5, 9), (5, 9)),
    "add-rows": (lambda x, y: x + y, (5, 9), (9,)),
    "add-columns": (lambda x, y: x + y, (5, 9), (5, 1)),
    "add-outer": (lambda x, y: x[:, None] + y[None, :], (5,), (9,)),
    "add-both broadcast": (lambda x, y: x + y, (5, 1, 4), (3, 1)),
    "add-scalar": (lambda x: 0.3 + x, (5, 9)),
    "add-0d": (lambda x, y: x + y, (5, 9), ()),
    "of 0d": (lambda x, y: np.exp(x) * y, (), ()),
    "element": (lambda x: x[2, 3] * x[0], (5, 9)),
    "subtract-transposed": (lambda x, y: x.T - y, (5, 9), (9, 5)),
    "both transposed": (lambda x, y: x.T * y.T, (5, 9), (5, 9)),
    "transposed result": (lambda x: np.transpose(x * x.dtype.type(3), (2, 0, 1)), (3, 4, 5)),
    "permuted": (lambda x, y: np.transpose(x, (1, 2, 0)) / y, (3, 4, 5), (4, 5, 3)),
    "strided": (lambda x: x[::2, 1::3] + x[:3, :3], (5, 9)),
    "reversed": (lambda x: x[::-1, ::-2] * 0.7, (5, 9)),
    "power": (lambda x: np.abs(x) ** 2.5 + x**2 + x**-1, (5, 9)),
    "maximum": (lambda x, y: np.maximum(x, y) - np.minimum(x, 0.25), (5, 9), (5, 9)),
    "special": (lambda x: np.log1p(np.abs(x)) + np.expm1(x) + np.tanh(x) + np.sqrt(np.abs(x)), (5, 300)),
    "logarithm": (lambda x: np.log(np.abs(x)) + np.exp(x) + np.sin(x) + np.cos(x), (5, 300)),
    "sign": (lambda x: np.sign(x) + np.square(x) + np.reciprocal(x), (5, 9)),
    "round": (_rounded, (5, 9)),
    "clip": (lambda x: np.clip(x, -0.5, 0.25), (5, 9)),
    "compare": (lambda x, y: x > y, (5, 9), (5, 9)),
    "compare-number": (lambda x: (x >= 0.5) | (x < -0.5), (5, 9)),
    "logical": (lambda x, y: np.logical_not((x > 0) & ~(y > 0)) ^ np.isfinite(x), (5, 9), (5, 9)),
    "truth values": (lambda x: (x > 0) & True, (5, 9)),
    "truth values as numbers": (lambda x: (x > 0) * x + (x < 0), (5, 9)),
    "copy of truth values": (lambda x: (x > 0).copy(), (5, 9)),
    "remainder": (lambda x: x % 0.3 + x // 0.7, (5, 9)),
    "in place": (_in_place, (5, 9), (5, 9)),
    "assignment": (_assigned, (6, 4)),
    "filled": (_filled, (6, 4)),
    "copyto": (_copy_into, (6, 4)),
    "constants": (_constant, (5, 9)),
    "to float64": (lambda x: x.astype(np.float64) / 3, (5, 9)),
    "to float32": (lambda x: x.astype(np.float32) / np.float32(3), (5, 9)),
    "to integers": (lambda x: (x * 10).astype(np.int64) * 2, (5, 9)),
    "to small integers": (lambda x: (x * 10).astype(np.int32) + 1, (5, 9)),
    "to truth values": (lambda x: (x > 0).astype(np.float32) + x, (5, 9)),
    "rows to float64": (lambda x: x[:, 2:5].astype(np.float64), (5, 9)),
    "take": (lambda x, y: np.take(x, (np.abs(y) * 3).astype(np.int64) % 5, axis=0), (5, 9), (7,)),
    "take-from the end": (lambda x, y: np.take(x, -1 - (np.abs(y) * 3).astype(np.int64) % 5, axis=0), (5, 9), (7,)),
    "take-truth values": (lambda x, y: np.take(x > 0, (np.abs(y) * 3).astype(np.int64) % 5, axis=0), (5, 9), (7,)),
    "index": (lambda x, y: x[(np.abs(y) * 3).astype(np.int64) % 5], (5, 9), (7,)),
    "where": (lambda x, y: np.where(x > 0, x, y), (5, 9), (5, 9)),
    "where-numbers": (lambda x: np.where(x > 0.5, 0.5, np.where(x < -0.5, -0.5, x)), (5, 9)),
    "where-broadcast": (lambda x, y: np.where(x[:, :1] > 0, x, y), (5, 9), (9,)),
    "where-transposed": (lambda x, y: np.where(x.T > 0, y, x.T), (5, 9), (9, 5)),
    "where-all transposed": (lambda x, y: np.sum(np.where(x.T > 0, y.T, 0.5), axis=0), (5, 9), (5, 9)),
    "where-permuted": (lambda x: np.where(x.transpose(1, 2, 0) > 0, x.transpose(1, 2, 0), -1.0) * 2, (3, 4, 5)),
    "where-reversed": (lambda x: np.where(x[::-1, ::2] > 0, x[::-1, ::2], 0.0), (6, 4)),
    "where-0d": (lambda x, y: np.where(np.sum(x) > 0, y, -y), (5, 9), (3, 4)),
    "pad": (lambda x: np.pad(x, ((1, 0), (2, 3))), (5, 9)),
    "pad-constant": (lambda x: np.pad(x, ((0, 0), (2, 3)), constant_values=-1.5), (5, 9)),
    "concatenate": (lambda x, y: np.concatenate([x, y, x]), (5, 9), (2, 9)),
    "concatenate-last axis": (lambda x, y: np.concatenate((x, y), axis=-1), (5, 9), (5, 2)),
    "stack": (lambda x, y: np.stack([x, y]), (5, 9), (5, 9)),
    "stack-last axis": (lambda x, y: np.stack([x, y], axis=-1), (5, 9), (5, 9)),
    "tile": (lambda x: np.tile(x, 3), (5,)),
    "copy": (lambda x: x.T.copy() + np.copy(x).T, (5, 9)),
    "reshape": (lambda x: np.reshape(x, (9, 5)) + x.reshape(-1).reshape(9, 5), (5, 9)),
    "reshape-transposed": (
        lambda x: x.T.reshape(5, 9) + np.ravel(x.T).reshape(5, 9) + x.flatten().reshape(5, 9),
        (5, 9),
    ),
    "broadcast_to": (lambda x: np.broadcast_to(x, (4, 9)) * 2, (9,)),
    "axes": (lambda x: np.squeeze(np.expand_dims(x, 1), 1) + np.moveaxis(np.swapaxes(x, 0, 1), 0, 1), (5, 9)),
    "flip": (lambda x: np.flip(x, 0) - x, (5, 9)),
    "diagonal": (lambda x: np.diagonal(x) * 2, (5, 5)),
    "variance": (lambda x: np.var(x, axis=0) + np.std(x, axis=0), (40, 7)),
    "any and all": (lambda x: np.any(x > 1, axis=1) & ~np.all(x > -2, axis=1), (40, 7)),
    "largest": (lambda x: np.max(x, axis=1) - np.min(x, axis=1), (40, 70)),
    "product": (lambda x: np.prod(x, axis=1), (40, 3)),
    "sum with a first value": (lambda x: np.max(x, axis=1, initial=0.4) + np.sum(x, axis=1, initial=2.0), (40, 7)),
    "sum of truth values": (lambda x: np.sum(x > 0, axis=0), (40, 7)),
    "sum in float64": (lambda x: np.sum(x, axis=0, dtype=np.float64), (40, 7)),
    "sum of nothing": (lambda x: np.sum(x[:, :0], axis=1) + np.sum(x[:0]), (5, 9)),
    "nothing": (lambda x: x[:0] * 2.0, (5, 9)),
    "nothing joined": (lambda x: np.concatenate([x[:0], x]), (5, 9)),
    "nothing times nothing": (lambda x, y: x[:0] @ y, (5, 9), (9, 4)),
    "inner axis of nothing": (lambda x, y: x[:, :0] @ y[:0], (5, 9), (9, 4)),
    "matrices": (lambda x, y: x @ y, (5, 9), (9, 4)),
    "matrices-transposed": (lambda x, y: x.T @ y.T, (9, 5), (4, 9)),
    "matrices-strided": (lambda x, y: x[:, ::2] @ y[1:6], (5, 10), (9, 4)),
    "matrices-large": (lambda x, y: x @ y, (70, 130), (130, 90)),
    "matrix and its transpose": (lambda x: x @ x.T, (40, 50)),
    "vector and matrix": (lambda x, y: x @ y, (5,), (5, 9)),
    "matrix and vector": (lambda x, y: x @ y, (4, 5), (5,)),
    "vectors": (lambda x, y: x @ y, (500,), (500,)),
    "stack of matrices": (lambda x, y: x @ y, (3, 4, 5), (3, 5, 6)),
    "stack and matrix": (lambda x, y: x @ y, (3, 4, 5), (5, 6)),
    "matrix and stack": (lambda x, y: x @ y, (4, 5), (3, 5, 6)),
    "stack and stack of one": (lambda x, y: x @ y, (3, 4, 5), (1, 5, 6)),
    "stack and vector": (lambda x, y: x @ y, (3, 4, 5), (5,)),
    "stack transposed": (lambda x, y: np.swapaxes(x, 1, 2) @ y, (3, 5, 4), (3, 5, 6)),
}
if hasattr(np, "vecdot"):
    OPERATIONS |= {
        "vecdot": (lambda x, y: np.vecdot(x, y), (500,), (500,)),
        "vecdot-rows": (lambda x, y: np.vecdot(x, y), (4, 50), (4, 50)),
        "vecdot-rows and a vector": (lambda x, y: np.vecdot(x, y), (4, 50), (50,)),
    }

REDUCED = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), None]


def values(shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def assert_replayed(function, shapes, dtype, worth):
    made, expected = replayed(function, values(shapes, dtype, 0), values(shapes, dtype, 1), worth)
    assert made.dtype == expected.dtype
    assert made.shape == expected.shape
    assert made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("worth", [math.inf, 32], ids=["whole", "split"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name, dtype, worth):
    function, *shapes = OPERATIONS[name]
    assert_replayed(function, shapes, dtype, worth)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)], ids=str)
@pytest.mark.parametrize("axes", REDUCED, ids=str)
def test_reduction(axes, transposed, dtype):
    """Sums depend on their order, and NumPy goes through memory as it lies."""
    for keepdims in (False, True):
        for reduce in (np.sum, np.mean, np.max):
            function = lambda x: reduce(np.transpose(x, transposed), axis=axes, keepdims=keepdims)  # noqa: B023, E731
            assert_replayed(function, [(3, 20, 50)], dtype, math.inf)


@pytest.mark.parametrize("axis", [0, 1])
def test_reduction_of_a_strided_array(axis):
    for part in (np.s_[::2], np.s_[:, ::3], np.s_[:, 5:90], np.s_[::-1], np.s_[:1]):
        assert_replayed(lambda x: np.sum(x[part], axis=axis), [(40, 300)], "float32", math.inf)  # noqa: B023


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reduction_of_a_broadcast_array(axis):
    """Where an axis has no step, NumPy leaves it where it is."""
    for shape in [(3, 20, 1), (1, 20, 50), (3, 1, 50), (3, 1, 1), (1, 1, 50)]:
        assert_replayed(lambda x: np.sum(np.broadcast_to(x, (3, 20, 50)), axis=axis), [shape], "float32", math.inf)


def test_a_sum_in_pieces_that_only_numpy_knows_is_refused():
    """NumPy copies such an array into a buffer, and how much at a time its versions decide; whole ones are summed."""
    for part in (np.s_[::2], np.s_[:, 1:]):
        for function in (np.max, lambda x: np.sum(x > 0), lambda x: np.any(x > 3)):
            assert_replayed(lambda x: function(x[part]), [(40, 30)], "float32", math.inf)  # noqa: B023
    x = np.ones((20, 30), np.float32)
    for refused in (
        lambda x: np.sum(x[::2]),
        lambda x: np.mean(x[:, 1:]),
        lambda x: np.sum(np.broadcast_to(x[:, :1], (3, 20, 50)), axis=(1, 2)),
    ):
        with pytest.raises(Unrecordable, match="does not lie in one piece"):
            replayed(refused, [x], [x])
