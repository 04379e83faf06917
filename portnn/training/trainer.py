"""`Trainer`: mini-batch training of a network."""

from __future__ import annotations

import copy
import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from typing import Any, Literal

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_batch_size, check_callable, check_count, check_type
from portnn.data.augmentation import Augment
from portnn.door import (
    check_batch_weight,
    check_finite,
    check_lengths,
    check_rows,
    check_sample_weight,
    check_target,
    enter,
    enter_target,
    memory_named,
)
from portnn.errors import ConfigError
from portnn.functional import take_rows
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.random import Stream, as_stream
from portnn.regularizers import Regularizer
from portnn.scale import kind_of_input, warn_of_other_scale
from portnn.training import full_batch
from portnn.training.callbacks import Callback
from portnn.training.divergence import refuse_loss
from portnn.training.epochs import record_columns, settled, train_epoch
from portnn.training.feeds import Feed, Iterated, Mapped, Piece, Resident, fits, is_on_disk
from portnn.training.history import History
from portnn.training.interrupts import Stopped, between_steps, while_waiting_for_data
from portnn.training.measure import Metric, measure
from portnn.training.order import checked_order
from portnn.training.progress import Progress
from portnn.training.records import tidy
from portnn.training.resume import load_training, save_training
from portnn.training.steps import Data, skipping_step, training_step

__all__ = ["Trainer"]


