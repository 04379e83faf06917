"""Sums and means over many values in float32: the rounding error does not grow with their number."""

import numpy as np
import pytest
from helpers import get, put
from lanes import USABLE, open_lane

from portnn import functional, nn
from portnn.data.augmentation import Contrast
from portnn.data.scaling import Scaling
from portnn.functional.sums import mean_over, pairwise, sum_leading, sum_over
from portnn.random import Stream

MANY = 1_000_000
#: 16 units in the last place; added one after the other, a million numbers are wrong by 1,000 to 500,000 of them.
RTOL = 2e-6
LANES = [lane for lane in USABLE if lane not in ("numpy-readonly", "cupy-on-host")]

lanes = pytest.mark.parametrize("lane", LANES)
#: Where compiling for XLA takes seconds.
lanes_but_for_jax = pytest.mark.parametrize(
    "lane", [pytest.param(lane, marks=pytest.mark.slow) if lane == "jax" else lane for lane in LANES]
)


def rows(lane, seed=0):
    """Numbers of one sign; fewer of them where a test would only wait."""
    n = MANY if lane == "numpy" else 64_000
    return np.random.default_rng(seed).uniform(0.5, 1.5, (n, 3)).astype(np.float32)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 127, 128, 129, 130, 255, 257, 1_023, 4_097])
def test_every_value_is_added_once(n, typed):
    """Whole numbers, so that the sums are exact."""
    backend, dtype = typed
    x = np.random.default_rng(n).integers(-9, 9, (2, n, 3)).astype(dtype)
    for axis in (0, 1, 2):
        for form in (sum_over, sum_over.portable):
            found = get(backend, form(put(backend, x, dtype), axis))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, x.sum(axis=axis))
    np.testing.assert_array_equal(get(backend, sum_leading(put(backend, x, dtype))), x.sum(axis=(0, 1)))
    if n:
        np.testing.assert_allclose(get(backend, mean_over(put(backend, x, dtype), 1)), x.mean(axis=1), rtol=1e-6)
    if 0 < n < 10:
        parts = [put(backend, x[0, i], dtype) for i in range(n)]
        np.testing.assert_array_equal(get(backend, pairwise(parts)), x[0].sum(axis=0))


def test_the_mean_of_nothing_is_nan_without_a_warning(backend):
    assert np.isnan(get(backend, mean_over(put(backend, np.ones((0, 3)), "float32"), 0))).all()
    for form in (functional.channel_moments, functional.channel_moments.portable):
        assert all(np.isnan(get(backend, a)).all() for a in form(put(backend, np.ones((0, 3)), "float32")))


def test_an_empty_batch_leaves_running_statistics_alone(backend):
    layer = nn.BatchNorm()
    params = {name: put(backend, np.asarray([1.0, 2.0]), "float32") for name in ("gamma", "beta")}
    state = {name: put(backend, np.asarray([3.0, 4.0]), "float32") for name in ("mean", "var")}
    for shape in ((0, 2), (0, 3, 3, 2), (4, 0, 2)):
        x = put(backend, np.ones(shape), "float32")
        y, new_state, backward = layer.forward(params, state, x, train=True)
        assert y.shape == shape
        np.testing.assert_array_equal(get(backend, new_state["mean"]), [3.0, 4.0])
        np.testing.assert_array_equal(get(backend, new_state["var"]), [3.0, 4.0])
        dx, grads = backward(x)
        assert dx.shape == shape
        assert get(backend, grads["gamma"]).tolist() == get(backend, grads["beta"]).tolist() == [0.0, 0.0]


def close(backend, actual, expected, rtol=RTOL):
    np.testing.assert_allclose(get(backend, actual), expected, rtol=rtol)


