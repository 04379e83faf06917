import dataclasses

import numpy as np
import pytest
from families import INITIALIZERS

from portnn import nn
from portnn.errors import ConfigError, ShapeError
from portnn.random import Stream

all_initializers = pytest.mark.parametrize("case", INITIALIZERS.values(), ids=INITIALIZERS)


@all_initializers
def test_moments_and_bounds(case):
    w = case.initializer(Stream(0), (300, 200))
    assert w.shape == (300, 200)
    assert w.dtype == np.float64
    # Five standard errors of the mean and of the standard deviation of 60,000 draws.
    tolerance = 5 * case.std / np.sqrt(60_000) + 1e-15
    assert abs(w.mean() - case.mean) <= tolerance
    assert abs(w.std() - case.std) <= tolerance
    assert abs(w).max() <= case.bound


@all_initializers
def test_stateless(case):
    first, again, other = (case.initializer(Stream(seed), (3, 4)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() == (case.std > 0)


@all_initializers
def test_configuration_round_trip(case):
    assert nn.from_config(nn.to_config(case.initializer)) == case.initializer


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 4)])
def test_orthogonal(shape):
    w = nn.Orthogonal(gain=3.0)(Stream(0), shape).reshape(-1, shape[-1])
    small = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(small, 9.0 * np.eye(len(small)), atol=1e-12)


def test_fans_of_a_convolution_kernel():
    assert nn.HeNormal()(Stream(0), (3, 3, 50, 80)).std() == pytest.approx(np.sqrt(2 / 450), rel=0.02)


def test_errors():
    with pytest.raises(ShapeError, match="at least 2 axes"):
        nn.HeNormal()(Stream(0), (3,))
    with pytest.raises(ShapeError, match="has no entries"):
        nn.GlorotUniform()(Stream(0), (0, 3))
    with pytest.raises(ConfigError, match=r"std must be a number in \[0, inf\)"):
        nn.Normal(std=-1)
    with pytest.raises(ConfigError, match="gain must be"):
        nn.Orthogonal(gain=0)
    with pytest.raises(ConfigError, match="low <= high"):
        nn.Uniform(low=1, high=0)
    with pytest.raises(ConfigError, match="value must be a number"):
        nn.Constant(float("-inf"))


def test_what_could_be_mistaken_is_given_by_name():
    """`Normal(1.0)` would be a mean of 1 and a deviation of 0.01, and a network of it learns nothing."""
    for mistaken in (
        lambda: nn.Normal(1.0),
        lambda: nn.Normal(0.0, 1.0),
        lambda: nn.Uniform(0.01),
        lambda: nn.Uniform(0, 1),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            mistaken()


def test_an_initializer_of_several_numbers_takes_them_by_name():
    for name in nn.initializers.__all__:
        initializer = getattr(nn, name)
        fields = dataclasses.fields(initializer) if dataclasses.is_dataclass(initializer) else ()
        assert len(fields) < 2 or all(field.kw_only for field in fields), name
