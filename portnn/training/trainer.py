"""`Trainer`: mini-batch training of a network."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np

from portnn._typing import Array
from portnn.checks import check_type
from portnn.data.augmentation import Augment
from portnn.door import check_sample_weight
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.random import Stream, as_stream
from portnn.regularizers import Regularizer
from portnn.training.batch import Piece
from portnn.training.callback import Callback, CallbackList
from portnn.training.courses import Course, course_of
from portnn.training.divergence import refuse_loss
from portnn.training.entering import enter_examples, feed_of, triple
from portnn.training.feeds import Feed, Iterated
from portnn.training.history import History
from portnn.training.interrupts import between_steps
from portnn.training.measure import measure
from portnn.training.recipe import Metric, Recipe
from portnn.training.resumable import Resumable
from portnn.training.run import Run
from portnn.training.stepper import Stepper

__all__ = ["Trainer"]


class Trainer(Resumable):
    """Trains a network, one mini-batch after the other.

    Parameters
    ----------
    network : Network
    loss : Loss
    optimizer : Optimizer or FullBatch
    metrics : mapping of str to callable, optional
        ``metric(prediction, target) -> 0-d array``, measured on all validation data at once; see `portnn.metrics`.
    callbacks : iterable of Callback, default ()
    augment : callable, optional
        ``augment(x, rng) -> x`` changes the examples of each step of `fit` and `partial_fit` before the network sees
        them, and keeps shape and dtype; see `portnn.data.augmentation`. `evaluate`, validation and prediction see them
        unchanged.
    regularizer : Regularizer, optional
        A penalty on the parameters, which the examples of a batch share: the loss of a batch is ``(sum w_i loss_i +
        penalty) / sum w_i``, here and in the history. See `portnn.regularizers`.
    order : callable, optional
        ``order(n, epoch)`` gives the numbers of the n examples in the order of an epoch, counted from 0: n integers in
        an array of any library, or a list. A number may come more than once, as where examples are drawn with
        replacement. Default: a random order, drawn anew for every epoch.
    rng : int, Stream or None, default None
        Source of the order of the batches, of augmentation, and of what layers draw in training; equal on every backend
        for the same seed.
    on_nonfinite : {"stop", "skip"}, default "stop"
        What happens where the loss or an update is not finite, be it of parameters, of the layers' state or of what the
        optimizer remembers: the run ends with DivergenceError, at the end of the epoch at the latest; or such steps
        change nothing but the numbers of steps, their loss is NaN, and the history counts them as ``skipped``. To be
        able to skip, each step keeps a copy of what it changes.

    Attributes
    ----------
    run : Run
        What has been done. ``epoch``, ``step``, ``progress``, ``within_fit``, ``resuming``, ``last_checkpoint``,
        ``lr_factor`` and ``history`` are attributes of the trainer, too; callbacks may change ``lr_factor``.
    stepper : Stepper
        Owns what steps change.
    learning_rate : float or None
        Of the latest step; None where the optimizer has none.
    stopping : bool
        Whether `stop` was called, and has not ended the run yet.
    loss, optimizer, augment, regularizer, order, callbacks
        May be replaced between two calls: the next one uses the new ones. An optimizer of another type starts afresh,
        one of the same type goes on with what the old one remembered.

    Notes
    -----
    Ctrl-C ends a call between two steps, with KeyboardInterrupt, and leaves the network whole.

    While `fit` goes on, another thread may predict, save, copy and pickle the network or the trainer: it gets what is
    there between two steps.

    Examples
    --------
    >>> import numpy as np
    >>> from portnn import losses, nn, optim
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> net = nn.Network(nn.Sequential([nn.Affine(16), nn.Tanh(), nn.Affine(1)]), 1, rng=0)
    >>> trainer = Trainer(net, losses.HalfSquaredError(), optim.Adam(lr=0.02), rng=0)
    >>> history = trainer.fit(x, x**2, epochs=100, batch_size=16)
    >>> history["loss"][-1] < 0.001
    True
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer | FullBatch,
        *,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Iterable[Callback] = (),
        augment: Augment | None = None,
        regularizer: Regularizer | None = None,
        order: Callable[[int, int], Any] | None = None,
        rng: Stream | int | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
    ) -> None:
        self.run = Run()
        self.stepper = Stepper(network, self.run)
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = dict(metrics or {})
        self.callbacks = tuple(callbacks)
        self.augment = augment
        self.regularizer = regularizer
        self.order = order
        check_type(self, "network", Network)
        check_type(self, "loss", Loss)
        check_type(self, "optimizer", Optimizer, FullBatch)
        self.on_nonfinite = on_nonfinite
        self.rng = as_stream(rng)
        self._stop = False
        self._course().check()

    def fit(
        self,
        x: Array,
        y: Array,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        validation_data: tuple[Array, ...] | None = None,
        sample_weight: Array | None = None,
        drop_last: bool = False,
    ) -> History:
        """Train for some epochs more; every example once in each, in an order drawn anew.

        Parameters
        ----------
        x : array, shape ``(n, *input_shape)``
            From any library. uint8 is read as pixels (`functional.as_float`) and stays bytes until it is used. Warns if
            the network was trained on bytes, and these, or those of validation, are other numbers of 0 to 255; or the
            other way round. Not copied without need: what is written into it during the call is trained on.
        y : array, shape (n,) or (n, ...)
            What the loss takes as its target.
        epochs : int, default 1
            With a full-batch method: the largest number of iterations. 0 for a run that is resumed after its last
            epoch: callbacks then do what they do at its end.
        batch_size : int, optional
            Default 32. The last batch of an epoch may be smaller; a size above n means one batch. With a full-batch
            method, how many examples go through the network at once, default 1024: it bounds the memory, and the
            result is that of all examples together (but for layers that look at a whole batch, or draw numbers for it).
        validation_data : (x, y) or (x, y, sample_weight), optional
            Measured after every epoch; see `evaluate`.
        sample_weight : array, shape (n,), optional
            How much each example counts, >= 0: the loss of a batch is ``sum w_i loss_i / sum w_i``. An example of
            weight 0 is not there, and no number of its own can change or end the run; a layer that looks at a whole
            batch, such as BatchNorm, sees another example of the batch in its place. A batch in which nothing counts
            has a loss and gradients of 0, leaves the layers' state alone, and has the share of a penalty that a batch
            of as many examples has whose weight is the mean of those that count (`fit_batches` cannot know it: 1).
        drop_last : bool, default False
            Leave the last batch of an epoch out where it is smaller than ``batch_size``: other examples each time, as
            their order is drawn anew. Not for full-batch methods.

        Returns
        -------
        History
            Of this and all earlier calls.

        Raises
        ------
        ShapeError, DataError, ConfigError
            If the data or an argument cannot be used; the network is unchanged then.
        DivergenceError
            If the loss or a parameter is not finite any more.
        """
        course = self._course()
        size = course.batch_size if batch_size is None else batch_size

        def open_feed() -> Feed:
            feed = feed_of(
                self.network, self.loss, x, y, sample_weight, size, training=True, needs_all=course.needs_all
            )
            if drop_last:
                course.refuse_parts("drop_last is not for it")
                feed.drop_last(size)
            return feed

        return self._fit(course, open_feed, epochs, validation_data)

    def fit_batches(
        self,
        batches: Iterable[Any],
        *,
        epochs: int = 1,
        validation_data: tuple[Array, ...] | None = None,
    ) -> History:
        """Train on batches that somebody else makes, such as from data that no memory holds, in the order they come.

        Parameters
        ----------
        batches : iterable of (x, y) or (x, y, sample_weight)
            Each epoch is one iteration over it, in a thread of its own that is a few batches ahead; so an iterator
            serves one epoch only. The arrays are as in `fit`, and are checked and copied batch by batch: the iterable
            may fill the same ones again and again. All weights of one may be 0. The iterable may wait as long as it
            likes: a run that ends meanwhile leaves it behind, and closes it once it comes back.
        epochs, validation_data
            As in `fit`.

        Returns
        -------
        History
            Of this and all earlier calls.

        Raises
        ------
        ShapeError, DataError, ConfigError, DivergenceError
            As `fit`; and whatever the iterable raises.
        """
        course = self._course()
        course.refuse_parts()
        door = functools.partial(enter_examples, self.network, self.loss, training=True)
        return self._fit(course, lambda: Iterated(batches, door, self.network.backend), epochs, validation_data)

    def _fit(
        self, course: Course, open_feed: Callable[[], Feed], epochs: int, validation_data: tuple[Array, ...] | None
    ) -> History:
        with ExitStack() as stack:
            # At the end, and not at the beginning: a signal may ask to stop while the data are being checked.
            stack.callback(setattr, self, "_stop", False)
            stack.enter_context(self.in_this_thread())
            course.fit(open_feed, None if validation_data is None else lambda: self._held_out(validation_data), epochs)
        return self.history

    def _held_out(self, validation_data: Any) -> Feed:
        return feed_of(self.network, self.loss, *triple(validation_data), 1024, "validation ")

    def partial_fit(self, x: Array, y: Array, *, sample_weight: Array | None = None) -> float:
        """One step on one batch, for online learning: the loss before the step. Arguments and errors as in `fit`."""
        backend, stepper = self.network.backend, self.stepper
        course = self._course()
        with backend.context(), between_steps():
            course.refuse_parts()
            data = enter_examples(self.network, self.loss, x, y, sample_weight, training=True)
            if data.weight is not None:
                check_sample_weight(data.weight, data.x, backend)
            self.network.settle()
            stepper.prepare(course.recipe)
            piece = Piece(data, np.arange(data.x.shape[0]))
            with stepper.still():
                stepper.advance((piece,))
                (loss,) = stepper.take_losses()
            if not math.isfinite(loss) and self.on_nonfinite == "stop":
                refuse_loss(course.recipe, self.run, loss, self.step, piece)
        return loss

    def evaluate(
        self, x: Array, y: Array, *, sample_weight: Array | None = None, batch_size: int = 1024
    ) -> dict[str, float]:
        """The loss and the metrics on some data, at inference: ``{"loss": ..., "<metric>": ...}``.

        The loss is the mean over the examples by their ``sample_weight``, and by the weights of their classes where the
        loss has such. Metrics are those of all examples together, see `portnn.metrics`. Neither depends on
        ``batch_size``, which bounds the memory; the outputs of all examples are kept where a metric needs them.
        """
        with self.network.backend.context():
            self.network.settle()
            return measure(Recipe.of(self), feed_of(self.network, self.loss, x, y, sample_weight, batch_size))

    def stop(self) -> None:
        """Ask `fit` to end after the current step, or the next one before its first; for signal handlers, too."""
        self._stop = True

    @property
    def stopping(self) -> bool:
        return self._stop

    @property
    def learning_rate(self) -> float | None:
        return self._course().learning_rate

    def callback_list(self) -> CallbackList:
        return CallbackList(self, self.callbacks)

    def _course(self) -> Course:
        return course_of(Recipe.of(self), self.stepper, self.callback_list())
