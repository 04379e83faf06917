"""A twin of several members in a row: a group, which a backend computes in fewer passes than its members one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Group"]


def _always(members: Sequence[Any]) -> bool:
    return True


@dataclass(frozen=True)
class Group:
    """What a backend has for layers in a row, or for the last layers of a network and its loss.

    Its definition is the composition of its members: both agree to rounding, at NaN and infinity, too. No member knows
    of it; `portnn.nn.grouping` finds where it fits, once, when a step is prepared.

    Parameters
    ----------
    members : tuple of class or tuple of classes
        The classes of layers that follow each other, and perhaps of the loss behind them; a tuple stands for any of its
        classes. What is derived from a class is another one, which may compute anything.
    function : callable
        Of layers, ``function(layers, params, states, x, *, train, rngs) -> y, new_states, backward`` with sequences of
        an entry for each layer, and ``backward(dy, input_grad=True) -> dx, grads``, where ``dx`` may be None if
        ``input_grad`` is False. ``rngs`` are the layers' streams, or None each.

        With a loss at the end, ``function(layers, loss, params, states, x, target, weight, *, train, rngs, input_grad)
        -> value, new_states, backward``, the 0-d mean that ``loss(y, target, weight)`` gives, and
        ``backward() -> dx, grads``.

        Both may be called again with equal results, and write into nothing that they were given. Returns
        ``NotImplemented`` where it cannot take its arguments, dtypes and shapes that do not fit among them, before it
        has done anything: then the members compute, and say what is wrong.
    fits : callable, optional
        Says of members of these classes whether their fields suit the function.
    """

    members: tuple[type | tuple[type, ...], ...]
    function: Callable[..., Any]
    fits: Callable[[Sequence[Any]], bool] = _always

    def takes(self, members: Sequence[Any]) -> bool:
        """Whether the group stands for these layers, and perhaps a loss behind them."""
        if len(members) != len(self.members):
            return False
        each = zip(members, self.members, strict=True)
        return all(type(m) in (kinds if isinstance(kinds, tuple) else (kinds,)) for m, kinds in each) and bool(
            self.fits(members)
        )
