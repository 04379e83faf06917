"""`Predicting`: what a network does with examples at inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from portnn._typing import Array, DType, Shape, Tree
from portnn.backend import Backend, backend_class_of, get_backend
from portnn.checks import check_batch_size
from portnn.door import check_finite, check_rows, enter, memory_named
from portnn.forward import Forward
from portnn.functional import as_float
from portnn.nn.layer import Layer
from portnn.nn.trees import Trees
from portnn.scale import TrainedOn, warn_of_other_scale

__all__ = ["Predicting"]


class Predicting(ABC):
    """A base of `Network`, whose attributes it has."""

    layer: Layer
    input_shape: Shape
    backend: Backend
    dtype: str
    trees: Trees
    trained_on: TrainedOn | None

    @abstractmethod
    def settle(self) -> None:
        """Bring what was put into ``params`` and ``state`` into the form of the architecture."""

    @property
    def forward(self) -> Forward:
        """What computes the outputs for a batch on the device of the network, ``forward(params, state, x)``."""
        parts = self.layer, self.backend, self.dtype
        if self._compiled is None or self._compiled[0] != parts:
            self._compiled = parts, self.backend.forward(_applied(self.layer, self.backend.dtype(self.dtype)))
        made: Forward = self._compiled[1]
        return made

    #: `forward`, behind what it was made of.
    _compiled: Any = None

    def __call__(self, x: Array) -> Array:
        """The outputs for a batch, at inference: an array of the network's backend, shape ``(n, *output_shape)``.

        ``x``, of shape ``(n, *input_shape)``, may be of any library; uint8 is read as pixels (`functional.as_float`).
        Values are not looked at, and nothing is said of another scale than in training; `predict` does that.
        """
        with self.backend.context():
            x = enter(x, self.backend, self.dtype)
            check_rows(x, self.input_shape)
            with self.trees.reading() as trees:
                return self.forward(*trees, x)

    def predict(self, x: Array, batch_size: int = 1024) -> Array:
        """The outputs for any number of examples: batch by batch, checked, in the library and on the device of ``x``.

        What is no array, such as a list or a table, is answered in NumPy. Warns if the network was trained on bytes and
        ``x`` holds other numbers of 0 .. 255, or the other way round.

        Raises
        ------
        ShapeError, DataError
            If ``x`` has another shape than ``(n, *input_shape)``, is empty, or holds NaN or infinity; or if parameters
            that were put into the network do not fit it.
        """
        if (y := self._at_once(x, batch_size)) is not None:
            return y
        with self.backend.context():
            self.settle()
            data = enter(x, self.backend, self.dtype)
            known = backend_class_of(type(x))
            home = get_backend("cpu") if known is None else known.from_array(x)
            check_rows(data, self.input_shape)
            check_finite(data, self.backend)
            warn_of_other_scale(data, self.trained_on, "x")
            n = data.shape[0]
            size = check_batch_size(batch_size, n)
            with memory_named(self.backend, size), self.trees.reading() as trees:
                y = self.forward.many(*trees, data, size)
            return y if home == self.backend else home.asarray(self.backend.to_numpy(y))

    def _at_once(self, x: Any, batch_size: Any) -> Array | None:
        """What `predict` gives for a small batch of a form that is well known; None where it has to look closer."""
        seen, trained_on = self.trees.seen, self.trained_on
        if seen is None or type(batch_size) is not int:
            return None
        if trained_on not in (None, "numbers") and not (
            self.backend.owns(x) and (x.dtype == self.backend.xp.uint8) == (trained_on == "bytes")
        ):
            return None  # the scale may be another one
        turn = self.trees.enter_turn()  # a block of `turn` or `reading` would take a tenth of the whole
        try:
            trees = self.trees.now
            return self.forward.at_once(trees, seen, x, batch_size) if seen.are(*trees) else None
        finally:
            turn.release()


def _applied(layer: Layer, dtype: DType) -> Callable[[Tree, Tree, Array], Array]:
    def apply(params: Tree, state: Tree, x: Array) -> Array:
        return layer.apply(params, state, as_float(x, dtype))

    return apply
