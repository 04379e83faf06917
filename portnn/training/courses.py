"""How a run goes from epoch to epoch: in mini-batches, or with a method that needs all examples at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import ClassVar

from portnn.checks import check_callable, check_count
from portnn.errors import ConfigError
from portnn.functional import take_rows
from portnn.optim import FullBatch, Optimizer
from portnn.scale import warn_of_other_scale
from portnn.training import full_batch
from portnn.training.callback import CallbackList
from portnn.training.epochs import train_epoch
from portnn.training.feeds import Feed, Resident
from portnn.training.interrupts import Stopped, between_steps, while_waiting_for_data
from portnn.training.measure import measure
from portnn.training.progress import Progress
from portnn.training.recipe import Recipe
from portnn.training.stepper import Stepper

__all__ = ["Course", "MiniBatches", "WholeBatch", "course_of", "needs_all"]


class Course(ABC):
    """A call of `Trainer.fit`: what all of them have in common.

    Parameters
    ----------
    recipe : Recipe
    stepper : Stepper
    callbacks : CallbackList

    Attributes
    ----------
    batch_size : int
        Where nobody gives one.
    needs_all : bool
        Whether all examples are needed at once.
    """

    batch_size: ClassVar[int]
    needs_all: ClassVar[bool]

    def __init__(self, recipe: Recipe, stepper: Stepper, callbacks: CallbackList) -> None:
        self.recipe, self.stepper, self.callbacks = recipe, stepper, callbacks
        self.run, self.training = stepper.run, callbacks.training
        self._validation: Feed | None = None
        #: Whether nobody knows yet what the network is trained on, and so how the validation data compare.
        self._uncompared = False

    def check(self) -> None:
        """Raise ConfigError where the recipe does not go together."""
        if self.recipe.augment is not None:
            check_callable("Trainer's augment", self.recipe.augment)

    def refuse_parts(self, what: str = "call fit") -> None:
        """Raise ConfigError where all examples are needed at once; the sentence ends with what to do, or with why."""
        if self.needs_all:
            raise ConfigError(f"{type(self.recipe.optimizer).__name__} needs all examples at once: {what}")

    @property
    @abstractmethod
    def learning_rate(self) -> float | None:
        """Of the latest step; None where there is none."""

    @abstractmethod
    def own_columns(self) -> list[str]:
        """The numbers of an epoch that only this course notes."""

    @abstractmethod
    def steps(self, feed: Feed) -> int | None:
        """How many steps make an epoch, where that is known."""

    @abstractmethod
    def epochs(self, feed: Feed, last: int, interruptible: Callable[[], None]) -> bool:
        """Go on until the run has done ``last`` epochs, or is to stop; whether it is done before."""

    def fit(self, open_feed: Callable[[], Feed], open_validation: Callable[[], Feed] | None, epochs: int) -> None:
        """Do some epochs more; the feeds are opened where the device is selected."""
        run, recipe = self.run, self.recipe
        last = run.epoch + (0 if run.resuming and epochs == 0 else check_count("epochs", epochs))
        self.check()
        with ExitStack() as stack:
            stack.enter_context(recipe.network.backend.context())
            interruptible = stack.enter_context(between_steps())
            recipe.network.settle()
            feed = open_feed()
            validation = None if open_validation is None else open_validation()
            self._validation = validation
            feed.while_waiting = while_waiting_for_data(self.training, interruptible, lambda: None)
            # Batches that are still to come say what the network is trained on; until then nothing can be compared.
            self._uncompared = recipe.network.trained_on is None
            _try_single_example(recipe, feed)
            run.columns = self._columns()
            self._begin(feed, stack)
            self.callbacks.begin(epochs, self.steps(feed), stack)
            run.resuming = False
            done = False
            stack.callback(lambda: setattr(run.history, "stopped", not done and run.epoch < last))
            if validation is not None:
                validation.while_waiting = while_waiting_for_data(self.training, interruptible, self.callbacks.pause)
            done = self.epochs(feed, last, interruptible)

    def _columns(self) -> tuple[str, ...]:
        """The names of the numbers that every epoch will have, but for what callbacks add."""
        measured = [] if self._validation is None else ["loss", *self.recipe.metrics]
        own = ["epoch", "loss", "seconds", "samples_per_second", *self.own_columns()]
        return (*own, *(f"val_{name}" for name in measured))

    def _begin(self, feed: Feed, stack: ExitStack) -> None:
        """Begin a call of fit, or go on with one that a checkpoint was saved in."""
        run, shape = self.run, [feed.examples, feed.size]
        if not run.resuming:
            run.progress = Progress()
        elif run.progress.batches and shape != run.data_shape:
            raise ConfigError(
                f"the checkpoint was saved within an epoch of {run.data_shape} examples and batch size: "
                f"it goes on with the same data, not with {shape}"
            )
        run.data_shape, run.within_fit = shape, True
        stack.callback(setattr, run, "within_fit", False)

    def end_epoch(self, record: dict[str, float]) -> None:
        """Validate, note what the epoch gave, and tell the callbacks; `Stopped` if validation was given up."""
        run, network, validation = self.run, self.recipe.network, self._validation
        if self._uncompared and isinstance(validation, Resident):
            warn_of_other_scale(validation.data.x, network.trained_on, "validation x")
        self._uncompared = False
        if validation is not None:
            record |= {f"val_{name}": value for name, value in measure(self.recipe, validation).items()}
        with self.stepper.still():
            run.epoch += 1
            run.progress = Progress()
            run.history.records.append(record)
        self.callbacks.epoch_end(record)
        if network.trees.in_other_hands():  # a callback may have put other parameters there
            network.settle()
        self.callbacks.pause()


class MiniBatches(Course):
    """One batch after the other."""

    batch_size = 32
    needs_all = False

    def __init__(self, recipe: Recipe, optimizer: Optimizer, stepper: Stepper, callbacks: CallbackList) -> None:
        super().__init__(recipe, stepper, callbacks)
        self._optimizer = optimizer

    @property
    def learning_rate(self) -> float | None:
        return self.stepper.learning_rate(self._optimizer)

    def own_columns(self) -> list[str]:
        rate = ["lr"] if "lr" in self._optimizer.hyper(self.run.step + 1) else []
        return ["skipped", *rate] if self.recipe.on_nonfinite == "skip" else rate

    def steps(self, feed: Feed) -> int | None:
        return feed.steps

    def epochs(self, feed: Feed, last: int, interruptible: Callable[[], None]) -> bool:
        self.stepper.prepare(self.recipe)
        usual_weight = feed.usual_weight
        while self.run.epoch < last:
            if self.training.stopping:
                self.callbacks.pause()  # again: the signal may have come after the last one
                break
            record = train_epoch(self.recipe, self.stepper, feed, usual_weight, self.callbacks, interruptible)
            if record is None:
                break
            if (rate := self.learning_rate) is not None:
                record["lr"] = rate
            try:
                self.end_epoch(record)
            except Stopped:
                self.callbacks.pause()
                break
        return False


class WholeBatch(Course):
    """A method that needs the loss of all examples; an iteration is an epoch."""

    batch_size = 1024
    needs_all = True
    learning_rate = None

    def __init__(self, recipe: Recipe, method: FullBatch, stepper: Stepper, callbacks: CallbackList) -> None:
        super().__init__(recipe, stepper, callbacks)
        self._method = method

    def check(self) -> None:
        super().check()
        if self.recipe.augment is not None:
            raise ConfigError(
                f"{type(self.recipe.optimizer).__name__} compares losses of the same examples, and augmentation "
                "changes them in each step: take an optimizer of mini-batches, or augment=None"
            )

    def own_columns(self) -> list[str]:
        return ["evaluations"]

    def steps(self, feed: Feed) -> int | None:
        return 1

    def epochs(self, feed: Feed, last: int, interruptible: Callable[[], None]) -> bool:
        assert isinstance(feed, Resident)
        history, left = self.run.history, last - self.run.epoch
        found = full_batch.minimize(
            self._method, self.recipe, self.stepper, feed, left, self.training, interruptible, self.end_epoch
        )
        history.message, history.status, history.minimum = found.message, found.status, found.value
        done = not self.training.stopping  # it may be before its last iteration
        self.training.stop()  # so this is the last pause
        self.callbacks.pause()
        return done


def needs_all(optimizer: Optimizer | FullBatch) -> bool:
    """Whether an optimizer needs all examples at once."""
    return isinstance(optimizer, FullBatch)


def course_of(recipe: Recipe, stepper: Stepper, callbacks: CallbackList) -> Course:
    """The course that the optimizer of a recipe needs."""
    if isinstance(recipe.optimizer, FullBatch):
        return WholeBatch(recipe, recipe.optimizer, stepper, callbacks)
    return MiniBatches(recipe, recipe.optimizer, stepper, callbacks)


def _try_single_example(recipe: Recipe, feed: Feed) -> None:
    """Let a layer that cannot train on a single example say so before anything has changed."""
    if feed.examples is None or feed.size is None or (feed.examples % feed.size != 1 and feed.size != 1):
        return
    net, backend = recipe.network, recipe.network.backend
    try:
        with closing(feed.epoch()) as pieces:
            data = next(pieces).examples
    except Stopped:  # the run ends before its first step
        return
    row = take_rows(data.x, backend.asarray([0]), backend.dtype(net.dtype))
    with net.trees.reading() as (params, state):
        net.layer.forward(params, state, row, train=True, rng=recipe.rng.child("noise"))
