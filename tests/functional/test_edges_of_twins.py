"""Twins at the edges of the numbers agree with the portable form; see `test_edges`."""

import numpy as np
import pytest
from extended import L, inf, nan
from families import FUNCTIONS
from helpers import get, put
from lanes import USABLE, open_lane

from portnn import functional

pytestmark = pytest.mark.skipif(np.finfo(L).nmant < 60, reason="long double is no longer than double here")

SPECIAL = [0.0, -0.0, 1e-40, 1e15, -1e15, inf, -inf, nan]


def with_one(x, value, place):
    changed = np.array(x)
    changed.reshape(-1)[place % x.size] = value
    return changed


def twins():
    """Lane and case of every differentiable twin."""
    for lane in USABLE:
        with open_lane(lane) as backend:
            yield from ((lane, name) for name, case in FUNCTIONS.items() if case.function.__name__ in backend.kernels())


@pytest.mark.parametrize(("lane", "name"), list(twins()))
def test_twins_at_the_edges(lane, name):
    """Each special value at three places among ordinary ones: forms agree on what is infinite and what is NaN."""
    with open_lane(lane) as backend:
        compare_forms(backend, FUNCTIONS[name])


def compare_forms(backend, case):
    (first, *rest), fixed = case.arguments(4)
    others = put(backend, (tuple(rest), fixed), "float32")
    for value in SPECIAL:
        for place in (0, 7, 1000):
            x = put(backend, with_one(first, value, place), "float32")
            results = []
            for form in (case.call, case.call_portable):
                with backend.context(), np.errstate(all="ignore"):
                    y, backward = form(x, *others[0], *others[1])
                    dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), "float32")
                    results.append(get(backend, (y, backward(dy))))
            for actual, expected in zip(flat(results[0]), flat(results[1]), strict=True):
                if case.function is functional.conv_transpose2d and str(backend).startswith("jax"):
                    # XLA leaves out what padding adds; the portable form multiplies it, and 0 times infinity is NaN.
                    expected = np.where(np.isnan(expected), actual, expected)
                scale = abs(expected[np.isfinite(expected)]).max(initial=1.0)
                np.testing.assert_allclose(
                    actual, expected, rtol=1e-4, atol=1e-5 * scale, err_msg=f"{value} at {place}"
                )


def flat(result):
    """Value and gradients as a list."""
    y, grads = result
    return [y, *(grads if isinstance(grads, tuple) else (grads,))]
