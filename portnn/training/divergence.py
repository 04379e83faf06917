"""What is said where the numbers of a training run are not finite any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.errors import DivergenceError
from portnn.nn.trace import walk
from portnn.training.feeds import Piece
from portnn.training.steps import augmented, gather

if TYPE_CHECKING:
    from portnn.training.trainer import Trainer

__all__ = ["advice", "refuse_bad_parameters", "refuse_loss"]


def refuse_loss(trainer: Trainer, loss: float, step: int, piece: Piece) -> NoReturn:
    """Raise DivergenceError for a loss that is not finite, of the batch of a step that was done some steps ago."""
    where = _where(trainer, step, piece)
    raise DivergenceError(f"the loss is {loss} at step {step} (epoch {trainer.epoch + 1}): {advice(trainer)}; {where}")


def refuse_bad_parameters(trainer: Trainer) -> None:
    """Raise DivergenceError if a parameter, or what layers or optimizer remember, is not finite.

    The latest loss was computed before the latest update; and a running average that has once become infinite, as
    Adam's squares of one huge gradient, stays it: nothing would be learned any more, without a word.
    """
    with trainer.network.trees.reading() as (params, state):
        _refuse_bad(trainer, {"parameter": params, "state": state, "the optimizer's slot": trainer._slots})


def _refuse_bad(trainer: Trainer, every: dict[str, Tree]) -> None:
    leaves = tree.leaves(every)
    if not leaves:
        return
    xp = array_namespace(leaves[0])
    if bool(xp.all(xp.stack([xp.all(xp.isfinite(leaf)) for leaf in leaves]))):  # one look at the device
        return
    for what, values in every.items():
        for path, leaf in tree.flatten(values).items():
            if not _finite(leaf):
                raise DivergenceError(f"{what} {path} is not finite after step {trainer.step}: {advice(trainer)}")


def advice(trainer: Trainer) -> str:
    """What to do, and from where to go on."""
    words = f"try a smaller learning rate than in {trainer.optimizer}, or scale the inputs"
    return f"{words}; the last good checkpoint is {trainer.last_checkpoint}" if trainer.last_checkpoint else words


def _where(trainer: Trainer, step: int, piece: Piece) -> str:
    """The first layer that makes something non-finite of the batch, with the parameters as they are now."""
    net, (data, index, _) = trainer.network, piece
    rows = gather((*data, index), net.backend.dtype(net.dtype))[0]
    x, noise = augmented(trainer.augment, rows, trainer.rng, step), trainer.rng.child("noise").at(step)
    for path, layer, _, params, y in walk(net.layer, net.params, net.state, x, train=True, rng=noise):
        if not _finite(y):
            bad = [name for name, leaf in tree.flatten(params).items() if not _finite(leaf)]
            why = f", and so are its parameters ({', '.join(bad)}) after step {trainer.step}" if bad else ""
            return (
                f"the first layer whose output is not finite is {path or 'the network'} ({type(layer).__name__}){why}"
            )
    return f"after step {trainer.step}, the outputs of all layers are finite for its batch"


def _finite(leaf: Array) -> bool:
    xp = array_namespace(leaf)
    return bool(xp.all(xp.isfinite(leaf)))
