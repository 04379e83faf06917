"""Compare analytic gradients with numerical ones, in float64: of a function, of a layer, of a whole network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from array_api_compat import array_namespace, is_array_api_obj

from portnn import tree
from portnn._typing import Array, Shape, Tree
from portnn.backend import Backend, backend_of, get_backend
from portnn.checks import check_count, check_number
from portnn.door import check_lengths, check_rows, check_target, enter, enter_target
from portnn.errors import GradientError, KinkError
from portnn.functional import as_float
from portnn.numerical import partial
from portnn.random import Stream, as_stream

if TYPE_CHECKING:
    from portnn.losses import Loss
    from portnn.nn import Layer, Network

__all__ = ["GradientReport", "ParameterCheck", "gradcheck", "gradcheck_layer", "gradcheck_network"]


def gradcheck(
    function: Callable[..., tuple[Array, Callable[[Array], Tree]]],
    *args: Tree,
    rng: Stream | int = 0,
    h: float = 1e-6,
    rtol: float = 1e-6,
) -> None:
    """Raise unless the pullback of a function agrees with its central difference.

    For a random covector v (on the value), and for each array among the arguments a random direction u in which it
    alone is moved, the check is ``<v, f(a + h u) - f(a - h u)> / 2h == <backward(v), u>``: two evaluations for each,
    whatever their shapes.

    Parameters
    ----------
    function : callable
        ``function(*args) -> (y, backward)``; ``backward(dy)`` returns the gradient of the one argument, or a tuple with
        the gradients of all. What is not to be differentiated, such as class numbers, is bound beforehand.
    *args : floating-point arrays, or trees of them
        The point; cast to float64.
    rng : int or Stream, default 0
        Source of direction and covector.
    h : float, default 1e-6
        Step of the central difference; its error is of order h^2 and 1e-16 / h.
    rtol : float, default 1e-6
        Allowed difference, relative to the sum of the magnitudes of the terms of the derivative, for each array by
        itself: a large gradient of one does not hide the wrong one of another. What rounding of the value can make of
        the central difference is allowed on top.

    Raises
    ------
    GradientError
        If the two differ, or a gradient has another shape or dtype than its argument.
    KinkError
        If the function has a kink, or a jump, within about 10 h of the point along the direction: move the point.
    BackendError
        If the device has no float64.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import functional
    >>> gradcheck(functional.tanh, np.asarray([0.5, -1.0]))
    >>> gradcheck(functional.relu, np.asarray([0.0, -1.0]))
    Traceback (most recent call last):
    portnn.errors.KinkError: the function has a kink at the point, or next to it: check the gradient elsewhere
    """
    rng = as_stream(rng)
    backend = _backend_of_all(args)
    double = backend.dtype("float64")
    point = tree.map(lambda a: array_namespace(a).astype(a, double), args)
    y, backward = function(*point)
    covector = _draw(rng.child("covector"), y, backend)
    returned = backward(covector)
    grads = returned if len(args) > 1 else (returned,)
    tree.map(_check_alike, grads, point)

    leaves, slopes = tree.flatten(point), tree.flatten(grads)
    directions = {path: _direction(rng.child("direction", path), a, backend) for path, a in leaves.items()}

    def moved(step: float, paths: Iterable[str]) -> dict[str, Array]:
        return {path: leaves[path] + step * directions[path] for path in paths}

    def value(places: dict[str, Array]) -> Array:
        return function(*tree.unflatten(point, leaves | places))[0]

    def refuse_kinks(paths: Iterable[str]) -> None:
        _refuse_kinks(y, lambda step: value(moved(step, paths)), h)

    refuse_kinks(leaves)
    rounding = _rounding(y) * _dot(covector, y * 0.0 + 1.0, backend)[1] / h
    for path in leaves:
        ahead, behind = moved(h, [path]), moved(-h, [path])
        # The direction as it came out: the points are rounded.
        direction = (ahead[path] - behind[path]) / (2.0 * h)
        analytic, scale = _dot(slopes[path], direction, backend)
        numeric, numeric_scale = (v / (2.0 * h) for v in _dot(covector, value(ahead) - value(behind), backend))
        # Written so that NaN fails.
        if not abs(analytic - numeric) <= rtol * max(scale, numeric_scale) + rounding:
            refuse_kinks([path])
            raise GradientError(
                f"the analytic derivative is {analytic:.10g}, the numerical one {numeric:.10g}"
                + (f", with respect to {path!r} of the arguments" if len(leaves) > 1 else "")
            )


def gradcheck_layer(
    layer: Layer, input_shape: Shape | int, *, n: int = 4, device: str | Backend = "cpu", rng: Stream | int = 0
) -> None:
    """Check the gradients of a layer, in training mode, with respect to its parameters and its input.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int, or int
    n : int, default 4
        Number of examples; their values are drawn from the standard normal distribution.
    device : str or Backend, default "cpu"
    rng : int or Stream, default 0
        Source of the parameters, the examples, and what the layer draws itself.

    Raises
    ------
    GradientError, KinkError, BackendError
        As `gradcheck`.

    Examples
    --------
    >>> from portnn import nn
    >>> gradcheck_layer(nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(3)]), (4,))
    """
    rng, backend = as_stream(rng), get_backend(device)
    input_shape = (input_shape,) if isinstance(input_shape, int) else input_shape
    params, state, _ = layer.init(rng.child("init"), input_shape)
    x = rng.child("x").normal((n, *input_shape))
    params, state, x = tree.map(lambda a: backend.asarray(a, "float64"), (params, state, x))

    def function(params: Tree, x: Array) -> tuple[Array, Callable[[Array], Tree]]:
        y, _, backward = layer.forward(params, state, x, train=True, rng=rng.child("noise"))

        def pullback(dy: Array) -> Tree:
            dx, grads = backward(dy)
            return grads, dx

        return y, pullback

    gradcheck(function, params, x, rng=rng)


@dataclass(frozen=True)
class ParameterCheck:
    """How the gradient of one parameter compares with the numerical one.

    Attributes
    ----------
    path : str
        Where the parameter is in the tree, such as ``"1.w"``.
    shape : tuple of int
    checked : int
        How many of its entries were compared.
    largest : float
        The largest magnitude among the numerical derivatives.
    difference : float
        The largest difference between an analytic and a numerical derivative.
    allowed : float
        The difference that is allowed.
    """

    path: str
    shape: Shape
    checked: int
    largest: float
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within what is allowed; NaN is not."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class GradientReport:
    """A `ParameterCheck` for each parameter of a network; printed, it is a table."""

    parameters: tuple[ParameterCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all parameters passed."""
        return all(p.passed for p in self.parameters)

    def __str__(self) -> str:
        lines = [f"{'parameter':<16} {'shape':<14} {'checked':>7} {'derivative':>10} {'difference':>10}"]
        lines += [
            f"{p.path:<16} {p.shape!s:<14} {p.checked:>7} {p.largest:>10.2e} {p.difference:>10.2e}  "
            f"{'ok' if p.passed else 'WRONG'}"
            for p in self.parameters
        ]
        return "\n".join(lines)


