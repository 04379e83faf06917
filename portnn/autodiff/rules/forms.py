"""What a rule may look like: five forms, and a table has one of them for each name of the standard.

In all of them ``xp`` is the namespace for rules, whose functions take traced and other arrays: gradients, and what a
rule has kept, may be traced by other levels. A gradient stands on the left of operators, where the other side may be no
traced array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Binary", "Built", "Formula", "General", "Rule", "Unary"]


@dataclass(frozen=True)
class Unary:
    """An elementwise function of one array.

    Attributes
    ----------
    derivative : float or callable
        A function's parameters say by their names what it is computed from, and what is kept for it: ``xp``, ``x``,
        the argument, and ``y``, the result.
    """

    derivative: float | Callable[..., Any]


@dataclass(frozen=True)
class Binary:
    """An elementwise function of two arrays that broadcast.

    Attributes
    ----------
    first, second : float, callable or None
        As of `Unary`, with ``a`` and ``b`` for the arguments, either of which may be a Python number. None is 0.
    """

    first: float | Callable[..., Any] | None
    second: float | Callable[..., Any] | None


@dataclass(frozen=True)
class General:
    """Any function.

    Attributes
    ----------
    pulls : callable
        ``pulls(xp, y, *args, **kwargs)`` gives ``pull(g)`` for the only argument that is differentiated, or one for
        each argument. Of several results, ``g`` is a tuple, with None for those that nobody has used.
    linear : tuple of int, optional
        The arguments in which the function is linear, all taken together: it is its own derivative. Any tuple for
        functions of a list, which are linear in all of it. By default it is not.
    """

    pulls: Callable[..., Any]
    linear: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Formula:
    """A function whose way back is that of ``function(xp, *args, **kwargs)``, while its value is the library's own.

    Attributes
    ----------
    function : callable
    keywords : tuple of str
        Parameters behind the first one that may hold arrays, and be given by their names; None where they are not.
    """

    function: Callable[..., Any]
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A function that is made of others: ``function(xp, *args, **kwargs)``."""

    function: Callable[..., Any]


Rule = Unary | Binary | General | Formula | Built