@lanes_but_for_jax
def test_gradients_of_biases(lane):
    """Of affine maps and convolutions; beside the weights' gradients, which are products of matrices."""
    dy = rows(lane)
    exact = dy.sum(axis=0, dtype=np.float64)
    with open_lane(lane) as backend:
        for form in (functional.affine, functional.affine.portable):
            x, w, b, slopes = put(backend, (np.ones((len(dy), 1)), np.ones((1, 3)), np.zeros(3), dy), "float32")
            _, backward = form(x, w, b)
            close(backend, backward(slopes, input_grad=False)[2], exact)
        image = np.ones((16, len(dy) // 16, 1, 1)), np.ones((1, 1, 1, 3)), np.zeros(3), dy.reshape(16, -1, 1, 3)
        for function in (functional.conv2d, functional.conv_transpose2d):
            for form in (function, function.portable):
                x, w, b, slopes = put(backend, image, "float32")
                w = w if function is functional.conv2d else put(backend, np.ones((1, 1, 3, 1)), "float32")
                _, backward = form(x, w, b)
                close(backend, backward(slopes, input_grad=False)[2], exact)


@lanes_but_for_jax
def test_moments_and_gradients_of_normalisation(lane):
    x = rows(lane) + np.float32(14.0)
    mean, variance = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
    x_hat = (x - mean) / np.sqrt(variance + 1e-5)
    dy = rows(lane, seed=1)
    dgamma, dbeta = (dy * x_hat).sum(axis=0), dy.sum(axis=0, dtype=np.float64)
    with open_lane(lane) as backend:
        on_device = put(backend, (x, np.ones(3), np.zeros(3)), "float32")
        for form in (functional.channel_moments, functional.channel_moments.portable):
            close(backend, form(on_device[0])[0], mean)
            close(backend, form(on_device[0])[1], variance, 1e-5)
        for name in ("batch_norm", "layer_norm"):
            for form in (getattr(functional, name), getattr(functional, name).portable):
                y, backward = form(*on_device)
                _, found_dgamma, found_dbeta = backward(put(backend, dy, "float32"))
                close(backend, found_dbeta, dbeta)
                if name == "batch_norm":
                    np.testing.assert_allclose(get(backend, y), x_hat, atol=1e-4)
                    np.testing.assert_allclose(get(backend, found_dgamma), dgamma, atol=RTOL * abs(dy * x_hat).sum())
        layer, params = nn.BatchNorm(), put(backend, {"gamma": np.ones(3), "beta": np.zeros(3)}, "float32")
        state = put(backend, {"mean": mean, "var": variance}, "float32")
        _, _, backward = layer.forward(params, state, on_device[0])
        close(backend, backward(put(backend, dy, "float32"))[1]["beta"], dbeta)


@lanes
@pytest.mark.parametrize("value", [14.62, -1e4, 3e-3])
@pytest.mark.parametrize("n", [100, 1_000, 100_000])
def test_a_channel_that_is_always_the_same(lane, value, n):
    x = np.full((n, 4), value, np.float32)
    with open_lane(lane) as backend:
        on_device = put(backend, (x, np.ones(4), np.zeros(4)), "float32")
        for form in (functional.batch_norm, functional.batch_norm.portable):
            assert (get(backend, form(*on_device)[0]) == 0).all()
        for form in (functional.channel_moments, functional.channel_moments.portable):
            mean, variance = get(backend, form(on_device[0]))
            assert (mean == x[0]).all()
            assert (variance == 0).all()


@lanes
def test_means_of_images(lane):
    images = np.broadcast_to(np.asarray([0.7, 14.62, -3.1], np.float32), (1, 512, 512, 3))
    with open_lane(lane) as backend:
        x = put(backend, images, "float32")
        for form in (functional.global_average_pool, functional.global_average_pool.portable):
            close(backend, form(x)[0], images[:, 0, 0, :], 5e-7)
        # There is no contrast to change.
        np.testing.assert_allclose(get(backend, Contrast(0.9)(x, Stream(0))), images, rtol=1e-6)


def test_means_of_large_windows():
    images = np.full((2, 128, 128, 3), 14.62, np.float32)
    np.testing.assert_allclose(functional.average_pool2d(images, size=64)[0], images[:, :2, :2, :], rtol=5e-7)


@lanes
def test_scaling_without_float64(lane):
    x = rows(lane)
    with open_lane(lane) as backend:
        scaling = Scaling.standard(put(backend, x, "float32"))
    np.testing.assert_allclose(scaling.offset, x.mean(axis=0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(scaling.width, x.std(axis=0, dtype=np.float64), rtol=1e-7)


def test_many_classes():
    """Of a million, each as likely as any other."""
    logits = np.zeros((1, MANY), np.float32)
    for form in (functional.softmax_cross_entropy, functional.softmax_cross_entropy.portable):
        values, backward = form(logits, np.asarray([3]))
        np.testing.assert_allclose(values, np.log(MANY), rtol=1e-6)
        np.testing.assert_allclose(backward(np.ones(1, np.float32))[0, 0], 1 / MANY, rtol=1e-6)