def gradcheck_network(
    network: Network,
    loss: Loss,
    x: Array,
    y: Array,
    *,
    entries: int = 8,
    rng: Stream | int = 0,
    h: float = 1e-6,
    rtol: float = 1e-5,
) -> GradientReport:
    """Compare the gradient of the loss with its central differences, for some entries of every parameter.

    Parameters
    ----------
    network : Network
        Left as it is: a copy of its parameters is cast to float64. Layers run in training mode.
    loss : Loss
    x, y : arrays, shapes ``(n, *input_shape)`` and what the loss takes
        A few examples; each entry costs two passes of all of them.
    entries : int, default 8
        How many entries of a parameter are compared, drawn at random; all, if it has no more.
    rng : int or Stream, default 0
        Source of the choice, and of what layers draw.
    h : float, default 1e-6
        Step of the central difference, > 0.
    rtol : float, default 1e-5
        Allowed difference, relative to the largest derivative of the parameter. What rounding of the loss can make of
        the difference is allowed on top.

    Returns
    -------
    GradientReport
        It raises nothing where a gradient is wrong: see its ``passed``, or print it.

    Raises
    ------
    BackendError
        If the device has no float64.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import losses, nn
    >>> net = nn.Network(nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Affine(3)]), 4, rng=0)
    >>> report = gradcheck_network(net, losses.SoftmaxCrossEntropy(), np.eye(4), np.arange(4) % 3)
    >>> report.passed
    True
    """
    rng, backend, layer = as_stream(rng), network.backend, network.layer
    check_count("entries", entries)
    check_number("h", h, 0, open_low=True)
    double = backend.dtype("float64")
    params, state = tree.map(lambda a: array_namespace(a).astype(a, double), (network.params, network.state))
    x, y = enter(x, backend, "float64"), enter_target(y, backend, "float64", loss.targets)
    check_rows(x, network.input_shape)
    check_lengths(x, y)
    check_target(y, loss.targets, network.output_shape, backend)
    x = as_float(x, double)

    def run(params: Tree) -> tuple[Array, Callable[[], Tree]]:
        prediction, _, backward = layer.forward(params, state, x, train=True, rng=rng.child("noise"))
        value, loss_backward = loss(prediction, y)
        return value, lambda: backward(loss_backward(), input_grad=False)[1]

    value, gradients = run(params)
    leaves, analytic = tree.flatten(params), tree.flatten(gradients())
    rounding = _rounding(value) / h
    checks = []
    for path, leaf in leaves.items():
        chosen = rng.child("entries", path).permutation(math.prod(leaf.shape))[:entries]

        def loss_with(leaf: Array, path: str = path) -> Array:
            return run(tree.unflatten(params, leaves | {path: leaf}))[0]

        host = backend.to_numpy(analytic[path]).reshape(-1)
        pairs = [(float(host[i]), float(partial(loss_with, leaf, int(i), h))) for i in chosen]
        largest = max((abs(n) for _, n in pairs), default=0.0)
        # A sum keeps NaN, which max may lose.
        difference = max((abs(a - n) for a, n in pairs), key=lambda d: (math.isnan(d), d), default=0.0)
        checks.append(
            ParameterCheck(path, tuple(leaf.shape), len(pairs), largest, difference, rtol * largest + rounding)
        )
    return GradientReport(tuple(checks))


