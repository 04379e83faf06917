"""The steps of a training in one compiled loop: XLA goes from one to the next by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from portnn.backend import first_line
from portnn.loop import Compiler, Loop

__all__ = ["JaxLoop"]

#: The most steps of a chunk, and the most numbers of examples in it.
_MOST, _MOST_ROWS = 256, 2**20

_log = logging.getLogger(__name__)


class JaxLoop(Loop):
    """A loop whose number of steps is an argument: one compiled program for chunks of all lengths.

    So the bits of a step do not depend on the chunk in which it is done, as they might with a `scan` for each length.
    """

    def __init__(self, backend: Compiler, steps: Sequence[Callable[..., Any]]) -> None:
        super().__init__(backend, steps)
        self._pure = list(steps)
        self._many = jax.jit(self._all, donate_argnums=0)
        #: Why the steps cannot be put into one program; None as long as they can.
        self.reason: str | None = None
        self._looked = False

    def most(self, size: int) -> int:
        return 1 if self.reason else max(1, min(_MOST, _MOST_ROWS // max(size, 1)))

    def run(
        self,
        carry: tuple[Any, Any, Any],
        data: Any,
        rows: Sequence[Any],
        turns: Sequence[int],
        hyper: Sequence[Mapping[str, Any]],
    ) -> tuple[tuple[Any, Any, Any], Any]:
        if self.reason is None:
            room = self.most(len(rows[0]))
            index, turn = (_filled(np.asarray(values, np.int32), room) for values in (rows, turns))
            args = carry, data, len(rows), index, turn, _stacked(hyper, _float_of(carry), room)
            if self._fits(args):
                carry, losses = self._many(*args)
                if len(rows) > 1:
                    losses.block_until_ready()
                return carry, losses[: len(rows)]
        return super().run(carry, data, rows, turns, hyper)

    def _fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the steps gain as one program; found out before anything is given up."""
        if not self._looked:
            self._looked = True
            try:
                program = str(self._many.trace(*args).jaxpr)
            except TypeError as error:
                self.reason = first_line(error)
                _log.warning("the training steps go one by one, from Python: %s", self.reason)
            else:
                # Within a loop, XLA computes convolutions on the CPU by one thread and without its fast routine:
                # 20 times as long. https://github.com/jax-ml/jax/issues/12868
                if "conv_general_dilated" in program and _platform(args) == "cpu":
                    self.reason = "XLA's convolutions are slow within a loop on the CPU"
                    _log.info("the training steps go one by one, from Python: %s", self.reason)
        return self.reason is None

    def floats(self, chunks: Sequence[Any]) -> list[float]:
        return [float(loss) for losses in jax.device_get(list(chunks)) for loss in losses]

    def _all(self, carry: Any, data: Any, count: Any, rows: Any, turns: Any, hyper: Any) -> Any:
        """The program: ``count`` of the steps in ``rows``; the losses, of all that there is room for."""
        lax, at = jax.lax, jax.tree_util.tree_map

        def step(i: Any, carry: Any) -> tuple[Any, Any]:
            batch, numbers = data.batch(rows[i]), at(lambda a: a[i], hyper)
            branches = [_branch(pure, batch, numbers) for pure in self._pure]
            return branches[0](carry) if len(branches) == 1 else lax.switch(turns[i], branches, carry)

        def body(i: Any, state: Any) -> Any:
            carry, losses = state
            carry, loss = step(i, carry)
            return carry, losses.at[i].set(loss)

        _, loss = jax.eval_shape(step, 0, carry)
        losses = jax.numpy.zeros(rows.shape[0], loss.dtype)
        return lax.fori_loop(0, count, body, (carry, losses))


def _branch(pure: Callable[..., Any], batch: Any, numbers: Any) -> Callable[[Any], tuple[Any, Any]]:
    def branch(carry: Any) -> tuple[Any, Any]:
        params, state, slots, loss = pure(*carry, batch, numbers)
        return (params, state, slots), loss

    return branch


def _filled(values: Any, room: int) -> Any:
    """Values of some steps, and zeros up to as many as there is room for."""
    return np.concatenate([values, np.zeros((room - len(values), *values.shape[1:]), values.dtype)])


def _platform(args: Any) -> str:
    """Of the device on which some arrays lie."""
    arrays = [leaf for leaf in jax.tree_util.tree_leaves(args) if isinstance(leaf, jax.Array)]
    return str(next(iter(arrays[0].devices())).platform)


def _float_of(carry: Any) -> Any:
    """The dtype in which the numbers of a step are computed with: that of the parameters."""
    floats = [leaf.dtype for leaf in jax.tree_util.tree_leaves(carry) if leaf.dtype.kind == "f"]
    return floats[0] if floats else np.dtype(np.float32)


def _stacked(hyper: Sequence[Mapping[str, Any]], dtype: Any, room: int) -> dict[str, Any]:
    """The numbers of all steps by their names, (room,) each; what a step has not is 0."""
    names = {name for numbers in hyper for name in numbers["optimizer"]}
    stacked = {name: [numbers["optimizer"].get(name, 0.0) for numbers in hyper] for name in sorted(names)}
    found: dict[str, Any] = {"step": _filled(np.asarray([numbers["step"] for numbers in hyper], np.int32), room)}
    found["optimizer"] = {name: _filled(np.asarray(values, dtype), room) for name, values in stacked.items()}
    if "usual_weight" in hyper[0]:
        found["usual_weight"] = _filled(np.asarray([numbers["usual_weight"] for numbers in hyper], dtype), room)
    return found
