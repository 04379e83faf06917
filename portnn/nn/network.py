"""`Network`: a layer bound to its parameters and a backend, for people."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from portnn import tree
from portnn._typing import Array, Shape, Tree
from portnn.backend import Backend, get_backend
from portnn.errors import BackendError, ConfigError, ModelFileError, PortnnError, ShapeError
from portnn.nn.config import from_config, to_config
from portnn.nn.fitting import Settled, fits, fitted, shapes_of
from portnn.nn.layer import Layer
from portnn.nn.predicting import Predicting
from portnn.nn.trees import Trees
from portnn.random import ShapeStream, Stream, as_stream
from portnn.scale import TRAINED_ON, TrainedOn
from portnn.storage import local, read_tensors, rebuild, write_tensors

__all__ = ["Network"]

_FORMAT = "portnn-network"
_FORMAT_VERSION = "1"


class Network(Predicting):
    """A layer, usually a `Sequential`, with its parameters and state on a device.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int, or int
        Shape of one example, without the batch axis; an int means ``(int,)``.
    device : str or Backend, default "cpu"
        See `portnn.get_backend`.
    rng : int, Stream or None, default None
        Source of the first parameters, which are equal bit for bit on every backend for the same seed. None
        gives others every time.
    dtype : {"float32", "float64"}, default "float32"

    Attributes
    ----------
    params, state : tree of arrays
        What stands here is trained and used. May be read, kept and replaced at any time, also from another thread while
        a training goes on: it never overwrites what somebody has got here, or has put here. May be replaced whole or
        array by array; see `settle`.
    output_shape : tuple of int
    backend : Backend
    trees : Trees
        The same, for what reads both at once or overwrites them.
    trained_on : {"bytes", "unscaled", "numbers"} or None
        What a `Trainer` showed it: uint8; numbers >= 0 beyond 1, such as 0 .. 255; others. None before. Saved with it.

    Raises
    ------
    ShapeError
        If the layers do not fit together.
    BackendError
        If the device cannot be used, or its precision is bf16 and the dtype float64.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import nn
    >>> net = nn.Network(nn.Sequential([nn.Affine(3), nn.ReLU()]), 2, rng=0)
    >>> net(np.zeros((5, 2), dtype=np.float32)).shape
    (5, 3)
    """

    trained_on: TrainedOn | None = None

    def __init__(
        self,
        layer: Layer,
        input_shape: Shape | int,
        *,
        device: str | Backend = "cpu",
        rng: Stream | int | None = None,
        dtype: str = "float32",
    ) -> None:
        if not isinstance(layer, Layer):
            raise ConfigError(f"a network is made of a layer, not of {layer!r}")
        self.layer = layer
        self.input_shape = _as_shape(input_shape)
        self.backend = get_backend(device)
        self.dtype = _checked_dtype(dtype)
        _check_precision(self.backend, dtype)
        self.rng = as_stream(rng)
        params, state, self.output_shape = layer.init(self.rng.child("init"), self.input_shape)
        self.trees = Trees(self.to_device(params), self.to_device(state))

    @property
    def params(self) -> Tree:
        return self.trees.give()[0]

    @params.setter
    def params(self, params: Tree) -> None:
        with self.trees.turn():  # the state is that of now
            self.trees.take(params, self.state)

    @property
    def state(self) -> Tree:
        return self.trees.give()[1]

    @state.setter
    def state(self, state: Tree) -> None:
        with self.trees.turn():
            self.trees.take(self.params, state)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name != "_compiled"}
        return kept | {"trees": self.trees.give()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Whoever made the arrays may have them still, as a memory map, or the network that was copied.
        rest = dict(state)
        # Version 0.1 had both as attributes.
        params, layers_state = rest.pop("trees") if "trees" in rest else (rest.pop("params"), rest.pop("state"))
        vars(self).update(rest, trees=Trees(params, layers_state, given=True))

    def settle(self) -> None:
        """Bring what was put into ``params`` and ``state`` into the form of the architecture.

        Arrays of another dtype, library or device are converted, and a list becomes a tuple. `predict` and `save` do
        this, and so does a `portnn.Trainer` before it trains.

        Raises
        ------
        ShapeError, DataError
            If the structure or a shape is another one, or something is no array of numbers; nothing is changed then.
        """
        with self.trees.reading() as trees:
            seen = self.trees.seen
            if seen is not None and seen.layer is self.layer and seen.are(*trees):
                return
        if self._shapes is None or self._shapes[0] is not self.layer:
            self._shapes = self.layer, shapes_of(self.layer, self.input_shape)
        shapes = self._shapes[1]
        with self.backend.context(), self.trees.turn():
            with self.trees.reading() as (params, state):
                given = {"params": params, "state": state}
                if fits(shapes, given, self.backend, self.backend.dtype(self.dtype)):
                    self.trees.seen = Settled(self.layer, params, state)
                    return
                found = {name: fitted(shapes[name], t, name, self.backend, self.dtype) for name, t in given.items()}
            self.trees.take(found["params"], found["state"])

    #: The shapes of the arrays of params and state, and the architecture that they are of.
    _shapes: Any = None

    def to_device(self, host: Tree) -> Tree:
        """A tree of host arrays as arrays of the network's backend and dtype, in memory of their own."""
        # Rounded on the host, so that every backend gets the same bits.
        return tree.map(lambda a: self.backend.asarray(a.astype(self.dtype)), host)

    def __repr__(self) -> str:
        return (
            f"<Network {self.input_shape} -> {self.output_shape}, {self.parameter_count:,} parameters, {self.backend}>"
        )

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        with self.trees.reading() as (params, _):
            return sum(math.prod(leaf.shape) for leaf in tree.leaves(params))

    def summary(self) -> str:
        """A table of the layers with the shape of their outputs and their numbers of parameters."""
        rows = [("layer", "output", "parameters"), ("input", str(self.input_shape), "")]
        rows += _summarise(self.layer, self.input_shape, "")[0]
        rows.append(("total", str(self.output_shape), f"{self.parameter_count:,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)

    def to(self, device: str | Backend) -> Network:
        """A copy of the network on another device."""
        backend = get_backend(device)
        self.settle()
        with self.trees.reading() as trees:
            tensors = self._tensors(*trees)
            net = self._rebuilt(self.layer, self.input_shape, backend, self.dtype, self.rng, tensors)
        net.trained_on = self.trained_on
        return net

    def _tensors(self, params: Tree, state: Tree) -> dict[str, Array]:
        """Host arrays, which may share memory with the trees."""
        return tree.flatten(tree.map(self.backend.to_numpy, {"params": params, "state": state}))

    @classmethod
    def _rebuilt(
        cls, layer: Layer, input_shape: Shape, backend: Backend, dtype: str, rng: Stream, tensors: dict[str, Array]
    ) -> Network:
        _check_precision(backend, dtype)
        params, state, output_shape = layer.init(ShapeStream(), input_shape)
        like = {"params": params, "state": state}
        host = rebuild(like, tensors, dtype)
        net = cls.__new__(cls)
        net.layer, net.input_shape, net.output_shape = layer, input_shape, output_shape
        net.backend, net.dtype, net.rng = backend, dtype, rng
        net.trees = Trees(net.to_device(host["params"]), net.to_device(host["state"]))
        return net

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, state and architecture as one safetensors file, atomically.

        The arrays are called ``params.<path>`` and ``state.<path>``, and can be read by any program that reads
        safetensors. The metadata has a hash of the whole content, which `load` compares. Called from another thread
        while a training goes on, it writes what is there between two steps.

        Raises
        ------
        ModelFileError
            If the file cannot be written.
        ConfigError
            If a layer has a field that cannot be described.
        ShapeError, DataError
            If parameters that were put into the network do not fit it; nothing is written then.
        """
        self.settle()
        with self.trees.reading() as trees:
            write_tensors(path, self._tensors(*trees), self._metadata())

    def to_tensors(self) -> tuple[dict[str, Array], dict[str, str]]:
        """What `save` writes: host arrays by name, in memory of their own, and the description of the network.

        Raises ConfigError if a layer has a field that cannot be described.
        """
        self.settle()
        with self.trees.reading() as trees:
            return self._tensors(*tree.map(self.backend.copy, trees)), self._metadata()

    def _metadata(self) -> dict[str, str]:
        from importlib.metadata import version

        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "portnn": version("portnn"),
            "layer": json.dumps(to_config(self.layer)),
            "input_shape": json.dumps(self.input_shape),
            "dtype": self.dtype,
            "rng": json.dumps([self.rng.seed, self.rng.step, self.rng.path]),
            **({} if self.trained_on is None else {"trained_on": self.trained_on}),
        }

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: str | Backend = "cpu", classes: Iterable[type] = ()
    ) -> Network:
        """Read what `save` wrote, onto any device.

        Parameters
        ----------
        path : path
            Of a checkpoint of `Trainer.save`, the network is read.
        device : str or Backend, default "cpu"
        classes : iterable of type
            Layer and initializer classes of your own that the file may name. No other code is run.

        Raises
        ------
        ModelFileError
            If the file is missing, truncated, damaged, not a network of portnn, or does not fit its own architecture.
        """
        backend = get_backend(device)
        tensors, metadata = cls.read(path)
        name = local(path)
        if "training" in metadata:
            tensors = {key: t for key, t in tensors.items() if key.partition(".")[0] in ("params", "state")}
        try:
            layer = from_config(json.loads(metadata["layer"]), classes)
            if not isinstance(layer, Layer):
                raise ConfigError(f"it describes {layer!r}, which is no layer")
            input_shape = _as_shape(json.loads(metadata["input_shape"]))
            seed, step, path_of_rng = json.loads(metadata["rng"])
            rng = Stream(seed, step, tuple(path_of_rng))
            net = cls._rebuilt(layer, input_shape, backend, _checked_dtype(metadata["dtype"]), rng, tensors)
            net.trained_on = cls.trained_on_in(metadata)
            return net
        except BackendError:  # not the fault of the file
            raise
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError, PortnnError) as error:
            raise ModelFileError(f"{name} does not fit its own description: {error}") from None

    @staticmethod
    def trained_on_in(metadata: dict[str, str]) -> TrainedOn | None:
        """What a file says of `trained_on`; None where it says nothing. Raises ConfigError if it says something odd."""
        said = metadata.get("trained_on")
        if said is None:
            return None
        for known in TRAINED_ON:
            if said == known:
                return known
        raise ConfigError(f"trained_on is one of {', '.join(TRAINED_ON)}, not {said!r}")

    @staticmethod
    def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
        """Host arrays and metadata of a file that `save` or `Trainer.save` wrote; errors as in `load`."""
        tensors, metadata = read_tensors(path)
        name = local(path)
        if metadata.get("format") != _FORMAT:
            raise ModelFileError(f"{name} is a safetensors file, but holds no network of portnn")
        if metadata.get("format_version") != _FORMAT_VERSION:
            raise ModelFileError(
                f"{name} has format version {metadata.get('format_version')}; this portnn reads {_FORMAT_VERSION}"
            )
        return tensors, metadata


def _as_shape(shape: Any) -> Shape:
    axes = (shape,) if isinstance(shape, Integral) else tuple(shape)
    if not all(isinstance(n, Integral) and int(n) >= 1 for n in axes):
        raise ShapeError(f"input_shape must hold positive ints, not {shape!r}")
    return tuple(int(n) for n in axes)


def _checked_dtype(dtype: str) -> str:
    if dtype not in ("float32", "float64"):
        raise ConfigError(f'dtype must be "float32" or "float64", not {dtype!r}')
    return dtype


def _check_precision(backend: Backend, dtype: str) -> None:
    if backend.precision == "bf16" and dtype != "float32":
        raise BackendError(
            f"precision bf16 is for networks of dtype float32, not {dtype}: backend {backend} multiplies in bfloat16; "
            "use precision float32"
        )


def _summarise(layer: Layer, shape: Shape, path: str) -> tuple[list[tuple[str, str, str]], Shape]:
    if layer.children():
        rows = []
        for i, child in enumerate(layer.children()):
            below, shape = _summarise(child, shape, f"{path}{i}.")
            rows += below
        return rows, shape
    params, _, shape = layer.init(ShapeStream(), shape)
    count = sum(math.prod(leaf.shape) for leaf in tree.leaves(params))
    return [(f"{path[:-1]} {type(layer).__name__}".strip(), str(shape), f"{count:,}")], shape
