"""Generic tests over the table of losses, and the metrics."""

import numpy as np
import pytest
from families import LOSSES, LossCase
from helpers import assert_close, assert_here, get, put

from portnn import get_backend, losses, metrics
from portnn.errors import ConfigError, DataError, ShapeError
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
def test_value_is_the_weighted_mean_of_the_examples(case, backend64):
    prediction, target = make(case, backend64, "float64")
    weight = backend64.asarray(np.asarray([1.0, 0.0, 2.0, 0.5, 3.0]))
    value, backward = case.loss(prediction, target, weight)
    parts = [get(backend64, case.loss(prediction[i : i + 1, ...], target[i : i + 1, ...])[0]) for i in range(5)]
    own = np.asarray([1.0, 0.0, 2.0, 0.5, 3.0])
    if case.loss.class_weight is not None:
        own = own * np.asarray(case.loss.class_weight)[get(backend64, target)]
    np.testing.assert_allclose(get(backend64, value), np.average(parts, weights=own), rtol=1e-12)
    assert (get(backend64, backward())[1] == 0).all()


@all_losses
def test_weighted_gradient_is_the_derivative(case, backend64):
    prediction, target = make(case, backend64, "float64")
    weight = backend64.asarray(np.asarray([1.0, 0.0, 2.0, 0.5, 3.0]))
    gradcheck(lambda p: case.loss(p, target, weight), prediction)


