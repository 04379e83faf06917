"""Pooling of infinity and NaN; see `test_edges`."""

import numpy as np
import pytest
from extended import L, forms, inf, nan
from helpers import get, put

from portnn import functional

pytestmark = pytest.mark.skipif(np.finfo(L).nmant < 60, reason="long double is no longer than double here")

WINDOWS = {
    "tiles": {"size": 2},
    "overlapping": {"size": 3, "stride": 1},
    "padded": {"size": 3, "stride": 2, "padding": 1},
    "uneven": {"size": 2, "stride": 2, "padding": ((1, 0), (0, 1))},
    "same": {"size": 3, "stride": 2, "padding": "same"},
}


def pooled(x, dy, rows, columns):
    """Window by window: the largest value, NaN if there is one; the first of equal ones, and the last NaN."""
    y, dx = np.empty(dy.shape), np.zeros(x.shape)
    for n, i, j, c in np.ndindex(dy.shape):
        best = None
        for u in range(rows.kernel):
            for v in range(columns.kernel):
                p, q = i * rows.stride + u - rows.before, j * columns.stride + v - columns.before
                if 0 <= p < rows.size and 0 <= q < columns.size:
                    value = x[n, p, q, c]
                    if best is None or value > x[best] or np.isnan(value):
                        best = (n, p, q, c)
        y[n, i, j, c] = x[best]
        dx[best] += dy[n, i, j, c]
    return y, dx


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("lowest", [-inf, -1.0])
def test_max_pooling(windows, lowest, backend):
    rng = np.random.default_rng(3)
    x = rng.choice([lowest, lowest, 0.0, 1.0, inf, nan], p=[0.35, 0.35, 0.1, 0.1, 0.05, 0.05], size=(3, 6, 6, 5))
    x[0, :, :, 0] = lowest
    x[1, :3, :3, 1] = nan
    rows, columns = functional.pooling.pool_axes(
        (6, 6), windows["size"], windows.get("stride"), windows.get("padding", 0)
    )
    dy = rng.integers(1, 9, (3, rows.count, columns.count, 5)).astype(float)
    expected = pooled(x, dy, rows, columns)
    for function in forms("max_pool2d"):
        y, backward = function(put(backend, x, "float32"), **windows)
        found = get(backend, (y, backward(put(backend, dy, "float32"))))
        for actual, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
