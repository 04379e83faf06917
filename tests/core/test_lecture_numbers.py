"""Examples that the lectures compute by hand."""

import numpy as np
from helpers import get, put
from numpy.testing import assert_allclose

from portnn import functional

X = np.asarray([[2.0, -1.0, 1.0]])
W = np.asarray([[2.0, 0.0], [1.0, 1.0], [0.0, 4.0]])


def gradients(backend, loss, target):
    """dX and dW of a loss of X @ W."""
    x, w, b, t, one = put(backend, (X, W, np.zeros(2), np.asarray(target), np.ones(1)), "float32")
    y, affine_backward = functional.affine(x, w, b)
    _, loss_backward = loss(y, t)
    dx, dw, _ = affine_backward(loss_backward(one))
    return get(backend, (dx, dw))


def test_half_squared_error(backend):
    dx, dw = gradients(backend, functional.half_squared_error, [[1.0, 2.0]])
    assert_allclose(dx, [[4, 3, 4]])
    assert_allclose(dw, [[4, 2], [-2, -1], [2, 1]])


def test_softmax_cross_entropy(backend):
    dx, dw = gradients(backend, functional.softmax_cross_entropy, [[1.0, 0.0]])
    assert_allclose(dx, [[-1, 0, 2]], atol=1e-6)
    assert_allclose(dw, [[-1, 1], [0.5, -0.5], [-0.5, 0.5]], atol=1e-6)


def test_bias_gradient(backend):
    x, w, b, dy = put(backend, (np.ones((3, 1)), np.ones((1, 2)), np.zeros(2), [[1.0, 0], [0, -1], [1, 1]]), "float32")
    _, backward = functional.affine(x, w, b)
    _, _, db = backward(dy)
    assert get(backend, db).tolist() == [2, 0]


def test_softmax_backward_is_the_full_jacobian(backend):
    y, backward = functional.softmax(put(backend, [[0.3, -1.2, 0.5]], "float32"))
    p = get(backend, y)[0]
    jacobian = np.diag(p) - np.outer(p, p)
    rows = [get(backend, backward(put(backend, [row], "float32")))[0] for row in np.eye(3)]
    assert_allclose(rows, jacobian, rtol=1e-5, atol=1e-7)
