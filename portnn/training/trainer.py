"""`Trainer`: mini-batch training of a network."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from typing import Any, Literal

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import (
    check_batch_size,
    check_callable,
    check_count,
    check_finite,
    check_lengths,
    check_rows,
    check_sample_weight,
    check_target,
    check_type,
    enter,
    enter_target,
    memory_named,
)
from portnn.data.augmentation import Augment
from portnn.errors import ConfigError, ShapeError
from portnn.functional import take_rows
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.random import Stream, as_stream
from portnn.regularizers import Regularizer
from portnn.training import full_batch
from portnn.training.callbacks import Callback
from portnn.training.divergence import refuse_loss
from portnn.training.epochs import train_epoch
from portnn.training.feeds import Feed, Iterated, Mapped, Resident, fits, is_on_disk
from portnn.training.history import History
from portnn.training.interrupts import between_steps
from portnn.training.measure import Metric, measure
from portnn.training.progress import Progress
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
        ``metric(prediction, target) -> 0-d array``, measured on validation data; see `portnn.metrics`.
    callbacks : iterable of Callback, default ()
    augment : callable, optional
        ``augment(x, rng) -> x`` changes the examples of each step of `fit` and `partial_fit` before the network sees
        them, and keeps shape and dtype; see `portnn.data.augmentation`. `evaluate`, validation and prediction see them
        unchanged.
    regularizer : Regularizer, optional
        A penalty on the parameters, which the examples of a batch share: the loss of a batch is ``(sum w_i loss_i +
        penalty) / sum w_i``, here and in the history. See `portnn.regularizers`.
    order : callable, optional
        ``order(n, epoch)`` gives the numbers of the n examples in the order of an epoch, counted from 0: an int host
        array of shape (n,). Default: a random order, drawn anew for every epoch.
    rng : int, Stream or None, default None
        Source of the order of the batches, of augmentation, and of what layers draw in training; equal on every backend
        for the same seed.
    on_nonfinite : {"stop", "skip"}, default "stop"
        What happens where the loss or an update is not finite: the run ends with DivergenceError; or such steps change
        nothing but the numbers of steps, their loss is NaN, and the history counts them as ``skipped``. To be able
        to skip, each step keeps a copy of what it changes.

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
    Ctrl-C ends a call between two steps, with KeyboardInterrupt, and leaves the network whole. Steps may overwrite the
    arrays of ``network.params`` and ``network.state`` that earlier steps made: copy them to keep them.

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
        self._stop = False
        #: The trees that our own steps made, and that they may therefore overwrite.
        self._own_params: Tree = None
        self._own_state: Tree = None
        #: How many steps the slots have seen.
        self._optimizer_step = 0
        self._slots: tuple[Tree, ...] = ()
        self._slots_of: object = None
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
        validation_data: tuple[Array, Array] | None = None,
        sample_weight: Array | None = None,
    ) -> History:
        """Train for some epochs more; every example once in each, in an order drawn anew.

        Parameters
        ----------
        x : array, shape ``(n, *input_shape)``
            From any library. uint8 is read as pixels (`functional.as_float`) and stays bytes until it is used.
        y : array, shape (n,) or (n, ...)
            What the loss takes as its target.
        epochs : int, default 1
            With a full-batch method: the largest number of iterations. 0 for a run that is resumed after its last
            epoch: callbacks then do what they do at its end.
        batch_size : int, optional
            Default 32. The last batch of an epoch may be smaller; a size above n means one batch. With a full-batch
            method, how many examples go through the network at once, default 1024: it bounds the memory, and the
            result is that of all examples together (but for layers that look at a whole batch, or draw numbers for it).
        validation_data : (x, y), optional
            Measured after every epoch.
        sample_weight : array, shape (n,), optional
            How much each example counts, >= 0: the loss of a batch is ``sum w_i loss_i / sum w_i``.

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
        return self._fit(lambda: self._feed(x, y, sample_weight, size), epochs, validation_data)

    def fit_batches(
        self,
        batches: Iterable[Any],
        *,
        epochs: int = 1,
        validation_data: tuple[Array, Array] | None = None,
    ) -> History:
        """Train on batches that somebody else makes, such as from data that no memory holds, in the order they come.

        Parameters
        ----------
        batches : iterable of (x, y) or (x, y, sample_weight)
            Each epoch is one iteration over it, in a thread of its own that is a few batches ahead; so an iterator
            serves one epoch only. The arrays are as in `fit`, and are checked batch by batch.
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
        return self._fit(lambda: Iterated(batches, self._enter, self.network.backend), epochs, validation_data)

    def _fit(self, feed_of: Callable[[], Feed], epochs: int, validation_data: tuple[Array, Array] | None) -> History:
        last = self.epoch + (0 if self.resuming and epochs == 0 else check_count("epochs", epochs))
        self._check_augment()
        with ExitStack() as stack:
            # At the end, and not at the beginning: a signal may ask to stop while the data are being checked.
            stack.callback(setattr, self, "_stop", False)
            stack.enter_context(self.network.backend.context())
            interruptible = stack.enter_context(between_steps())
            feed = feed_of()
            validation = (
                None if validation_data is None else self._feed(*_pair(validation_data), None, 1024, "validation ")
            )
            self._try_single_example(feed)
            self._begin(feed, stack)
            for callback in self.callbacks:
                stack.callback(callback.on_fit_end, self)
                callback.on_fit_begin(self, epochs, 1 if isinstance(self.optimizer, FullBatch) else feed.steps)
            self.resuming = False
            stack.callback(lambda: setattr(self.history, "stopped", self.epoch < last))
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
                self._end_epoch(validation, record)
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
        self._own_trees()

    def _end_epoch(self, validation: Feed | None, record: dict[str, float]) -> None:
        if validation is not None:
            record |= {f"val_{name}": value for name, value in measure(self, validation).items()}
        self._own_params, self._own_state = self.network.params, self.network.state
        self.epoch += 1
        self.progress = Progress()
        self.history.records.append(record)
        for callback in self.callbacks:
            callback.on_epoch_end(self, record)
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
            data = self._enter(x, y, sample_weight)
            self._own_trees()
            self._prepare_steps()
            (loss,) = backend.to_floats([self._run_step(data, backend.asarray(range(data[0].shape[0])))])
            if not math.isfinite(loss) and self.on_nonfinite == "stop":
                refuse_loss(self, loss, self.step, (data, backend.asarray(range(data[0].shape[0])), data[0].shape[0]))
        return loss

    def evaluate(self, x: Array, y: Array, *, batch_size: int = 1024) -> dict[str, float]:
        """The loss and the metrics on some data, at inference: ``{"loss": ..., "<metric>": ...}``."""
        with self.network.backend.context():
            return measure(self, self._feed(x, y, None, batch_size))

    def __getstate__(self) -> dict[str, Any]:
        # What was compiled holds functions, which cannot be pickled; it is made anew when it is needed.
        return vars(self) | {"_steps": [], "_compiled_for": None}

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

    def _feed(self, x: Array, y: Array, weight: Array | None, size: int, prefix: str = "") -> Resident | Mapped:
        """Where the batches of some data come from: the device, or the host or disk where they do not fit."""
        net, arrays = self.network, {f"{prefix}x": x, f"{prefix}y": y, "sample_weight": weight}
        whole = isinstance(self.optimizer, FullBatch)
        if whole or (not is_on_disk(x, y) and fits(net.backend, net.dtype, arrays)):
            data = self._enter(x, y, weight, prefix)
            return Resident(data, check_batch_size(size, data[0].shape[0]), net.backend)
        return Mapped(x, y, weight, size, net, self._enter, prefix)

    def _enter(self, x: Array, y: Array, weight: Array | None = None, prefix: str = "") -> Data:
        """Check data, and bring them to the device."""
        net, backend, kind = self.network, self.network.backend, self.loss.targets
        if kind == "numbers" and self.loss.class_weight is not None:
            kind = "probabilities"  # columns of classes: only for those do class weights mean anything
        x_name, y_name = f"{prefix}x", f"{prefix}y"
        x = enter(x, backend, net.dtype, x_name)
        y = enter_target(y, backend, net.dtype, kind, y_name)
        check_rows(x, net.input_shape, x_name)
        check_lengths(x, y, x_name, y_name)
        check_finite(x, backend, x_name)
        check_target(y, kind, net.output_shape, backend, y_name)
        if weight is not None:
            weight = enter_target(weight, backend, net.dtype, "numbers", "sample_weight")
            check_sample_weight(weight, x, backend)
        return x, y, weight

    def _try_single_example(self, feed: Feed) -> None:
        """Let a layer that cannot train on a single example say so before anything has changed."""
        if feed.examples is None or feed.size is None or (feed.examples % feed.size != 1 and feed.size != 1):
            return
        net, backend = self.network, self.network.backend
        with closing(feed.epoch()) as pieces:
            data = next(pieces)[0]
        row = take_rows(data[0], backend.asarray([0]), backend.dtype(net.dtype))
        net.layer.forward(net.params, net.state, row, train=True, rng=self.rng.child("noise"))

    def _own_trees(self) -> None:
        """Make what the steps may overwrite our own."""
        net = self.network
        if net.params is not self._own_params:
            net.params = tree.map(net.backend.copy, net.params)
        if net.state is not self._own_state:
            net.state = tree.map(net.backend.copy, net.state)

    def _prepare_steps(self) -> None:
        """Make the slots, and compile the steps, unless those at hand fit."""
        net, optimizer = self.network, self.optimizer
        assert isinstance(optimizer, Optimizer)
        if self._slots_of != optimizer.kind:
            self._slots, self._slots_of, self._optimizer_step = optimizer.slots(net.params), optimizer.kind, 0
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
        net = self.network
        rule, step = self._steps[self._optimizer_step % len(self._steps)]
        hyper = {"step": self.step + 1, "optimizer": self._scaled(rule.hyper(self._optimizer_step + 1))}
        with memory_named(net.backend, index.shape[0]):
            net.params, net.state, self._slots, loss = step(net.params, net.state, self._slots, (*data, index), hyper)
        self._own_params, self._own_state = net.params, net.state
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
        order = self.order(n, self.epoch)
        if order.shape != (n,):
            raise ShapeError(f"Trainer's order must give one number for each of {n} examples, not shape {order.shape}")
        return order


def _pair(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ConfigError("validation_data must be a pair (x, y)")
    return data[0], data[1]
