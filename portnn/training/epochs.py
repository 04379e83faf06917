"""One epoch of mini-batch training: the steps, and what is noted between them."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from portnn.errors import DivergenceError
from portnn.training.callback import CallbackList
from portnn.training.chunks import Pace, in_chunks
from portnn.training.divergence import advice, refuse_bad_parameters, refuse_loss
from portnn.training.feeds import Feed
from portnn.training.interrupts import Stopped
from portnn.training.order import epoch_order
from portnn.training.progress import Progress
from portnn.training.recipe import Recipe
from portnn.training.stepper import Stepper

__all__ = ["settled", "train_epoch"]

#: Seconds between two looks at the loss; each look waits for the device.
_LOOK_EVERY = 0.1


def train_epoch(
    recipe: Recipe,
    stepper: Stepper,
    feed: Feed,
    usual_weight: float,
    callbacks: CallbackList,
    interruptible: Callable[[], None],
) -> dict[str, float] | None:
    """Do what is left of a run's epoch: its record, or None if it was stopped before its end.

    Parameters
    ----------
    recipe : Recipe
    stepper : Stepper
        The ``progress`` of its run says which batches are done already.
    feed : Feed
    usual_weight : float
        That of the feed, which is asked once a call: it looks at all weights.
    callbacks : CallbackList
    interruptible : callable
        Called after every chunk of steps, and while the next batch does not come; may raise KeyboardInterrupt.
    """
    run, pending, training = stepper.run, stepper.pending, callbacks.training
    progress, last_look = run.progress, time.perf_counter()
    stepper.began = last_look - progress.seconds

    def look() -> None:
        """Wait for the losses of the latest steps, and hand them on."""
        if not pending:
            return
        with stepper.still():
            losses = _count(recipe, stepper, progress)
            pending.clear()
        callbacks.losses(losses)

    def between_steps(due: bool) -> bool:
        """What comes between two steps, where it is due; whether the epoch is to end."""
        nonlocal last_look
        try:
            interruptible()
        except KeyboardInterrupt:
            training.stop()  # tells the callbacks
            look()
            callbacks.pause()
            raise
        # Asked once, before the pause that it leads to: a signal may come at any moment.
        stopping = training.stopping
        if due or stopping:
            look()
            stopping = training.stopping
            callbacks.pause()
            last_look = time.perf_counter()
        return stopping and progress.batches != feed.steps

    def is_late() -> bool:
        return time.perf_counter() - last_look > _LOOK_EVERY

    def while_waiting() -> None:
        if between_steps(due=bool(pending) and is_late()):
            raise Stopped

    pending.clear()
    feed.while_waiting = while_waiting
    order = functools.partial(epoch_order, recipe, run.epoch)
    size = feed.size if feed.shared else None
    pace = Pace(lambda: 1 if size is None else stepper.loop.most(size))
    try:
        with closing(feed.epoch(order, progress.batches)) as pieces:
            for chunk in in_chunks(pieces, lambda: min(pace.steps, callbacks.steps_until_due())):
                pace.advance(stepper, chunk, usual_weight)
                late = is_late() or len(pending) >= feed.backlog
                if between_steps(late or callbacks.due()):
                    return None
        look()
    except Stopped:
        return None
    finally:
        pending.clear()
        feed.while_waiting = interruptible  # ours holds the feed, which would live on with its data
    refuse_bad_parameters(recipe, stepper)
    return _record(recipe, stepper)


def settled(recipe: Recipe, stepper: Stepper) -> Progress:
    """The progress with all steps that were done, also those whose losses nobody has looked at."""
    progress = replace(stepper.run.progress)
    _count(recipe, stepper, progress)
    return progress


def _count(recipe: Recipe, stepper: Stepper, progress: Progress) -> list[float]:
    """Count the pending steps, if there are any; their losses, for which the device is waited for."""
    run, losses = stepper.run, stepper.pending_losses()
    pieces = [piece for _, some in stepper.pending for piece in some]
    for i, (loss, piece) in enumerate(zip(losses, pieces, strict=True)):
        progress.batches += 1
        progress.examples += piece.size
        if math.isfinite(loss):
            # One by one: the sum must not depend on when we look.
            progress.total += loss * piece.size
        elif recipe.on_nonfinite == "skip":
            progress.skipped += 1
            progress.skipped_examples += piece.size
        else:
            refuse_loss(recipe, run, loss, run.step - len(losses) + i + 1, piece)
    if losses:
        progress.seconds = time.perf_counter() - stepper.began
    return losses


def _record(recipe: Recipe, stepper: Stepper) -> dict[str, float]:
    run = stepper.run
    progress, counted = run.progress, run.progress.examples - run.progress.skipped_examples
    if counted == 0:
        raise DivergenceError(
            f"no step of epoch {run.epoch + 1} could be applied: none of their losses and updates was finite; "
            f"{advice(recipe, run)}"
        )
    record: dict[str, float] = {"epoch": run.epoch + 1, "loss": progress.total / counted}
    record |= {"seconds": progress.seconds, "samples_per_second": progress.examples / progress.seconds}
    if recipe.on_nonfinite == "skip":
        record["skipped"] = progress.skipped
    return record
