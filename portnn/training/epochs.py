"""One epoch of mini-batch training: the steps, and what is noted between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from portnn.errors import DivergenceError
from portnn.optim import FullBatch
from portnn.training.divergence import advice, refuse_bad_parameters, refuse_loss
from portnn.training.feeds import Feed
from portnn.training.interrupts import Stopped
from portnn.training.progress import Progress

if TYPE_CHECKING:
    from portnn.training.trainer import Trainer

__all__ = ["record_columns", "settled", "train_epoch"]

#: Seconds between two looks at the loss; each look waits for the device.
_LOOK_EVERY = 0.1


def train_epoch(trainer: Trainer, feed: Feed, interruptible: Callable[[], None]) -> dict[str, float] | None:
    """Do what is left of the trainer's epoch: its record, or None if it was stopped before its end.

    Parameters
    ----------
    trainer : Trainer
        Its ``progress`` says which batches are done already.
    feed : Feed
    interruptible : callable
        Called after every step, and while the next batch does not come; may raise KeyboardInterrupt.
    """
    progress, pending, trees = trainer.progress, trainer.pending, trainer.network.trees
    last_look = time.perf_counter()
    trainer.epoch_began = last_look - progress.seconds

    def look() -> None:
        """Wait for the losses of the latest steps, and hand them on."""
        if not pending:
            return
        with trees.exclusive():
            losses = _settle(trainer, progress)
            pending.clear()
        for callback in trainer.callbacks:
            callback.on_losses(trainer, losses)

    def between_steps(due: bool) -> bool:
        """What comes between two steps, where it is due; whether the epoch is to end."""
        nonlocal last_look
        try:
            interruptible()
        except KeyboardInterrupt:
            trainer.stop()  # tells the callbacks
            look()
            trainer.pause()
            raise
        # Asked once, before the pause that it leads to: a signal may come at any moment.
        stopping = trainer.stopping
        if due or stopping:
            look()
            stopping = trainer.stopping
            trainer.pause()
            last_look = time.perf_counter()
        return stopping and progress.batches != feed.steps

    def is_late() -> bool:
        return time.perf_counter() - last_look > _LOOK_EVERY

    def while_waiting() -> None:
        if between_steps(due=bool(pending) and is_late()):
            raise Stopped

    trainer.pending.clear()
    feed.while_waiting = while_waiting
    try:
        with closing(feed.epoch(trainer.epoch_order, progress.batches)) as pieces:
            for piece in pieces:
                with trees.exclusive():
                    pending.append((trainer._run_step(*piece[:2]), piece))
                late = is_late() or len(pending) >= feed.backlog
                if between_steps(late or any(callback.due(trainer) for callback in trainer.callbacks)):
                    return None
        look()
    except Stopped:
        return None
    finally:
        pending.clear()
        feed.while_waiting = interruptible  # ours holds the feed, which would live on with its data
    refuse_bad_parameters(trainer)
    return _record(trainer)


def settled(trainer: Trainer) -> Progress:
    """The trainer's progress with all steps that were done, also those whose losses nobody has looked at."""
    progress = replace(trainer.progress)
    _settle(trainer, progress)
    return progress


def _settle(trainer: Trainer, progress: Progress) -> list[float]:
    """Count the pending steps, if there are any; their losses, for which the device is waited for."""
    losses = trainer.network.backend.to_floats([loss for loss, _ in trainer.pending])
    for i, (loss, (_, piece)) in enumerate(zip(losses, trainer.pending, strict=True)):
        progress.batches += 1
        progress.examples += piece[2]
        if math.isfinite(loss):
            # One by one: the sum must not depend on when we look.
            progress.total += loss * piece[2]
        elif trainer.on_nonfinite == "skip":
            progress.skipped += 1
            progress.skipped_examples += piece[2]
        else:
            refuse_loss(trainer, loss, trainer.step - len(losses) + i + 1, piece)
    if losses:
        progress.seconds = time.perf_counter() - trainer.epoch_began
    return losses


def record_columns(trainer: Trainer, validated: bool) -> tuple[str, ...]:
    """The names of the numbers that every epoch of a call of `fit` will have, but for what callbacks add."""
    names = ["epoch", "loss", "seconds", "samples_per_second"]
    if isinstance(trainer.optimizer, FullBatch):
        names.append("evaluations")
    else:
        names += ["skipped"] if trainer.on_nonfinite == "skip" else []
        names += ["lr"] if "lr" in trainer.optimizer.hyper(trainer.step + 1) else []
    return (*names, *(f"val_{name}" for name in ("loss", *trainer.metrics) if validated))


def _record(trainer: Trainer) -> dict[str, float]:
    progress = trainer.progress
    counted = progress.examples - progress.skipped_examples
    if counted == 0:
        raise DivergenceError(
            f"no step of epoch {trainer.epoch + 1} could be applied: none of their losses and updates was finite; "
            f"{advice(trainer)}"
        )
    record: dict[str, float] = {"epoch": trainer.epoch + 1, "loss": progress.total / counted}
    record |= {"seconds": progress.seconds, "samples_per_second": progress.examples / progress.seconds}
    if trainer.on_nonfinite == "skip":
        record["skipped"] = progress.skipped
    lr = trainer.learning_rate
    return record if lr is None else record | {"lr": lr}
