"""`Trainer`: mini-batch training of a network."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from array_api_compat import array_namespace

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
)
from portnn.data.augmentation import Augment
from portnn.data.batches import batches, in_batches, shuffled_batches
from portnn.errors import ConfigError, DivergenceError, ShapeError
from portnn.functional import take_rows
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import FullBatch, Optimizer
from portnn.random import Stream, as_stream
from portnn.regularizers import Regularizer
from portnn.training import full_batch
from portnn.training.callbacks import Callback
from portnn.training.history import History
from portnn.training.interrupts import between_steps
from portnn.training.steps import Data, gather, training_step

__all__ = ["Trainer"]

#: Seconds between two looks at the loss; each look waits for the device.
_LOOK_EVERY = 0.1

Metric = Callable[[Array, Array], Array]


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

    Attributes
    ----------
    epoch, step : int
        How many epochs and steps have been done in all calls.
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
        self._check_augment()
        self.rng = as_stream(rng)
        self.epoch = 0
        self.step = 0
        self.lr_factor = 1.0
        self.history = History()
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
        x : array, shape (n, *input_shape)
            From any library. uint8 is read as pixels (`functional.as_float`) and stays bytes until it is used.
        y : array, shape (n,) or (n, ...)
            What the loss takes as its target.
        epochs : int, default 1
            With a full-batch method: the largest number of iterations.
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
        last = self.epoch + check_count("epochs", epochs)
        self._check_augment()
        with ExitStack() as stack:
            # At the end, and not at the beginning: a signal may ask to stop while the data are being checked.
            stack.callback(setattr, self, "_stop", False)
            stack.enter_context(self.network.backend.context())
            interruptible = stack.enter_context(between_steps())
            data = self._enter(x, y, sample_weight)
            n = data[0].shape[0]
            whole = isinstance(self.optimizer, FullBatch)
            size = check_batch_size((1024 if whole else 32) if batch_size is None else batch_size, n)
            validation = None
            if validation_data is not None:
                validation = self._enter(*_pair(validation_data), None, "validation ")
            if n % size == 1 or size == 1:
                self._try_single_example(data)
            self._own_trees()
            for callback in self.callbacks:
                stack.callback(callback.on_fit_end, self)
                callback.on_fit_begin(self, epochs, 1 if whole else math.ceil(n / size))
            stack.callback(lambda: setattr(self.history, "stopped", self.epoch < last))
            if whole:
                end = functools.partial(self._end_epoch, validation)
                result = full_batch.minimize(self, data, epochs, size, interruptible, end)
                self.history.message, self.history.status, self.history.minimum = result
                last = last if self._stop else self.epoch  # it may be done before its last iteration
                return self.history
            self._prepare_steps()
            while self.epoch < last and not self._stop:
                record = self._train_epoch(data, size, interruptible)
                if record is None:
                    break
                self._end_epoch(validation, record)
        return self.history

    def _end_epoch(self, validation: Data | None, record: dict[str, float]) -> None:
        if validation is not None:
            record |= {f"val_{name}": value for name, value in self._measure(*validation[:2]).items()}
        self._own_params, self._own_state = self.network.params, self.network.state
        self.epoch += 1
        self.history.records.append(record)
        for callback in self.callbacks:
            callback.on_epoch_end(self, record)

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
            self._refuse_divergence([loss])
        return loss

    def evaluate(self, x: Array, y: Array, *, batch_size: int = 1024) -> dict[str, float]:
        """The loss and the metrics on some data, at inference: ``{"loss": ..., "<metric>": ...}``."""
        with self.network.backend.context():
            return self._measure(*self._enter(x, y)[:2], batch_size=batch_size)

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

    def _try_single_example(self, data: Data) -> None:
        """Let a layer that cannot train on a single example say so before anything has changed."""
        net, backend = self.network, self.network.backend
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
        parts = (net.layer, self.loss, optimizer, self.augment, self.regularizer)
        if self._compiled_for != parts:
            rules = optimizer.phases()
            # New functions each time: a compiler keeps what it made for an old one.
            steps = {id(r): training_step(net, self.loss, r, self.augment, self.regularizer, self.rng) for r in rules}
            compiled = {key: net.backend.compile(step) for key, step in steps.items()}
            self._steps, self._compiled_for = [(rule, compiled[id(rule)]) for rule in rules], parts

    def _run_step(self, data: Data, index: Array) -> Array:
        net = self.network
        rule, step = self._steps[self._optimizer_step % len(self._steps)]
        hyper = {"step": self.step + 1, "optimizer": self._scaled(rule.hyper(self._optimizer_step + 1))}
        net.params, net.state, self._slots, loss = step(net.params, net.state, self._slots, (*data, index), hyper)
        self._own_params, self._own_state = net.params, net.state
        self.step += 1
        self._optimizer_step += 1
        return loss

    def _scaled(self, hyper: dict[str, float]) -> dict[str, float]:
        return hyper | {"lr": hyper["lr"] * self.lr_factor} if "lr" in hyper else hyper

    def _train_epoch(self, data: Data, size: int, interruptible: Callable[[], None]) -> dict[str, float] | None:
        """The record of an epoch; None if it was stopped before its end."""
        backend, n = self.network.backend, data[0].shape[0]
        pending: list[Array] = []
        total, seen = 0.0, 0
        begin = last_look = time.perf_counter()
        for index in self._batches(n, size):
            pending.append(self._run_step(data, backend.asarray(index)))
            interruptible()
            seen += len(index)
            now = time.perf_counter()
            if now - last_look > _LOOK_EVERY or seen == n or self._stop:
                losses = backend.to_floats(pending)
                self._refuse_divergence(losses)
                for callback in self.callbacks:
                    callback.on_losses(self, losses)
                # Every batch but the last has ``size`` examples.
                total += size * sum(losses) - (size - len(index)) * losses[-1]
                pending, last_look = [], now
            if self._stop and seen < n:
                return None
        seconds = time.perf_counter() - begin
        self._refuse_bad_parameters()
        record = {"epoch": self.epoch + 1, "loss": total / n, "seconds": seconds, "samples_per_second": n / seconds}
        assert isinstance(self.optimizer, Optimizer)
        hyper = self._scaled(self.optimizer.hyper(self._optimizer_step))
        return record | ({"lr": hyper["lr"]} if "lr" in hyper else {})

    def _batches(self, n: int, size: int) -> Iterable[Any]:
        """The numbers of the examples of each batch of this epoch, on the host."""
        if self.order is None:
            return shuffled_batches(n, size, self.rng.child("order").at(self.epoch))
        order = self.order(n, self.epoch)
        if order.shape != (n,):
            raise ShapeError(f"Trainer's order must give one number for each of {n} examples, not shape {order.shape}")
        return in_batches(order, size)

    def _refuse_divergence(self, losses: list[float]) -> None:
        """Raise if one of the losses of the latest steps is not finite."""
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                step = self.step - len(losses) + i + 1
                raise DivergenceError(f"the loss is {loss} at step {step} (epoch {self.epoch + 1}): {self._advice()}")

    def _refuse_bad_parameters(self) -> None:
        """Raise if a parameter is not finite: the loss of the latest step was computed before its update."""
        for path, leaf in tree.flatten(self.network.params).items():
            xp = array_namespace(leaf)
            if not bool(xp.all(xp.isfinite(leaf))):
                raise DivergenceError(f"parameter {path} is not finite after step {self.step}: {self._advice()}")

    def _advice(self) -> str:
        return f"try a smaller learning rate than in {self.optimizer}, or scale the inputs"

    def _measure(self, x: Array, y: Array, batch_size: int = 1024) -> dict[str, float]:
        net, backend = self.network, self.network.backend
        dtype = backend.dtype(net.dtype)
        n = x.shape[0]
        totals, weights, sizes = [], [], []
        values: dict[str, list[Any]] = {name: [] for name in self.metrics}
        for index in batches(n, check_batch_size(batch_size, n)):
            rows = backend.asarray(index)
            examples, target, _ = gather((x, y, None, rows), dtype)
            prediction = net.layer.apply(net.params, net.state, examples)
            sizes.append(len(index))
            total, weight = self.loss.totals(prediction, target)
            totals.append(total)
            weights.append(weight)
            for name, metric in self.metrics.items():
                values[name].append(self._scalar(name, metric(prediction, target)))
        columns = {name: backend.to_floats(scalars) for name, scalars in values.items()}
        means = {name: sum(v * k for v, k in zip(column, sizes, strict=True)) / n for name, column in columns.items()}
        return {"loss": sum(backend.to_floats(totals)) / (sum(backend.to_floats(weights)) or 1.0)} | means

    def _scalar(self, name: str, value: Any) -> Array:
        """What a metric returned, as a 0-d array of the backend; a Python or NumPy number will do."""
        backend = self.network.backend
        array = value if backend.owns(value) else backend.asarray(value, self.network.dtype)
        if array.ndim != 0:
            raise ShapeError(f"metric {name!r} must return one number, not an array of shape {tuple(array.shape)}")
        return array


def _pair(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ConfigError("validation_data must be a pair (x, y)")
    return data[0], data[1]
