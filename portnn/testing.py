"""What the suite asks of every layer, twin and backend, for those that other people write.

Each check raises AssertionError or GradientError in a sentence that says what does not hold, and else
returns nothing: one line of a test of your own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from portnn import kernels, losses, nn, optim, tree
from portnn._typing import Array, Shape, Tree
from portnn.backend import Backend, get_backend
from portnn.gradcheck import gradcheck_layer
from portnn.kernels import Dispatched, Kernel
from portnn.random import ShapeStream, Stream

__all__ = ["check_backend", "check_layer", "check_twin"]

#: Relative tolerance for results that should agree to rounding.
_TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def check_layer(
    layer: nn.Layer, input_shape: Shape, *, devices: Iterable[str | Backend] = ("cpu",), rng: int = 0
) -> None:
    """Check that a layer keeps what layers promise (`nn.Layer`), on each of some devices.

    - The output has the declared shape, dtype and device; the gradients those of what they belong to; the new state
      the structure of the old one; and the shapes are the same where nothing is drawn.
    - The gradients, in training mode, are the derivatives, where the device has float64.
    - Backward gives the same twice, leaves what it was given alone, and gives the same gradients of the parameters
      where that of the input is not wanted.
    - ``apply`` is forward at inference, and gives the examples of a batch what it gives each of them alone.
    - The results are those on NumPy, to rounding.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int
        Of one example, without the batch axis.
    devices : iterable of str or Backend, default ("cpu",)
    rng : int, default 0
        Seed of parameters, of four examples (standard normal, kept away from 0 by 0.1), and of what the layer draws.

    Examples
    --------
    >>> from portnn import nn
    >>> check_layer(nn.Sequential([nn.Affine(8), nn.Dropout(0.5), nn.Tanh()]), (4,))
    """
    for device in devices:
        backend = get_backend(device)
        for dtype in _floats(backend):
            with backend.context():
                _check_layer_here(layer, input_shape, backend, dtype, rng)
        if backend.supports("float64"):
            gradcheck_layer(layer, input_shape, device=backend, rng=rng)


def _check_layer_here(layer: nn.Layer, input_shape: Shape, backend: Backend, dtype: str, seed: int) -> None:
    stream, what = Stream(seed), f"{layer} on {backend} in {dtype}"
    params, state, output_shape = layer.init(stream, input_shape)
    blank = layer.init(ShapeStream(), input_shape)
    _hold(blank[2] == output_shape and _shapes(blank[:2]) == _shapes((params, state)), f"{what}: init draws its shapes")
    x = stream.child("x").normal((4, *input_shape))
    host = (params, state, x + 0.1 * np.sign(x))
    params, state, x = tree.map(lambda a: backend.asarray(a.astype(dtype)), host)
    y, new_state, backward = layer.forward(params, state, x, train=True, rng=stream)
    _hold(tuple(y.shape) == (4, *output_shape), f"{what} makes {tuple(y.shape)}, and declares {(4, *output_shape)}")
    before = _host(backend, (params, state, x, y))
    dx, grads = backward(y)
    for name, made, like in (("gradient of x", dx, x), ("gradients", grads, params), ("new state", new_state, state)):
        _hold(_shapes(made) == _shapes(like), f"{what}: the {name} has shapes {_shapes(made)}, not {_shapes(like)}")
    for path, leaf in tree.flatten((y, dx, grads, new_state)).items():
        _hold(backend.owns(leaf) and leaf.dtype == backend.dtype(dtype), f"{what}: result {path} is of another kind")
    _agree(_host(backend, backward(y)), _host(backend, (dx, grads)), 0.0, f"{what}: backward, called again,")
    _agree(_host(backend, backward(y, input_grad=False)[1]), _host(backend, grads), 0.0, f"{what}: without dx,")
    _agree(_host(backend, (params, state, x, y)), before, 0.0, f"{what}: after backward, what it was given")
    whole = _host(backend, layer.apply(params, state, x))
    _agree(_host(backend, layer.forward(params, state, x)[0]), whole, 0.0, f"{what}: forward at inference")
    alone = [_host(backend, layer.apply(params, state, x[i : i + 1, ...])) for i in range(4)]
    _agree(np.concatenate(alone), whole, _TOLERANCE[dtype], f"{what}: one by one, apply")
    params, state, x = tree.map(lambda a: a.astype(dtype), host)
    there, _, back = layer.forward(params, state, x, train=True, rng=stream)
    _agree(_host(backend, (y, dx, grads)), (there, *back(there)), _TOLERANCE[dtype], f"{what}: against NumPy,")


def check_twin(function: Dispatched[..., Any], *args: Array, device: str | Backend = "cpu", **options: Any) -> None:
    """Check that what a backend computes for a function of `portnn.kernels.registry` is what the portable form does.

    Value and pullback are compared in each float dtype of the device: for the arguments as they are, for a first one
    with gaps between its rows, and for a ``dy`` of zeros. A twin that takes none of that, by its guard or because it
    returns ``NotImplemented``, is an error: nothing would be compared.

    Parameters
    ----------
    function : callable
        Such as ``functional.relu``, differentiable.
    *args : arrays
        Host arrays; floats are cast to the dtype of the comparison, all others stay.
    device : str or Backend, default "cpu"
    **options
        Keywords of the call.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import functional
    >>> check_twin(functional.affine, np.ones((5, 4)), np.ones((4, 3)), np.ones(3))
    """
    backend, name = get_backend(device), function.__name__
    twin, taken = backend.kernels().get(name), False
    for dtype in _floats(backend):
        here = [_put(backend, a, dtype) for a in args]
        for first in _layouts(backend, here[0]):
            with backend.context():
                taken = taken or (twin is not None and _takes(twin, function, (first, *here[1:]), options))
                y, backward = function(first, *here[1:], **options)
                with kernels.portable():
                    expected, expected_backward = function(first, *here[1:], **options)
                drawn = Stream(0).normal(tuple(y.shape))
                for slopes in (drawn, 0.0 * drawn):
                    dy = backend.asarray(slopes.astype(dtype))
                    found, right = (y, backward(dy)), (expected, expected_backward(dy))
                    what = f"the twin of {name} on {backend} in {dtype}, for {[tuple(a.shape) for a in here]},"
                    _agree(_host(backend, found), _host(backend, right), _TOLERANCE[dtype], what)

    _hold(twin is None or taken, f"the twin of {name} on {backend} takes none of {[np.shape(a) for a in args]}")


def _takes(twin: Kernel, function: Dispatched[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    arrays = args[: len(function.shapes.names)]
    if function.options is not None:
        args, options = arrays, dict(function.options(*args, **options))
    return twin.accepts(arrays) and twin.function(*args, **options) is not NotImplemented


def check_backend(device: str | Backend) -> None:
    """Check that a backend keeps what backends promise (`portnn.backend.Backend`), and trains as NumPy does.

    Arrays come and go with their values, dtypes and memory of their own; uniform numbers are NumPy's bit for bit; and
    the losses of 20 steps of a small network with dropout are those on NumPy, to 1e-4 (float32).

    Examples
    --------
    >>> check_backend("cpu")
    """
    backend = get_backend(device)
    _hold(get_backend(str(backend)) == backend, f"get_backend({str(backend)!r}) is another backend")
    for dtype in ("uint8", "int32", *_floats(backend)):
        x = np.arange(6).reshape(2, 3).astype(dtype)
        array = backend.asarray(x)
        _hold(backend.owns(array) and type(backend).from_array(array) == backend, f"{backend} does not own its {dtype}")
        _hold(array.dtype == backend.dtype(dtype), f"{backend} makes {array.dtype} of {dtype}")
        back = backend.to_numpy(array)
        _hold(type(back) is np.ndarray and back.dtype == x.dtype, f"{backend} gives {back!r} back")
        _agree(back, x, 0.0, f"{backend}: what comes back of {dtype}")
        copied = backend.to_numpy(backend.copy(array))
        _agree(copied, x, 0.0, f"{backend}: a copy of {dtype}")
        _hold(not np.shares_memory(copied, backend.to_numpy(array)), f"{backend}: a copy of {dtype} shares its memory")
        for given in (x, array):
            for wanted in _floats(backend):
                cast = backend.asarray(given, wanted)
                what = f"{backend}: asarray of {dtype} with dtype {wanted}"
                _hold(backend.owns(cast) and cast.dtype == backend.dtype(wanted), f"{what} makes {cast.dtype}")
                _agree(backend.to_numpy(cast), x.astype(wanted), 0.0, what)
    for dtype in _floats(backend):
        like, stream = backend.asarray(np.zeros((7, 5), dtype)), Stream(3).child("check")
        real: Any = dtype
        numbers = backend.to_numpy(stream.uniform_like(like))
        _agree(numbers, stream.generator().random((7, 5), dtype=real), 0.0, f"{backend}: uniform numbers of {dtype}")
    _hold(backend.to_floats([]) == [], f"{backend}: to_floats of nothing")
    _agree(_curve(backend), _curve(get_backend("cpu")), 1e-4, f"{backend}: the losses of 20 steps")


def _curve(backend: Backend) -> Any:
    layer = nn.Sequential([nn.Affine(16), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.2), nn.Affine(3)])
    net = nn.Network(layer, 4, device=backend, rng=0)
    loss, rule, found = losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.02), []
    x = backend.asarray(Stream(1).normal((32, 4)).astype("float32"))
    labels = backend.asarray((np.arange(32) % 3).astype("int32"))
    with backend.context():
        memory = rule.init(net.params)
        for number in range(20):
            noise = Stream(2).at(number)
            y, net.state, backward = net.layer.forward(net.params, net.state, x, train=True, rng=noise)
            value, slopes = loss(y, labels)
            net.params, memory = rule.step(net.params, backward(slopes())[1], memory)
            found.append(value)
        return np.asarray(backend.to_floats(found))


def _floats(backend: Backend) -> list[str]:
    return [dtype for dtype in ("float32", "float64") if backend.supports(dtype)]


def _put(backend: Backend, a: Any, dtype: str) -> Array:
    host = np.asarray(a)
    return backend.asarray(host.astype(dtype) if host.dtype.kind == "f" else host)


def _layouts(backend: Backend, first: Array) -> Iterator[Array]:
    yield first
    if first.ndim:
        wide = backend.xp.concat([first, first], axis=first.ndim - 1)
        yield wide[..., : first.shape[-1]]


def _host(backend: Backend, values: Tree) -> Tree:
    return tree.map(lambda a: np.array(backend.to_numpy(a)), values)


def _shapes(values: Tree) -> dict[str, Shape]:
    return {path: tuple(leaf.shape) for path, leaf in tree.flatten(values).items()}


def _hold(right: bool, sentence: str) -> None:
    if not right:
        raise AssertionError(sentence)


def _agree(actual: Tree, expected: Tree, tolerance: float, what: str) -> None:
    """Raise AssertionError unless two host trees agree; not a number agrees with not a number."""
    wanted = tree.flatten(expected)
    for path, a in tree.flatten(actual).items():
        e = wanted[path]
        scale = float(np.abs(e).max(initial=1.0, where=np.isfinite(e)))
        if a.shape != e.shape or not np.allclose(a, e, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            apart = f"by {np.nanmax(np.abs(a - e)):.3g}" if a.shape == e.shape else f"{a.shape} against {e.shape}"
            raise AssertionError(f"{what} differs{f' in {path}' if path else ''}: {apart}")
