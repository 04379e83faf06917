"""The affine map, and the product of matrices that it is made of."""

from portnn._typing import Array, Backward
from portnn.functional.sums import sum_over
from portnn.kernels import array_function, differentiable

__all__ = ["affine", "matmul"]


@array_function(shapes="... n k, ... k m -> ... n m")
def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` of matrices, or of stacks of them.

    In a layer it has one advantage over the operator: a backend that records training steps, and whose operator cannot
    be recorded, may have a twin.
    """
    return a @ b


@differentiable(shapes="n k, k m, m -> n m", input_grad=True)
def affine(x: Array, w: Array, b: Array) -> tuple[Array, Backward]:
    """The affine map of every row: ``y = x @ w + b``.

    Parameters
    ----------
    x : array, shape (n, k)
    w : array, shape (k, m), dtype of x
    b : array, shape (m,), dtype of x

    Returns
    -------
    y : array, shape (n, m)
    backward : callable
        ``backward(dy, input_grad=True) -> (dx, dw, db)``; ``dx`` is None, and its matrix product is saved,
        where ``input_grad`` is False. With ``dy`` of shape (n, m):
        ``dx = dy @ w.T``, ``dw = x.T @ dy``, ``db = sum of dy over n``.

    Examples
    --------
    >>> import numpy as np
    >>> y, backward = affine(np.asarray([[2., -1., 1.]]), np.asarray([[2., 0.], [1., 1.], [0., 4.]]), np.zeros(2))
    >>> y
    array([[3., 3.]])
    >>> dx, dw, db = backward(np.asarray([[2., 1.]]))
    >>> dx
    array([[4., 3., 4.]])
    """
    y = matmul(x, w) + b

    def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Array, Array]:
        dx = matmul(dy, w.T) if input_grad else None
        return dx, matmul(x.T, dy), sum_over(dy, 0)

    return y, backward
