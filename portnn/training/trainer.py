"""`Trainer`: mini-batch training of a network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import check_batch_size, check_count, check_finite, check_lengths, check_rows, check_target
from portnn.data.batches import batches, shuffled_batches
from portnn.errors import DivergenceError
from portnn.functional import take_rows
from portnn.losses import Loss
from portnn.nn.network import Network
from portnn.optim import Optimizer
from portnn.random import Stream, as_stream
from portnn.training.callbacks import Callback
from portnn.training.history import History

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
    optimizer : Optimizer
    metrics : mapping of str to callable, optional
        ``metric(prediction, target) -> 0-d array``, measured on validation data; see `portnn.metrics`.
    callbacks : iterable of Callback, default ()
    rng : int, Stream or None, default None
        Source of the order of the batches and of all noise in training; equal on every backend for the same seed.

    Attributes
    ----------
    epoch, step : int
        How many epochs and steps have been done in all calls.
    history : History
        Of all calls of `fit`.

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
        optimizer: Optimizer,
        *,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Iterable[Callback] = (),
        rng: Stream | int | None = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.metrics = dict(metrics or {})
        self.callbacks = tuple(callbacks)
        self.rng = as_stream(rng)
        self.epoch = 0
        self.step = 0
        self.history = History()
        self._stop = False
        self._slots: tuple[Tree, ...] | None = None
        self._compiled = network.backend.compile(self._training_step)

    def fit(
        self,
        x: Array,
        y: Array,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[Array, Array] | None = None,
    ) -> History:
        """Train for some epochs more; every example once in each, in an order drawn anew.

        Parameters
        ----------
        x : array, shape (n, *input_shape)
            From any library. uint8 is read as pixels (`functional.as_float`) and stays bytes until it is used.
        y : array, shape (n,) or (n, ...)
            What the loss takes as its target.
        epochs : int, default 1
        batch_size : int, default 32
            The last batch of an epoch may be smaller; a size above n means one batch.
        validation_data : (x, y), optional
            Measured after every epoch.

        Returns
        -------
        History
            Of this and all earlier calls.

        Raises
        ------
        ShapeError, DataError, ConfigError
            If the data or an argument cannot be used; the network is unchanged then.
        DivergenceError
            If the loss is not finite any more.
        """
        check_count("epochs", epochs)
        data = self._enter(x, y, "x", "y")
        validation = None if validation_data is None else self._enter(*validation_data, "validation x", "validation y")
        n = data[0].shape[0]
        size = check_batch_size(batch_size, n)
        self._begin()
        for callback in self.callbacks:
            callback.on_fit_begin(self, epochs, math.ceil(n / size))
        try:
            last = self.epoch + epochs
            while self.epoch < last and not self._stop:
                record = self._train_epoch(data, size)
                if record is None:
                    break
                if validation is not None:
                    record |= {f"val_{name}": value for name, value in self._measure(*validation).items()}
                self.epoch += 1
                self.history.records.append(record)
                for callback in self.callbacks:
                    callback.on_epoch_end(self, record)
            self.history.stopped = self.epoch < last
        finally:
            for callback in self.callbacks:
                callback.on_fit_end(self)
        return self.history

    def partial_fit(self, x: Array, y: Array) -> float:
        """One step on one batch, for online learning: the loss before the step. Arguments and errors as in `fit`."""
        data = self._enter(x, y, "x", "y")
        self._begin()
        loss = self._run_step(data, self._on_device(range(data[0].shape[0])))
        return self._read([loss])[0]

    def evaluate(self, x: Array, y: Array, *, batch_size: int = 1024) -> dict[str, float]:
        """The loss and the metrics on some data, at inference: ``{"loss": ..., "<metric>": ...}``."""
        return self._measure(*self._enter(x, y, "x", "y"), batch_size=batch_size)

    def stop(self) -> None:
        """Ask a running `fit` to end after the current step; may be called from a signal handler."""
        self._stop = True

    def _enter(self, x: Array, y: Array, x_name: str, y_name: str) -> tuple[Array, Array]:
        """Check data, and bring them to the device: x as it is, class numbers as integers, other targets as floats."""
        net, backend = self.network, self.network.backend
        x, y = backend.asarray(x), backend.asarray(y)
        check_rows(x, net.input_shape, x_name)
        check_lengths(x, y, x_name, y_name)
        check_finite(x, backend, x_name)
        check_target(y, self.loss.targets, net.output_shape, backend, y_name)
        if self.loss.targets == "classes" and y.ndim == 1:
            return x, y
        return x, array_namespace(y).astype(y, backend.dtype(net.dtype))

    def _begin(self) -> None:
        """Make what the steps may overwrite our own."""
        net = self.network
        net.params = tree.map(net.backend.copy, net.params)
        net.state = tree.map(net.backend.copy, net.state)
        if self._slots is None:
            self._slots = self.optimizer.slots(net.params)
        self._stop = False

    def _training_step(
        self, params: Tree, state: Tree, slots: tuple[Tree, ...], batch: tuple[Array, Array, Array], hyper: Any
    ) -> tuple[Tree, Tree, tuple[Tree, ...], Array]:
        """The whole step as a pure function, which a backend may compile; the first three arguments are given up."""
        x, y, index = batch
        dtype = self.network.backend.dtype(self.network.dtype)
        rng = self.rng.child("noise").at(hyper["step"])
        prediction, state, backward = self.network.layer.forward(
            params, state, take_rows(x, index, dtype), train=True, rng=rng
        )
        loss, loss_backward = self.loss(prediction, array_namespace(y).take(y, index, axis=0))
        _, grads = backward(loss_backward(), input_grad=False)
        params, slots = self.optimizer.update(params, grads, slots, hyper["optimizer"])
        return params, state, slots, loss

    def _run_step(self, data: tuple[Array, Array], index: Array) -> Array:
        net = self.network
        self.step += 1
        hyper = {"step": self.step, "optimizer": self.optimizer.hyper(self.step)}
        net.params, net.state, self._slots, loss = self._compiled(
            net.params, net.state, self._slots, (*data, index), hyper
        )
        return loss

    def _on_device(self, index: Any) -> Array:
        return self.network.backend.asarray(index)

    def _train_epoch(self, data: tuple[Array, Array], size: int) -> dict[str, float] | None:
        """The record of an epoch; None if it was stopped before its end."""
        n = data[0].shape[0]
        pending: list[Array] = []
        total, seen = 0.0, 0
        begin = last_look = time.perf_counter()
        for index in shuffled_batches(n, size, self.rng.child("order").at(self.epoch)):
            pending.append(self._run_step(data, self._on_device(index)))
            seen += len(index)
            now = time.perf_counter()
            if now - last_look > _LOOK_EVERY or seen == n or self._stop:
                losses = self._look(pending)
                # Every batch but the last has ``size`` examples.
                total += size * sum(losses) - (size - len(index)) * losses[-1]
                pending, last_look = [], now
            if self._stop and seen < n:
                return None
        seconds = time.perf_counter() - begin
        return {"epoch": self.epoch + 1, "loss": total / n, "seconds": seconds, "samples_per_second": n / seconds}

    def _look(self, pending: list[Array]) -> list[float]:
        losses = self._read(pending)
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                step = self.step - len(losses) + i + 1
                raise DivergenceError(
                    f"the loss is {loss} at step {step} (epoch {self.epoch + 1}): try a smaller learning rate than "
                    f"{self.optimizer}, or scale the inputs"
                )
        for callback in self.callbacks:
            callback.on_losses(self, losses)
        return losses

    def _read(self, scalars: list[Array]) -> list[float]:
        """0-d arrays as floats, with one transfer."""
        stacked = array_namespace(scalars[0]).stack(scalars)
        return [float(value) for value in self.network.backend.to_numpy(stacked)]

    def _measure(self, x: Array, y: Array, batch_size: int = 1024) -> dict[str, float]:
        net = self.network
        dtype = net.backend.dtype(net.dtype)
        n = x.shape[0]
        functions = {"loss": lambda p, t: self.loss(p, t)[0], **self.metrics}
        sums: dict[str, Any] = dict.fromkeys(functions, 0.0)
        for index in batches(n, check_batch_size(batch_size, n)):
            rows = self._on_device(index)
            prediction = net.layer.apply(net.params, net.state, take_rows(x, rows, dtype))
            target = array_namespace(y).take(y, rows, axis=0)
            for name, function in functions.items():
                sums[name] = sums[name] + function(prediction, target) * float(len(index))
        values = self._read(list(sums.values()))
        return {name: value / n for name, value in zip(functions, values, strict=True)}