class Trainer:
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
    epoch, step : int
        How many epochs and steps have been done in all calls.
    progress : Progress
        Of the epoch under way.
    within_fit, resuming : bool
        Whether a call of `fit` is under way, and whether the next one goes on where a checkpoint was saved within one.
    last_checkpoint : str or None
        What was last saved or loaded.
    lr_factor : float
        What the optimizer's learning rate is multiplied by; 1 until a callback such as `ReduceOnPlateau` changes it.
    history : History
        Of all calls of `fit`.
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
        self.network = network
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
        if "loss" in self.metrics:
            raise ConfigError('no metric can be called "loss": that is the name of the loss itself')
        for name, metric in self.metrics.items():
            check_callable(f"metric {name!r}", metric)
        if on_nonfinite not in ("stop", "skip"):
            raise ConfigError(f'on_nonfinite must be "stop" or "skip", not {on_nonfinite!r}')
        self.on_nonfinite = on_nonfinite
        self._check_augment()
        self.rng = as_stream(rng)
        self.epoch = 0
        self.step = 0
        self.lr_factor = 1.0
        self.history = History()
        self.progress = Progress()
        self.within_fit = self.resuming = False
        self.last_checkpoint: str | None = None
        #: Examples of an epoch, and in a batch, of the call of fit under way.
        self.data_shape: list[int | None] | None = None
        #: Of the records of that call, but for what callbacks add.
        self.columns: tuple[str, ...] = ()
        self._stop = False
        #: Losses of steps that nobody has looked at yet, with their batches.
        self.pending: list[tuple[Array, Piece]] = []
        #: When the clock of the epoch under way would have begun without breaks.
        self.epoch_began = 0.0
        #: The thread in which a call of fit is under way.
        self._thread: int | None = None
        #: What an example weighs that counts, on average.
        self._usual_weight = 1.0
        #: How many steps the slots have seen.
        self._optimizer_step = 0
        self._slots: tuple[Tree, ...] = ()
        self._slots_of: object = None
        #: Whether somebody else may have the arrays of the slots.
        self._slots_given = False
        #: The steps that take turns, with their optimizers.
        self._steps: list[tuple[Optimizer, Callable[..., Any]]] = []
        self._compiled_for: Any = None

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
        whole = isinstance(self.optimizer, FullBatch)
        size = (1024 if whole else 32) if batch_size is None else batch_size
        feed_of = functools.partial(self._feed, x, y, sample_weight, size, drop_last=drop_last, training=True)
        return self._fit(feed_of, epochs, validation_data)

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
        if isinstance(self.optimizer, FullBatch):
            raise ConfigError(f"{type(self.optimizer).__name__} needs all examples at once: call fit")
        door = functools.partial(self._enter, training=True)
        return self._fit(lambda: Iterated(batches, door, self.network.backend), epochs, validation_data)

    def _fit(self, feed_of: Callable[[], Feed], epochs: int, validation_data: tuple[Array, ...] | None) -> History:
        last = self.epoch + (0 if self.resuming and epochs == 0 else check_count("epochs", epochs))
        self._check_augment()
        with ExitStack() as stack:
            # At the end, and not at the beginning: a signal may ask to stop while the data are being checked.
            stack.callback(setattr, self, "_stop", False)
            stack.callback(setattr, self, "_thread", self._thread)
            self._thread = threading.get_ident()
            stack.enter_context(self.network.backend.context())
            interruptible = stack.enter_context(between_steps())
            self.network.settle()
            feed = feed_of()
            self._usual_weight = feed.usual_weight
            validation = None if validation_data is None else self._feed(*_triple(validation_data), 1024, "validation ")
            feed.while_waiting = while_waiting_for_data(self, interruptible, lambda: None)
            # Batches that are still to come say what the network is trained on; until then nothing can be compared.
            uncompared = isinstance(validation, Resident) and self.network.trained_on is None
            with suppress(Stopped):
                self._try_single_example(feed)
            self.columns = record_columns(self, validation is not None)
            self._begin(feed, stack)
            for callback in self.callbacks:
                stack.callback(callback.on_fit_end, self)
                callback.on_fit_begin(self, epochs, 1 if isinstance(self.optimizer, FullBatch) else feed.steps)
            self.resuming = False
            stack.callback(lambda: setattr(self.history, "stopped", self.epoch < last))
            if validation is not None:
                validation.while_waiting = while_waiting_for_data(self, interruptible, self.pause)
            if isinstance(self.optimizer, FullBatch):
                assert isinstance(feed, Resident)
                end = functools.partial(self._end_epoch, validation)
                result = full_batch.minimize(self, feed.data, epochs, feed.size, interruptible, end)
                self.history.message, self.history.status, self.history.minimum = result
                last = last if self._stop else self.epoch  # it may be done before its last iteration
                self._stop = True  # so this is the last pause
                self.pause()
                return self.history
            self._prepare_steps()
            while self.epoch < last:
                if self._stop:
                    self.pause()  # again: the signal may have come after the last one
                    break
                record = train_epoch(self, feed, interruptible)
                if record is None:
                    break
                if uncompared and isinstance(validation, Resident):
                    warn_of_other_scale(validation.data[0], self.network.trained_on, "validation x")
                    uncompared = False
                try:
                    self._end_epoch(validation, record)
                except Stopped:
                    self.pause()
                    break
        return self.history

    def _begin(self, feed: Feed, stack: ExitStack) -> None:
        """Begin a call of fit, or go on with one that a checkpoint was saved in."""
        shape = [feed.examples, feed.size]
        if not self.resuming:
            self.progress = Progress()
        elif self.progress.batches and shape != self.data_shape:
            raise ConfigError(
                f"the checkpoint was saved within an epoch of {self.data_shape} examples and batch size: "
                f"it goes on with the same data, not with {shape}"
            )
        self.data_shape, self.within_fit = shape, True
        stack.callback(setattr, self, "within_fit", False)

    def _end_epoch(self, validation: Feed | None, record: dict[str, float]) -> None:
        if validation is not None:
            record |= {f"val_{name}": value for name, value in measure(self, validation).items()}
        with self.network.trees.exclusive():
            self.epoch += 1
            self.progress = Progress()
            self.history.records.append(record)
        for callback in self.callbacks:
            callback.on_epoch_end(self, record)
            tidy(record, f", of {type(callback).__name__}")  # before the next one writes it down
        self.network.settle()  # a callback may have put other parameters there
        self.pause()

    def pause(self) -> None:
        """Tell the callbacks that nothing is under way; called between steps."""
        for callback in self.callbacks:
            callback.on_pause(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network and the state of its training as one safetensors file, atomically.

        The file is one that `Network.load` reads; it holds besides what the optimizer remembers, the place in the order
        of the batches and in the random numbers, the history, ``lr_factor``, and what callbacks remember of a
        call of `fit` under way. Of a full-batch method, which has a memory of its own, it holds nothing.

        Raises
        ------
        ModelFileError
            If the file cannot be written; what was at the path before is still there then.
        DivergenceError
            If a parameter or the layers' state is not finite.
        ConfigError
            If a layer has a field, or a callback or record a value, that cannot be described.
        """
        save_training(self, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from what `save` wrote, on any backend: the next `fit` continues as if the run had never ended.

        The trainer is built as the one that was saved was: an equal network (its parameters do not matter), and an
        optimizer and callbacks of the same types. If the file was saved within a call of `fit` (as `Checkpoint` does),
        the next call finishes its epoch first, with the same data; the ``epochs`` that it needs to come to
        epoch ``n`` are ``n - trainer.epoch``. On the backend that saved it, the result equals that of the run
        left alone bit for bit, on another one to rounding. ``rng`` is taken from the file.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged, or no checkpoint.
        ConfigError
            If it is of another network, optimizer, or list of callbacks.
        """
        load_training(self, path)

    def partial_fit(self, x: Array, y: Array, *, sample_weight: Array | None = None) -> float:
        """One step on one batch, for online learning: the loss before the step. Arguments and errors as in `fit`."""
        backend = self.network.backend
        with backend.context(), between_steps():
            if isinstance(self.optimizer, FullBatch):
                raise ConfigError(f"{type(self.optimizer).__name__} needs all examples at once: call fit")
            data = self._enter(x, y, sample_weight, training=True)
            if data[2] is not None:
                check_sample_weight(data[2], data[0], backend)
            self.network.settle()
            self._prepare_steps()
            with self.network.trees.exclusive():
                (loss,) = backend.to_floats([self._run_step(data, backend.asarray(range(data[0].shape[0])))])
            if not math.isfinite(loss) and self.on_nonfinite == "stop":
                refuse_loss(self, loss, self.step, (data, backend.asarray(range(data[0].shape[0])), data[0].shape[0]))
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
            return measure(self, self._feed(x, y, sample_weight, batch_size))

    def __getstate__(self) -> dict[str, Any]:
        with self.network.trees.turn():
            # What was compiled holds functions, which cannot be pickled; it is made anew when it is needed.
            state = vars(self) | {"_steps": [], "_compiled_for": None, "pending": [], "_thread": None}
            state |= {"progress": settled(self), "_slots": tree.map(self.network.backend.copy, self._slots)}
            if self._thread not in (None, threading.get_ident()):  # the run goes on while the rest is pickled
                state |= {"network": copy.copy(self.network), "history": copy.copy(self.history)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What version 0.1 did not have yet.
        vars(self).update(pending=[], epoch_began=0.0, columns=(), _thread=None, _usual_weight=1.0)
        vars(self).update(state)
        self._slots_given = True  # they may lie in a read-only file

    def stop(self) -> None:
        """Ask `fit` to end after the current step, or the next one before its first; for signal handlers, too."""
        self._stop = True

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called, and has not ended the run yet."""
        return self._stop

    def _check_augment(self) -> None:
        if self.augment is None:
            return
        check_callable("Trainer's augment", self.augment)
        if isinstance(self.optimizer, FullBatch):
            raise ConfigError(
                f"{type(self.optimizer).__name__} compares losses of the same examples, and augmentation changes them "
                "in each step: take an optimizer of mini-batches, or augment=None"
            )

    def _feed(
        self,
        x: Array,
        y: Array,
        weight: Array | None,
        size: int,
        prefix: str = "",
        drop_last: bool = False,
        training: bool = False,
    ) -> Resident | Mapped:
        """Where the batches of some data come from: the device, or the host or disk where they do not fit."""
        net, arrays = self.network, {f"{prefix}x": x, f"{prefix}y": y, f"{prefix}sample_weight": weight}
        whole = isinstance(self.optimizer, FullBatch)
        feed: Resident | Mapped
        if whole or (not is_on_disk(x, y) and fits(net.backend, net.dtype, arrays)):
            known = net.trained_on is not None
            data = self._enter(x, y, weight, prefix, training)
            if data[2] is not None:
                check_sample_weight(data[2], data[0], net.backend, f"{prefix}sample_weight")
            if training and known:  # all that there is, which tells more than the first batch of an earlier run
                net.trained_on = kind_of_input(data[0])
            feed = Resident(data, check_batch_size(size, data[0].shape[0]), net.backend)
        else:
            door = functools.partial(self._enter, prefix=prefix, training=training)
            feed = Mapped(x, y, weight, size, net, door, prefix)
        if drop_last:
            if whole:
                raise ConfigError(
                    f"{type(self.optimizer).__name__} needs all examples at once: drop_last is not for it"
                )
            feed.drop_last(size)
        return feed

    def _enter(self, x: Array, y: Array, weight: Array | None = None, prefix: str = "", training: bool = False) -> Data:
        """Check data, and bring them to the device."""
        net, backend, kind = self.network, self.network.backend, self.loss.targets
        if kind in ("numbers", "counts") and self.loss.class_weight is not None:
            kind = "probabilities"  # columns of classes: only for those do class weights mean anything
        x_name, y_name = f"{prefix}x", f"{prefix}y"
        x = enter(x, backend, net.dtype, x_name)
        y = enter_target(y, backend, net.dtype, kind, y_name)
        check_rows(x, net.input_shape, x_name)
        check_lengths(x, y, x_name, y_name)
        check_finite(x, backend, x_name)
        check_target(y, kind, net.output_shape, backend, y_name)
        if weight is not None:
            weight = enter_target(weight, backend, net.dtype, "numbers", f"{prefix}sample_weight")
            check_batch_weight(weight, x, backend, f"{prefix}sample_weight")
        if training and net.trained_on is None:
            net.trained_on = kind_of_input(x)
        else:
            warn_of_other_scale(x, net.trained_on, x_name)
        return x, y, weight

    def _try_single_example(self, feed: Feed) -> None:
        """Let a layer that cannot train on a single example say so before anything has changed."""
        if feed.examples is None or feed.size is None or (feed.examples % feed.size != 1 and feed.size != 1):
            return
        net, backend = self.network, self.network.backend
        with closing(feed.epoch()) as pieces:
            data = next(pieces)[0]
        row = take_rows(data[0], backend.asarray([0]), backend.dtype(net.dtype))
        with net.trees.reading() as (params, state):
            net.layer.forward(params, state, row, train=True, rng=self.rng.child("noise"))

    def _prepare_steps(self) -> None:
        """Make the slots, and compile the steps, unless those at hand fit."""
        net, optimizer = self.network, self.optimizer
        assert isinstance(optimizer, Optimizer)
        if self._slots_of != optimizer.kind:
            with net.trees.reading() as (params, _):
                self._slots, self._slots_of, self._optimizer_step = optimizer.slots(params), optimizer.kind, 0
        elif self._slots_given:
            self._slots = tree.map(net.backend.copy, self._slots)
        self._slots_given = False
        parts = (net.layer, self.loss, optimizer, self.augment, self.regularizer, self.on_nonfinite)
        if self._compiled_for != parts:
            rules = optimizer.phases()
            # New functions each time: a compiler keeps what it made for an old one.
            steps = {id(r): training_step(net, self.loss, r, self.augment, self.regularizer, self.rng) for r in rules}
            if self.on_nonfinite == "skip":
                steps = {key: skipping_step(step, net.backend) for key, step in steps.items()}
            compiled = {key: net.backend.compile(step) for key, step in steps.items()}
            self._steps, self._compiled_for = [(rule, compiled[id(rule)]) for rule in rules], parts

    def _run_step(self, data: Data, index: Array) -> Array:
        """One step; called where the network's trees are held exclusively."""
        net = self.network
        rule, step = self._steps[self._optimizer_step % len(self._steps)]
        hyper = {"step": self.step + 1, "optimizer": self._scaled(rule.hyper(self._optimizer_step + 1))}
        if net.trees.in_other_hands():
            net.settle()
        if data[2] is not None:
            hyper["usual_weight"] = self._usual_weight
        with memory_named(net.backend, index.shape[0]):
            trees = net.trees.own(net.backend.copy)
            params, state, self._slots, loss = step(*trees, self._slots, (*data, index), hyper)
        net.trees.stepped(params, state)
        self.step += 1
        self._optimizer_step += 1
        return loss

    def _scaled(self, hyper: dict[str, float]) -> dict[str, float]:
        return hyper | {"lr": hyper["lr"] * self.lr_factor} if "lr" in hyper else hyper

    @property
    def learning_rate(self) -> float | None:
        """Of the latest step; None where the optimizer has none."""
        assert isinstance(self.optimizer, Optimizer)
        return self._scaled(self.optimizer.hyper(self._optimizer_step)).get("lr")

    def epoch_order(self, n: int) -> Any:
        """The numbers of n examples in the order of the current epoch: an int host array of shape (n,)."""
        if self.order is None:
            return self.rng.child("order").at(self.epoch).permutation(n)
        return checked_order(self.order(n, self.epoch), n)


def _triple(data: Any) -> tuple[Any, Any, Any]:
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ConfigError("validation_data must be a pair (x, y), or (x, y, sample_weight)")
    return data[0], data[1], data[2] if len(data) == 3 else None
