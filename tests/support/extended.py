"""What is right at the edges of the numbers, computed in extended precision."""

import math

import numpy as np

from portnn import functional

L = np.longdouble
inf, nan = math.inf, math.nan

#: Where functions of one number are asked.
PLACES = [0.0, -0.0, 1e-40, -1e-40, 1e-20, -1e-20, 0.3, -0.7, 1.0, -1.0, 2.9, -2.9, 3.0, -3.0, 5.0, -5.0, 8.0, -8.0]
PLACES += [12.0, -12.0, 30.0, -30.0, 60.0, -60.0, 88.0, -88.0, 1e4, -1e4, 1e30, -1e30, inf, -inf, nan]


def logistic(x):
    return np.exp(-np.logaddexp(L(0), -x))


def rounded(exact, dtype):
    with np.errstate(over="ignore"):
        return np.asarray(exact).astype(dtype)


def assert_right(actual, exact, dtype, steepness=0.0, scale=1.0, what="result", x=None):
    """To some units in the last place, and more where the logarithm of the function is steep.

    Subnormal numbers, and what is ``scale`` times as large, may be 0: XLA flushes them on the way.
    ``what`` and ``x``, the places of its values, are for the sentence of the error.
    """
    expected, eps = rounded(exact, dtype), float(np.finfo(dtype).eps)
    assert actual.dtype == expected.dtype
    with np.errstate(invalid="ignore"):
        apart = abs(actual.astype(L) - np.asarray(exact)) / (abs(np.asarray(exact)) + np.finfo(dtype).tiny)
    near = apart <= eps * (16 + 4 * np.asarray(steepness, float))
    fine = (actual == expected) | (np.isnan(actual) & np.isnan(expected)) | near
    least = 4 * np.finfo(dtype).tiny * np.maximum(scale, 1.0)
    fine |= (abs(expected) < least) & (abs(actual) < least)
    where = "" if x is None else f" at x = {x[~fine].tolist()}"
    assert fine.all(), f"the {what}{where} is {actual[~fine].tolist()}, and not {expected[~fine].tolist()}"


def places(backend, dtype):
    """Those of the type; on XLA without the subnormal ones, which are zeros to it."""
    x = np.asarray(PLACES).astype(dtype)
    return x * (abs(x) >= np.finfo(dtype).tiny) if str(backend).startswith("jax") else x


def size(x):
    return np.where(np.isfinite(x), abs(x.astype(float)), 0.0)


def forms(name):
    """What a call gives, and what the portable form gives by itself."""
    function = getattr(functional, name)
    return function, function.portable


#: Of gradients that are differences of numbers up to 10.
ATOL = {"float32": 4e-6, "float64": 1e-14}
SCORES = [
    [0.0, -0.0, 1e-40],
    [1e4, 0.0, -1e4],
    [88.0, -88.0, 0.0],
    [1e30, 1.0, -1e30],
    [-inf, 0.0, 1.0],
    [inf, 0.0, 1.0],
    [0.0, -inf, inf],
    [-inf, 2.0, -inf],
    [inf, inf, 0.0],  # nobody can say which
    [-inf, -inf, -inf],
    [nan, 0.0, 1.0],
    [0.0, inf, nan],
]


def log_softmax(x):
    """In extended precision, with the limits at infinity."""
    x = np.asarray(x).astype(L)
    with np.errstate(all="ignore"):
        largest = x.max(axis=-1, keepdims=True)
        below = np.where(x == largest, 0, x - largest)
        y = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
        undecided = ~np.isfinite(largest) & ((largest < 0) | ((x == inf).sum(axis=-1, keepdims=True) > 1))
    return np.where(undecided | np.isnan(largest), L(nan), y)
