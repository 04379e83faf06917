"""Generic tests over the table of losses, and the metrics."""

import numpy as np
import pytest
from families import LOSSES, LossCase
from helpers import assert_close, assert_here, get, put

from portnn import get_backend, metrics
from portnn.gradcheck import gradcheck

all_losses = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)


def make(case: LossCase, backend, dtype, n=5):
    rng = np.random.default_rng(0)
    (prediction,), (target,) = case.prediction(rng, n), case.target(rng, n)
    return put(backend, (prediction, target), dtype)


@all_losses
def test_value_and_gradient_on_every_backend(case, typed):
    backend, dtype = typed
    results = []
    for lane, kind in ((backend, dtype), (get_backend("numpy"), "float64")):
        prediction, target = make(case, lane, kind)
        value, backward = case.loss(prediction, target)
        assert value.ndim == 0
        assert_here(lane, kind, (value, backward()))
        results.append(get(lane, (value, backward())))
    assert_close(results[0], results[1], dtype)


@all_losses
def test_gradient_is_the_derivative(case, backend64):
    prediction, target = make(case, backend64, "float64")
    gradcheck(lambda p: case.loss(p, target), prediction)


@all_losses
def test_value_is_the_mean_of_the_examples(case, backend64):
    prediction, target = make(case, backend64, "float64")
    whole = get(backend64, case.loss(prediction, target)[0])
    parts = [get(backend64, case.loss(prediction[i : i + 1, ...], target[i : i + 1, ...])[0]) for i in range(5)]
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-12)


@all_losses
def test_equals_torch(case):
    torch = pytest.importorskip("torch")
    functions = {
        "SoftmaxCrossEntropy": torch.nn.functional.cross_entropy,
        "SigmoidCrossEntropy": lambda p, t: (
            torch.nn.functional.binary_cross_entropy_with_logits(p, t, reduction="sum") / len(p)
        ),
        "HalfSquaredError": lambda p, t: 0.5 * torch.nn.functional.mse_loss(p, t, reduction="sum") / len(p),
    }
    prediction, target = make(case, get_backend("torch"), "float64")
    leaf = prediction.clone().requires_grad_()
    expected = functions[type(case.loss).__name__](leaf, target)
    expected.backward()
    value, backward = case.loss(prediction, target)
    np.testing.assert_allclose(value.numpy(), expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(backward().numpy(), leaf.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_accuracy(typed):
    backend, dtype = typed
    if str(backend) == "strict:no_x64":
        pytest.skip("argmax of array-api-strict 2.6 gives int64 on its device without int64, and so fails")
    scores = put(backend, [[2.0, 1.0, 0.0], [0.0, 3.0, 9.0], [5.0, 4.0, 0.0]], dtype)
    for target in ([0, 1, 0], [[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]]):
        value = metrics.accuracy(scores, put(backend, target, dtype))
        assert_here(backend, dtype, value)
        np.testing.assert_allclose(get(backend, value), 2 / 3, rtol=1e-6)


def test_binary_accuracy(typed):
    backend, dtype = typed
    value = metrics.binary_accuracy(
        *put(backend, ([[2.0], [-1.0], [0.5], [-3.0]], [[1.0], [0.0], [0.0], [0.0]]), dtype)
    )
    assert_here(backend, dtype, value)
    assert get(backend, value) == 0.75
