"""`Forward`: what a network gives for examples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from portnn._typing import Array, Tree

__all__ = ["Forward"]


class Forward:
    """The portable form: a plain call for each batch.

    Parameters
    ----------
    apply : callable
        ``apply(params, state, x) -> y``: a pure function of arrays, at inference.
    """

    def __init__(self, apply: Callable[[Tree, Tree, Array], Array]) -> None:
        self.apply = apply

    def __call__(self, params: Tree, state: Tree, x: Array) -> Array:
        """The outputs for one batch; may be a view of what is given."""
        return self.apply(params, state, x)

    def many(self, params: Tree, state: Tree, x: Array, size: int) -> Array:
        """The outputs for all of ``x``, shape (n, ...), ``size`` rows at a time; an array of its own."""
        n = x.shape[0]
        parts = [self(params, state, x[i : min(i + size, n), ...]) for i in range(0, n, size)]
        return array_namespace(x).concat(parts)

    def at_once(self, trees: tuple[Tree, Tree], known: object, x: Any, size: int) -> Any:
        """The outputs for a small batch, in an array of its own, or None where it is to go the long way.

        Nobody has looked at ``x``: None, too, unless it is an array of the backend, of finite numbers, of a form of
        which batches went through before, and of ``size`` rows at most.

        Parameters
        ----------
        trees : (params, state)
        known : object
            Where it is the same as in another call, the trees have the same arrays.
        x : object
        size : int
        """
        return None