def _backend_of_all(args: tuple[Tree, ...]) -> Backend:
    leaves = tree.leaves(args)
    for leaf in leaves:
        if not is_array_api_obj(leaf) or not array_namespace(leaf).isdtype(leaf.dtype, "real floating"):
            raise GradientError(f"only floating-point arrays can be differentiated, not {type(leaf).__name__}")
    if not leaves:
        raise GradientError("there is no array to differentiate")
    return backend_of(leaves[0])


def _draw(rng: Stream, like: Array, backend: Backend) -> Array:
    """Entries of either sign with magnitudes in [0.5, 1): none is so small that an error along it would hide."""
    sign = 2.0 * (rng.child("sign").uniform(like.shape) < 0.5) - 1.0
    return backend.asarray(sign * rng.uniform(like.shape, 0.5, 1.0))


def _direction(rng: Stream, like: Array, backend: Backend) -> Array:
    """As `_draw`, but longer for large entries: of a step that is too small next to them nothing would be left."""
    xp = array_namespace(like)
    size = 1e-4 * xp.abs(like)
    return _draw(rng, like, backend) * xp.where(size > 1, size, 1.0)


def _check_alike(gradient: Array, argument: Array) -> None:
    if gradient.shape != argument.shape or gradient.dtype != argument.dtype:
        raise GradientError(
            f"the gradient is {gradient.dtype} of shape {tuple(gradient.shape)}, "
            f"its argument {argument.dtype} of shape {tuple(argument.shape)}"
        )


def _dot(a: Array, b: Array, backend: Backend) -> tuple[float, float]:
    """The inner product, and the sum of the magnitudes of its terms."""
    products = backend.to_numpy(a * b)
    return float(products.sum()), float(abs(products).sum())


def _rounding(y: Array) -> float:
    """What rounding may add to or take from an entry of ``y``, a few units in the last place of the largest one."""
    xp = array_namespace(y)
    return 4.0 * 2.2e-16 * (float(xp.max(xp.abs(y))) if math.prod(y.shape) else 0.0)


def _refuse_kinks(y: Array, value: Callable[[float], Array], h: float) -> None:
    """Raise where the slope jumps.

    The difference of the slopes before and after the point grows with the step in proportion where there is a second
    derivative, and stays as it is where there is a kink.
    """
    xp = array_namespace(y)
    if math.prod(y.shape) == 0:
        return
    near, far = (xp.abs(value(step) - 2.0 * y + value(-step)) / step for step in (10.0 * h, 100.0 * h))
    slope = float(xp.max(xp.abs(value(h) - value(-h)))) / (2.0 * h)
    noticeable = near > max(1e-4 * slope, 4.0 * _rounding(y) / (10.0 * h))
    if bool(xp.any(noticeable & (far < 5.0 * near))):
        raise KinkError("the function has a kink at the point, or next to it: check the gradient elsewhere")
