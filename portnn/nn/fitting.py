"""Parameters and state that somebody put into a network: brought into the form of its architecture, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portnn import tree
from portnn._typing import Array, DType, Shape, Tree
from portnn.backend import Backend, as_host
from portnn.errors import ShapeError
from portnn.nn.layer import Layer
from portnn.random import ShapeStream

__all__ = ["Settled", "fits", "fitted", "shapes_of"]


def shapes_of(layer: Layer, input_shape: Shape) -> dict[str, Tree]:
    """The trees ``params`` and ``state`` of a layer, with a list in the place of each array: its shape."""
    params, state, _ = layer.init(ShapeStream(), input_shape)
    return tree.map(lambda leaf: list(leaf.shape), {"params": params, "state": state})  # type: ignore[no-any-return]


def fits(shapes: Tree, given: Tree, backend: Backend, dtype: DType) -> bool:
    """Whether `fitted` would find nothing to do: a quick look."""
    if type(shapes) is dict:
        if type(given) is not dict or given.keys() != shapes.keys():
            return False
        return all([fits(shapes[key], given[key], backend, dtype) for key in shapes])
    if type(shapes) is tuple:
        if type(given) is not tuple or len(given) != len(shapes):
            return False
        return all([fits(*pair, backend, dtype) for pair in zip(shapes, given, strict=True)])
    return bool(backend.owns(given) and given.dtype == dtype and list(given.shape) == shapes)


class Settled:
    """Trees that fit, which a glance tells from others: a tuple cannot change, and of a dict every entry is looked at.

    Parameters
    ----------
    layer : Layer
        Which they fit.
    params, state : tree of arrays
    """

    def __init__(self, layer: Layer, params: Tree, state: Tree) -> None:
        self.layer = layer
        self._params, self._state = params, state
        self._dicts: list[tuple[dict[str, Any], int]] = []
        self._arrays: list[tuple[dict[Any, Any], Any, Array, Shape, DType]] = []
        for part in (params, state):
            self._note(part)

    def _note(self, part: Tree) -> None:
        if type(part) is dict:
            self._dicts.append((part, len(part)))
        for place, key, value in _entries(part):
            if isinstance(value, dict | tuple):
                self._note(value)
            else:
                self._arrays.append((place, key, value, value.shape, value.dtype))

    def are(self, params: Tree, state: Tree) -> bool:
        """Whether some trees are these ones, with the same arrays in them, of which some can change their shape."""
        if params is not self._params or state is not self._state:
            return False
        for place, key, array, shape, dtype in self._arrays:
            if array.shape != shape or array.dtype != dtype or place.get(key) is not array:
                return False
        return all([len(place) == count for place, count in self._dicts])


def _entries(part: Tree) -> list[tuple[dict[Any, Any], Any, Any]]:
    """Of a dict; of a tuple, or of an array alone, as if it stood in a dict, which nobody changes."""
    place = part if type(part) is dict else dict(enumerate(part if type(part) is tuple else (part,)))
    return [(place, key, value) for key, value in place.items()]


def fitted(shapes: Tree, given: Tree, path: str, backend: Backend, dtype: str) -> Tree:
    """The given tree, if it has these shapes and this dtype on this backend; else one that has, made from it.

    Arrays of another dtype, library or device are converted, lists become tuples.

    Raises
    ------
    ShapeError, DataError
        If the structure or a shape is another one, or a leaf no array of numbers; the sentence names its path.
    """
    if isinstance(shapes, dict):
        if not isinstance(given, Mapping) or given.keys() != shapes.keys():
            raise ShapeError(f"{path} is {_described(given)}; the architecture has a dict with keys {sorted(shapes)}")
        items = {key: fitted(shapes[key], given[key], f"{path}.{key}", backend, dtype) for key in shapes}
        same = type(given) is dict and all(items[key] is given[key] for key in shapes)
        return given if same else items
    if isinstance(shapes, tuple):
        if not isinstance(given, tuple | list) or len(given) != len(shapes):
            raise ShapeError(f"{path} is {_described(given)}; the architecture has a tuple of {len(shapes)}")
        parts = [
            fitted(shape, part, f"{path}.{i}", backend, dtype)
            for i, (shape, part) in enumerate(zip(shapes, given, strict=True))
        ]
        same = type(given) is tuple and all(new is old for new, old in zip(parts, given, strict=True))
        return given if same else tuple(parts)
    if not (backend.owns(given) and given.dtype == backend.dtype(dtype)):
        if isinstance(given, dict | tuple):
            raise ShapeError(f"{path} is {_described(given)}; the architecture has an array of shape {tuple(shapes)}")
        # Copied: what was given may be somebody else's, and steps overwrite parameters.
        given = backend.copy(backend.asarray(as_host(given, path), dtype))
    if list(given.shape) != shapes:
        raise ShapeError(f"{path} has shape {tuple(given.shape)}; the architecture needs {tuple(shapes)}")
    return given


def _described(given: Any) -> str:
    if isinstance(given, Mapping):
        return f"a dict with keys {sorted(map(str, given))}"
    if isinstance(given, tuple | list):
        return f"a {type(given).__name__} of {len(given)}"
    return f"an object of type {type(given).__name__}"