def test_class_weights():
    logits, target = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), np.asarray([0, 1, 1])
    values = [losses.SoftmaxCrossEntropy()(logits[i : i + 1], target[i : i + 1])[0] for i in range(3)]
    weighted = losses.SoftmaxCrossEntropy(class_weight=[3.0, 1.0])
    for rows in (target, np.eye(2)[target]):
        np.testing.assert_allclose(weighted(logits, rows)[0], np.average(values, weights=[3, 1, 1]))
    # A single column of zeros and ones has two classes.
    binary, column = losses.SigmoidCrossEntropy(class_weight=(3.0, 1.0)), np.asarray([[0.0], [1.0], [1.0]])
    values = [losses.SigmoidCrossEntropy()(logits[i : i + 1, :1], column[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(binary(logits[:, :1], column)[0], np.average(values, weights=[3, 1, 1]))
    with pytest.raises(ShapeError, match="class_weight has 3 weights, for 2 classes"):
        losses.SoftmaxCrossEntropy(class_weight=(1, 2, 3))(logits, target)


@pytest.mark.parametrize("wrong", [{0: 1.0, 1: 5.0}, 2.0])
def test_class_weights_are_a_list(wrong):
    with pytest.raises(ConfigError, match="class_weight is a list with a weight for each class, not"):
        losses.SoftmaxCrossEntropy(class_weight=wrong)


def test_independent_outputs_have_no_class_weights():
    loss = losses.SigmoidCrossEntropy(class_weight=(1.0, 1.0, 1.0))
    with pytest.raises(ShapeError, match="these outputs are independent of each other"):
        loss(np.zeros((2, 3)), np.zeros((2, 3)))


def test_what_does_not_count_may_be_infinite(backend):
    x, t, weight = put(
        backend, (np.asarray([[0.0, 1.0], [1.0, 0.0]]), np.asarray([0, 0]), np.asarray([0.0, 1.0])), "float32"
    )
    with backend.context():
        value, _ = losses.NegativeLogLikelihood(eps=0.0)(x, t, weight)
        assert get(backend, value) == 0.0
        value, backward = losses.NegativeLogLikelihood(eps=0.0)(x[1:, :], t[1:])
        assert (get(backend, value), get(backend, backward()).tolist()) == (0.0, [[-1.0, 0.0]])


def test_a_batch_in_which_nothing_counts():
    value, backward = losses.HalfSquaredError()(np.ones((2, 1)), np.zeros((2, 1)), np.zeros(2))
    assert value == 0
    assert (backward() == 0).all()


def test_numbers_of_the_lectures():
    y = np.asarray([[0.1, 0.05, 0.6, 0.0, 0.05, 0.1, 0.0, 0.1, 0.0, 0.0]])
    t = np.eye(10)[[2]]
    assert losses.HalfSquaredError()(y, t)[0] == pytest.approx(0.0975)
    assert losses.NegativeLogLikelihood()(y, t)[0] == pytest.approx(0.510825, abs=1e-6)


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: losses.SoftmaxCrossEntropy(label_smoothing=1.0), r"label_smoothing must be a number in \[0, 1\)"),
        (lambda: losses.NegativeLogLikelihood(eps=-1), "eps must be"),
        (lambda: losses.Huber(delta=0), "delta must be"),
        (lambda: losses.MeanSquaredError(class_weight=(1, -1)), "each class_weight must be"),
    ],
)
def test_bad_hyper_parameters(make_it, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_it()


def torch_losses(loss):
    """The same losses of torch, from ours and its fields."""
    import torch
    from torch.nn import functional as theirs

    weight = None if loss.class_weight is None else torch.tensor(loss.class_weight, dtype=torch.float64)
    return {
        "SoftmaxCrossEntropy": lambda p, t: theirs.cross_entropy(
            p, t, weight=weight, label_smoothing=loss.label_smoothing
        ),
        "NegativeLogLikelihood": lambda p, t: theirs.nll_loss(torch.log(p), t),
        "KLDivergence": lambda p, t: theirs.kl_div(theirs.log_softmax(p, dim=-1), t, reduction="batchmean"),
        "SigmoidCrossEntropy": lambda p, t: theirs.binary_cross_entropy_with_logits(p, t, reduction="sum") / len(p),
        "HalfSquaredError": lambda p, t: 0.5 * theirs.mse_loss(p, t, reduction="sum") / len(p),
        "MeanSquaredError": theirs.mse_loss,
        "MeanAbsoluteError": theirs.l1_loss,
        "Huber": lambda p, t: theirs.huber_loss(p, t, delta=loss.delta),
        "Poisson": theirs.poisson_nll_loss,
        "HalfPoissonDeviance": lambda p, t: (
            (theirs.poisson_nll_loss(p, t, reduction="sum") + (torch.xlogy(t, t) - t).sum()) / len(p)
        ),
    }


@all_losses
def test_equals_torch(case):
    pytest.importorskip("torch")
    prediction, target = make(case, get_backend("torch"), "float64")
    leaf = prediction.clone().requires_grad_()
    expected = torch_losses(case.loss)[type(case.loss).__name__](leaf, target)
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


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.binary_accuracy])
@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_the_accuracy_of_what_is_no_number_is_none(metric, place, typed):
    """Whether the rest is right or not, and whichever of the scores it is."""
    backend, dtype = typed
    if str(backend) == "strict:no_x64" and metric is metrics.accuracy:
        pytest.skip("argmax of array-api-strict 2.6 gives int64 on its device without int64, and so fails")
    scores = np.asarray([[2.0, 1.0, 0.0], [0.0, 3.0, 9.0]])
    target = np.asarray([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    broken = [np.array(scores), np.array(target)]
    for which in (0, 1):
        broken[which][place] = np.nan
        value = metric(*put(backend, (broken[0], target) if which == 0 else (scores, broken[1]), dtype))
        assert_here(backend, dtype, value)
        assert np.isnan(get(backend, value))
    if metric is metrics.accuracy:
        assert np.isnan(get(backend, metric(put(backend, broken[0], dtype), backend.asarray(np.asarray([0, 2])))))
    nothing = put(backend, np.full((4, 3), np.nan), dtype)
    assert np.isnan(get(backend, metric(nothing, put(backend, np.eye(4, 3), dtype))))


def test_class_numbers_of_the_accuracy_are_integers():
    scores = np.eye(3)
    with pytest.raises(DataError, match="class numbers must be integers, not float64"):
        metrics.accuracy(scores, np.arange(3.0))
    assert metrics.accuracy(scores, np.asarray([0, 2**32 + 1, -1])) == pytest.approx(1 / 3)  # 2^32 + 1 is no class 1
