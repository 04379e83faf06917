"""What is said where the numbers of a training run are not finite any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array
from portnn.errors import DivergenceError
from portnn.nn.trace import walk
from portnn.training.batch import Piece
from portnn.training.recipe import Recipe
from portnn.training.run import Run
from portnn.training.stepper import Stepper
from portnn.training.steps import augmented, gather

__all__ = ["advice", "refuse_bad_parameters", "refuse_loss"]

#: An array of fewer numbers is looked at together with others.
_SMALL = 4096


def refuse_loss(recipe: Recipe, run: Run, loss: float, step: int, piece: Piece) -> NoReturn:
    """Raise DivergenceError for a loss that is not finite, of the batch of a step that was done some steps ago."""
    where = _where(recipe, run, step, piece)
    raise DivergenceError(f"the loss is {loss} at step {step} (epoch {run.epoch + 1}): {advice(recipe, run)}; {where}")


def refuse_bad_parameters(recipe: Recipe, stepper: Stepper) -> None:
    """Raise DivergenceError if a parameter, or what layers or optimizer remember, is not finite.

    The latest loss was computed before the latest update; and a running average that has once become infinite, as
    Adam's squares of one huge gradient, stays it: nothing would be learned any more, without a word.
    """
    every, run = stepper.changed(), stepper.run
    if _all_finite(tree.leaves(every)):
        return
    for what, values in every.items():
        for path, leaf in tree.flatten(values).items():
            if not _finite(leaf):
                raise DivergenceError(f"{what} {path} is not finite after step {run.step}: {advice(recipe, run)}")


def advice(recipe: Recipe, run: Run) -> str:
    """What to do, and from where to go on."""
    words = f"try a smaller learning rate than in {recipe.optimizer}, or scale the inputs"
    return f"{words}; the last good checkpoint is {run.last_checkpoint}" if run.last_checkpoint else words


def _where(recipe: Recipe, run: Run, step: int, piece: Piece) -> str:
    """The first layer that makes something non-finite of the batch, with the parameters as they are now."""
    net = recipe.network
    rows = gather(piece.examples.batch(net.backend.asarray(piece.index)), net.backend.dtype(net.dtype)).x
    x, noise = augmented(recipe.augment, rows, recipe.rng, step), recipe.rng.child("noise").at(step)
    for path, layer, _, params, y in walk(net.layer, net.params, net.state, x, train=True, rng=noise):
        if not _finite(y):
            bad = [name for name, leaf in tree.flatten(params).items() if not _finite(leaf)]
            why = f", and so are its parameters ({', '.join(bad)}) after step {run.step}" if bad else ""
            return (
                f"the first layer whose output is not finite is {path or 'the network'} ({type(layer).__name__}){why}"
            )
    return f"after step {run.step}, the outputs of all layers are finite for its batch"


def _all_finite(leaves: Sequence[Array]) -> bool:
    """With one look at the device; and with one call for all that is small, as each takes longer than its numbers."""
    if not leaves:
        return True
    xp = array_namespace(leaves[0])
    together: dict[Any, list[Array]] = {}
    found = []
    for leaf in leaves:
        size = math.prod(leaf.shape)
        if size < _SMALL:
            together.setdefault(leaf.dtype, []).append(xp.reshape(leaf, (size,)))
        else:
            found.append(xp.all(xp.isfinite(leaf)))
    found += [xp.all(xp.isfinite(xp.concat(some))) for some in together.values()]
    return bool(xp.all(xp.stack(found)))


def _finite(leaf: Array) -> bool:
    xp = array_namespace(leaf)
    return bool(xp.all(xp.isfinite(leaf)))
