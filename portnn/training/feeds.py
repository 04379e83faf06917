"""Where the batches of an epoch come from: arrays on the device, arrays on disk, or any iterable."""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any, TypeAlias

import numpy as np

from portnn._typing import Array
from portnn.backend import Backend, Bring, as_host
from portnn.checks import check_batch_size
from portnn.data.batches import batches, in_batches
from portnn.data.prefetch import handed_over
from portnn.door import check_lengths, check_rows, check_sample_weight, enter_target
from portnn.errors import ConfigError, DataError, PortnnError
from portnn.nn.network import Network
from portnn.training.batch import Examples, Piece

__all__ = ["Feed", "Iterated", "Mapped", "Piece", "Resident", "fits", "is_on_disk"]

#: Checks examples, targets and weights (or None), and brings them to the device.
Door: TypeAlias = Callable[[Any, Any, Any], Examples]

#: The numbers of n examples, shape (n,), in the order of an epoch.
Order: TypeAlias = Callable[[int], Any]

_log = logging.getLogger(__name__)


class Feed(ABC):
    """The batches of an epoch, in its order, or (``order=None``) one after the other.

    Attributes
    ----------
    examples : int or None
        Of an epoch; None where nobody knows before its end.
    size : int or None
        Of a batch; only the last one may be smaller. None where the source decides.
    backlog : int
        Of how many batches somebody may hold the arrays.
    shared : bool
        Whether all batches are of the same examples, and here at once.
    while_waiting : callable
        Called without arguments some 50 times a second while a batch is waited for; may raise to give the epoch up.
    """

    examples: int | None
    size: int | None
    backlog: int
    shared = False
    while_waiting: Callable[[], object] = staticmethod(lambda: None)

    @property
    def usual_weight(self) -> float:
        """The mean weight of the examples that count; 1 where nobody knows it before the end."""
        return 1.0

    @abstractmethod
    def epoch(self, order: Order | None = None, skip: int = 0) -> Generator[Piece]:
        """The batches of an epoch after the first ``skip``; to be closed by the caller."""

    def drop_last(self, size: int) -> None:
        """Leave the last batch of an epoch out where it has not ``size`` examples; ConfigError if that leaves none."""
        if self.examples is not None and self.size is not None:
            if self.examples < size:
                raise ConfigError(
                    f"drop_last leaves nothing of {self.examples} examples in batches of {size}: take a smaller "
                    "batch_size, or drop_last=False"
                )
            self.examples -= self.examples % self.size

    @property
    def steps(self) -> int | None:
        """How many batches make an epoch, where that is known."""
        return None if self.examples is None or self.size is None else -(-self.examples // self.size)


class Resident(Feed):
    """Arrays on the device; a batch is a list of numbers, and the step gathers the examples.

    They may share memory with those that were given.
    """

    backlog = 2**63
    shared = True

    def __init__(self, data: Examples, size: int, backend: Backend) -> None:
        self.data, self._backend = data, backend
        self.examples: int = data.x.shape[0]
        self.size: int = size

    @property
    def usual_weight(self) -> float:
        return _usual(self.data.weight, self._backend)

    def epoch(self, order: Order | None = None, skip: int = 0) -> Generator[Piece]:
        for index in _indices(self.data.x.shape[0], self.size, order, skip, self.steps):
            yield Piece(self.data, index)


class _Fetched(Feed):
    """Batches that are made on the host by a thread, while the device computes."""

    backlog = 8

    def __init__(self, door: Door, backend: Backend) -> None:
        self._door, self._backend = door, backend

    @abstractmethod
    def _host_batches(self, order: Order | None, skip: int) -> Iterator[tuple[Any, Any, Any]]:
        """Examples, targets and weights (or None) of each batch, unchecked."""

    def epoch(self, order: Order | None = None, skip: int = 0) -> Generator[Piece]:
        source = self._pieces(order, skip, self._backend.uploads())
        with closing(handed_over(source, while_waiting=lambda: self.while_waiting())) as pieces:
            for piece, arrived in pieces:
                arrived()
                yield piece

    def _pieces(self, order: Order | None, skip: int, uploads: AbstractContextManager[Bring]) -> Iterator[Any]:
        with uploads as bring:
            for number, batch in enumerate(self._host_batches(order, skip), skip + 1):
                try:
                    brought = bring(lambda: self._enter(*batch))  # noqa: B023  (called at once)
                except PortnnError as error:
                    raise type(error)(f"batch {number} of the epoch: {error}") from None
                yield brought

    def _enter(self, x: Any, y: Any, weight: Any) -> Piece:
        data = self._door(x, y, weight)
        return Piece(data, np.arange(data.x.shape[0]))


class Mapped(_Fetched):
    """Arrays that stay on disk (``np.load(path, mmap_mode="r")``) or on the host but for the examples of a few batches.

    The order is that of `Resident`, and so is every result. Shapes and weights are checked at once, values batch by
    batch.
    """

    def __init__(self, x: Any, y: Any, weight: Any, size: int, network: Network, door: Door, prefix: str) -> None:
        super().__init__(door, network.backend)
        x_name, y_name = f"{prefix}x", f"{prefix}y"
        self._x, self._y = _host_rows(x, x_name), _host_rows(y, y_name)
        check_rows(self._x, network.input_shape, x_name)
        check_lengths(self._x, self._y, x_name, y_name)
        self._weight, self._usual_weight = None, 1.0
        if weight is not None:
            name = f"{prefix}sample_weight"
            host = as_host(weight, name)
            entered = enter_target(host, self._backend, network.dtype, "numbers")
            check_sample_weight(entered, self._x, self._backend, name)
            self._weight, self._usual_weight = host, _usual(entered, self._backend)
        self.examples: int = self._x.shape[0]
        self.size: int = check_batch_size(size, self.examples)

    @property
    def usual_weight(self) -> float:
        return self._usual_weight

    def _host_batches(self, order: Order | None, skip: int) -> Iterator[tuple[Any, Any, Any]]:
        for index in _indices(self._x.shape[0], self.size, order, skip, self.steps):
            yield self._x[index], self._y[index], None if self._weight is None else self._weight[index]


class Iterated(_Fetched):
    """Batches that an iterable gives: (x, y) or (x, y, sample_weight), of any sizes. Each epoch iterates anew.

    The iterable may fill the same arrays again and again: what is read ahead is in memory of our own.
    """

    examples = size = None

    def __init__(self, source: Iterable[Any], door: Door, backend: Backend) -> None:
        super().__init__(door, backend)
        self._source = source
        if not isinstance(source, Iterable):
            raise ConfigError(f"batches must be an iterable of (x, y) or (x, y, sample_weight), not {source!r}")

    def _enter(self, x: Any, y: Any, weight: Any) -> Piece:
        (x, y, weight), index = super()._enter(x, y, weight)
        copy = self._backend.copy
        return Piece(Examples(copy(x), copy(y), None if weight is None else copy(weight)), index)

    def _host_batches(self, order: Order | None, skip: int) -> Iterator[tuple[Any, Any, Any]]:
        count = 0
        for batch in self._source:
            count += 1
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise DataError(
                    f"batch {count} of the epoch must be (x, y) or (x, y, sample_weight), not {type(batch)}"
                )
            if count > skip:
                yield (*batch, *[None] * (3 - len(batch)))
        if count == 0:
            raise DataError(
                "the iterable gave no batches: an iterator serves one epoch only, a list, or an object whose __iter__ "
                "begins anew, any number"
            )
        if count < skip:
            raise DataError(f"{skip} batches of this epoch are done, and the iterable gave {count} in all")


def fits(backend: Backend, dtype: str, arrays: Mapping[str, Any]) -> bool:
    """Whether data can live on the device: what is not there yet takes no more than half of what it has available.

    The other half is for the network, what its layers keep for the backward pass, and the optimizer. uint8 stay bytes,
    everything else is counted as ``dtype``. ``arrays`` holds them by the names that errors give them.
    """
    available = backend.memory().available
    if available is None:
        return True
    hosts = [as_host(a, name) for name, a in arrays.items() if a is not None and not backend.owns(a)]
    itemsize = np.dtype(dtype).itemsize
    needed = sum(a.size * (1 if a.dtype == np.uint8 else itemsize) for a in hosts)
    if 2 * needed > available:
        _log.info("%s bytes of data stay on the host: %s has %s available", f"{needed:,}", backend, f"{available:,}")
    return 2 * needed <= available


def is_on_disk(*arrays: Any) -> bool:
    """Whether one of some arrays is a memory map, as `numpy.load` gives with ``mmap_mode``."""
    return any(isinstance(a, np.memmap) for a in arrays)


def _host_rows(a: Any, what: str) -> Any:
    """An array whose rows can be taken on the host; a memory map stays one."""
    return a if isinstance(a, np.memmap) else as_host(a, what)


def _usual(weight: Array | None, backend: Backend) -> float:
    if weight is None:
        return 1.0
    host = backend.to_numpy(weight)
    return float(host[host > 0].mean(dtype=np.float64))


def _indices(n: int, size: int, order: Order | None, skip: int, steps: int | None) -> Iterator[Any]:
    every = batches(n, size) if order is None else in_batches(order(n), size)
    return itertools.islice(every, skip, steps)
