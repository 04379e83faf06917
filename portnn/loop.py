"""`Loop`: the steps of a training, many in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from portnn._typing import Array

__all__ = ["Compiler", "Loop"]


class Compiler(Protocol):
    """What a loop needs of a backend."""

    def asarray(self, x: Any) -> Array: ...

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]: ...

    def to_floats(self, scalars: Sequence[Array]) -> list[float]: ...


class Loop:
    """The portable form, in which Python stands between two steps.

    Parameters
    ----------
    backend : Backend
    steps : sequence of callable
        ``step(params, state, slots, batch, hyper) -> params, state, slots, loss``: pure functions, which take turns.

    Attributes
    ----------
    steps : list of callable
        As the backend has compiled them.
    """

    def __init__(self, backend: Compiler, steps: Sequence[Callable[..., Any]]) -> None:
        self._backend = backend
        self.steps = [backend.compile(step) for step in steps]

    @property
    def choices(self) -> dict[str, Any]:
        """What a clock has chosen, and the results depend on by rounding, as JSON can hold it; here, nothing."""
        return {}

    def adopt(self, choices: Mapping[str, Any]) -> None:
        """Go by the `choices` of another loop, of this process or an earlier one; called before the first step."""

    def most(self, size: int) -> int:
        """How many steps on batches of some size it gains to do at once."""
        return 1

    def run(
        self,
        carry: tuple[Any, Any, Any],
        data: Any,
        rows: Sequence[Any],
        turns: Sequence[int],
        hyper: Sequence[Mapping[str, Any]],
    ) -> tuple[tuple[Any, Any, Any], Any]:
        """Do ``len(rows)`` steps.

        Parameters
        ----------
        carry : (params, state, slots)
            Given up by the caller.
        data : portnn.training.batch.Examples
            On the device; ``data.batch(index)`` is what a step takes.
        rows : sequence of integer arrays, shape (b,), on the host
            The numbers of the examples in the batch of each step; all of one length.
        turns : sequence of int
            Which of the steps each one is.
        hyper : sequence of mapping
            The numbers of each step.

        Returns
        -------
        carry : (params, state, slots)
        losses
            On the device; `floats` tells them.
        """
        losses = []
        for index, turn, numbers in zip(rows, turns, hyper, strict=True):
            *kept, loss = self.steps[turn](*carry, data.batch(self._backend.asarray(index)), numbers)
            carry = (kept[0], kept[1], kept[2])
            losses.append(loss)
        return carry, losses

    def floats(self, chunks: Sequence[Any]) -> list[float]:
        """The losses of several runs, one for each step; waits for the device."""
        return self._backend.to_floats([loss for losses in chunks for loss in losses])
