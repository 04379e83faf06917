"""What a backend is, and how one is found.

A backend binds an array library and one of its devices. portnn itself knows no concrete library: backends are
classes advertised under the entry-point group ``portnn.backends``, the five that come with portnn as well as any
other that is installed.
"""

from __future__ import annotations

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from portnn._typing import Array, DType, Namespace, Shape
from portnn.errors import BackendError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from portnn.kernels import Kernel
    from portnn.random import Stream

__all__ = [
    "Backend",
    "Loop",
    "Memory",
    "Status",
    "as_host",
    "available_backends",
    "backend_class_of",
    "backend_of",
    "first_line",
    "get_backend",
    "library_status",
]


#: ``made, arrived = bring(make)``; see `Backend.uploads`.
Bring: TypeAlias = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]


class Status(NamedTuple):
    """Whether a backend can be used here; if not, one sentence that says why and what to do."""

    usable: bool
    message: str
    version: str = ""


def library_status(module: str, name: str, install: str) -> Status:
    """Whether a library can be imported: the first half of a backend's status.

    Parameters
    ----------
    module : str
        The module to import.
    name : str
        The library's name in sentences.
    install : str
        What to do where it is missing.
    """
    try:
        library = import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            return Status(False, f"{name} is not installed: {install}")
        return Status(False, f"{name} is installed but cannot be imported: {error}")
    except Exception as error:  # a missing shared library, an ABI mismatch, two wheels side by side: no common type
        return Status(False, f"{name} is installed but cannot be imported: {first_line(error)}")
    return Status(True, "ready", str(library.__version__))


def first_line(error: BaseException) -> str:
    """An error of another library in one line, for a sentence of ours."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]


class Memory(NamedTuple):
    """Bytes of a device's memory; None where the library does not tell.

    Attributes
    ----------
    free, total : int or None
        Of the device, for all processes together.
    used, held : int or None
        What the arrays of this process take, and what its library holds to hand it out again. ``free + held - used``
        is what new arrays can have.
    """

    free: int | None = None
    total: int | None = None
    used: int | None = None
    held: int | None = None

    @property
    def available(self) -> int | None:
        """What new arrays can have."""
        return None if self.free is None else self.free + (self.held or 0) - (self.used or 0)


class Loop:
    """Does steps of a training in a row: the portable form, in which Python stands between two of them.

    Parameters
    ----------
    step : callable
        ``step(params, state, slots, batch, hyper) -> params, state, slots, loss``; see `Backend.compile`.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step

    def run(
        self, carry: tuple[Any, ...], data: Any, rows: Sequence[Array], hyper: Sequence[Mapping[str, Any]]
    ) -> tuple[tuple[Any, ...], Sequence[Array]]:
        """Do ``len(rows)`` steps.

        Parameters
        ----------
        carry : (params, state, slots)
            Given up by the caller.
        data : portnn.training.batch.Examples
            On the device; ``data.batch(index)`` is what the step takes.
        rows : sequence of integer arrays
            The numbers of the examples in the batch of each step.
        hyper : sequence of mapping
            The numbers of each step.

        Returns
        -------
        carry : (params, state, slots)
        losses : sequence of 0-d arrays
            One for each step; on the device.
        """
        losses = []
        for index, numbers in zip(rows, hyper, strict=True):
            *carry, loss = self.step(*carry, data.batch(index), numbers)
            losses.append(loss)
        return tuple(carry), losses


class Backend(ABC):
    """An array library and one of its devices.

    A subclass imports its library only inside its methods: the class must be loadable, and ``status()``
    answerable, where the library is missing. Instances are cheap and compare by name and device.

    Attributes
    ----------
    name : str
        The entry point's name, such as ``"torch"``.
    aliases : tuple of str
        Other names that users may give, such as ``"cpu"``.
    array_modules : tuple of str
        Top-level modules in which the library defines the types of its arrays.
    missing_dtype_hint : str
        How to go on, appended to the error of `dtype`.
    device : str
        The device as the library writes it, such as ``"cuda:0"``.
    xp : module
        The library's namespace that follows the array API standard.
    precision : {"float32", "tf32"}
        How products of float32 matrices are computed inside `context`; see `with_precision`.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    array_modules: ClassVar[tuple[str, ...]]
    missing_dtype_hint: ClassVar[str] = ""
    device: str
    xp: Namespace
    precision: str = "float32"

    @abstractmethod
    def __init__(self, device: str | None = None) -> None:
        """Bind a device; None means the library's usual one. Raises BackendError if it cannot be used."""

    @classmethod
    @abstractmethod
    def status(cls) -> Status:
        """Whether the library can compute here. May import it; is called only on demand."""

    @classmethod
    @abstractmethod
    def from_array(cls, array: Array) -> Backend:
        """The backend of the device on which an array of this library lives."""

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        """Twins by the name of the portable function that they replace."""
        return {}

    @abstractmethod
    def owns(self, array: Array) -> bool:
        """Whether an array is of this library and lives on this device."""

    @abstractmethod
    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """Bring an array here from the host, from another device or from another library.

        May share memory with ``x``. ``dtype`` is a standard name such as ``"float32"``; None keeps the dtype,
        except that 64-bit integers are narrowed to 32 bits where the device has no others.

        Raises DataError where ``x`` holds no real numbers, or integers that do not fit; BackendError where the device
        lacks the dtype.
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """A NumPy array on the host with the same values; waits for the device.

        May share memory with the array: copy it to keep it while a training goes on.
        """

    @abstractmethod
    def copy(self, array: Array) -> Array:
        """The same values in memory of their own."""

    def dtype(self, name: str) -> DType:
        """The library's dtype of a standard name. Raises BackendError if this device does not have it."""
        if not self.supports(name):
            raise BackendError(f"backend {self} has no {name}{self.missing_dtype_hint}")
        return getattr(self.xp, name)

    def host_array(self, x: Any, dtype: str | None) -> NDArray[Any]:
        """``x`` on the host, with the dtype that it is to have here: the first half of `asarray`."""
        host = as_host(x)
        if dtype is None and "int64" in host.dtype.name and not self.supports(host.dtype.name):
            dtype = host.dtype.name.replace("64", "32")
            if host.size and not (host.min() >= -(2**31) and host.max() < 2**31):
                raise DataError(f"integers of up to {host.max()} do not fit into {dtype}, the widest of backend {self}")
        wanted = dtype or host.dtype.name
        self.dtype(wanted)
        with _numpy().errstate(over="ignore"):  # 1e300 becomes infinity, which the check of the data meets
            return host.astype(wanted, copy=False)

    def supports(self, dtype: str) -> bool:
        """Whether arrays of the standard dtype of this name can live here."""
        return hasattr(self.xp, dtype)

    def context(self) -> AbstractContextManager[Any]:
        """Entered around computations that people start.

        Selects the device, where the library has a current one, and the precision, where there is a choice.
        """
        return nullcontext()

    def without_tf32(self) -> str | None:
        """Why this device cannot multiply in TF32: the end of a sentence; None if it can."""
        return "only NVIDIA GPUs from compute capability 8.0 (Ampere) on have it"

    def with_precision(self, precision: str) -> Backend:
        """The same device, with another precision of its matrix products.

        Parameters
        ----------
        precision : {"float32", "tf32"}
            ``"tf32"`` rounds the factors of products of float32 matrices to 10 bits after the binary point, and adds up
            in float32: several times as fast on NVIDIA's tensor cores, with relative errors of about 1e-3.

        Raises
        ------
        BackendError
            If the device has no TF32, or the name is not known.
        """
        if precision not in ("float32", "tf32"):
            raise BackendError(f'precision must be "float32" or "tf32", not {precision!r}')
        if precision == "tf32" and (reason := self.without_tf32()) is not None:
            raise BackendError(f"backend {self} cannot multiply in TF32: {reason}; use precision float32")
        chosen = copy.copy(self)
        chosen.precision = precision
        return chosen

    def uploads(self) -> AbstractContextManager[Bring]:
        """For a thread that brings data here while another one computes: called in that one, and entered in the thread.

        Inside, ``made, arrived = bring(make)`` gives what ``make()`` brought here, and a function that the other thread
        calls before it uses it.
        """
        return _uploads(self)

    def to_floats(self, scalars: Sequence[Array]) -> list[float]:
        """0-d arrays as Python floats, with one transfer; waits for the device."""
        return [float(value) for value in self.to_numpy(self.xp.stack(list(scalars)))] if scalars else []

    def synchronize(self) -> None:  # noqa: B027  (most devices have nothing to wait for)
        """Wait until everything that was started on the device has ended; for timing."""

    def memory(self) -> Memory:
        """The memory of the device, and what this process has of it, in bytes."""
        return Memory()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error of the library says that there is not enough memory."""
        return isinstance(error, MemoryError)

    def draw(self, function: Callable[[Any], NDArray[Any]], step: Any, shape: Shape, dtype: str) -> Array:
        """Random numbers of a step, made on the host by ``function(step)``, also within a compiled step."""
        return self.asarray(function(step), dtype)

    def uniform(self, stream: Stream, shape: Shape, dtype: str) -> Array:
        """The stream's numbers from [0, 1): the bits of ``stream.generator().random(shape, dtype)``."""
        return self.draw(lambda step: _draw_uniform(stream.at(step), shape, dtype), stream.step, shape, dtype)

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A faster form of a pure training step, or the step itself.

        The step's first three arguments (params, state, optimizer slots) are given up by the caller.
        """
        return step

    def loop(self, step: Callable[..., Any]) -> Loop:
        """What does many such steps in a row."""
        return Loop(self.compile(step))

    def describe(self) -> str:
        """The device in words, for tables and reports."""
        return self.device

    def __reduce__(self) -> tuple[Any, ...]:
        # The namespace is a module, which cannot be pickled; the name and the precision say all.
        return get_backend, (str(self), self.precision)

    def __getstate__(self) -> dict[str, str]:
        # The same for those who, as skops does, look at the state only.
        return {"device": self.device, "precision": self.precision}

    def __setstate__(self, state: dict[str, str]) -> None:
        vars(self).update(vars(get_backend(f"{self.name}:{state['device']}", state["precision"])))

    def __copy__(self) -> Backend:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backend) and (self.name, self.device) == (other.name, other.device)

    def __hash__(self) -> int:
        return hash((self.name, self.device))

    def __str__(self) -> str:
        return f"{self.name}:{self.device}"

    def __repr__(self) -> str:
        return f"<portnn backend {self}>"


@contextmanager
def _uploads(backend: Backend) -> Iterator[Bring]:
    """The `Backend.uploads` of libraries that keep the order of their work by themselves."""
    with backend.context():
        yield lambda make: (make(), _nothing)


def _nothing() -> None:
    pass


def _draw_uniform(stream: Stream, shape: Shape, dtype: Any) -> NDArray[Any]:
    return stream.generator().random(shape, dtype=dtype)


@dataclass(frozen=True)
class _Broken:
    """Stands for an entry point that cannot be used, so that it does not take the others down.

    ``aliases`` and ``array_modules`` are what it claims beside its name: who asks for one of them is told.
    """

    name: str
    message: str
    aliases: tuple[str, ...] = ()
    array_modules: tuple[str, ...] = ()


@functools.cache
def _discover() -> Mapping[str, type[Backend] | _Broken]:
    """Every advertised backend class by name, in the order of the names.

    Where two claim the same name, alias or module, nobody can say whose it is: both are broken.
    """
    from importlib.metadata import entry_points  # 20 ms, and not needed for every use of portnn

    found: dict[str, type[Backend] | _Broken] = {}
    sources: dict[str, Any] = {}
    for entry in sorted(entry_points(group="portnn.backends"), key=lambda e: (e.name, e.value)):
        try:
            loaded: type[Backend] | _Broken = _checked(entry.load(), entry.name)
        except Exception as error:
            # Somebody else's code: whatever it raises must end up in a sentence of the table.
            loaded = _Broken(entry.name, f"{entry.value} cannot be loaded: {first_line(error)}")
        if entry.name in found and loaded is not found[entry.name]:
            both = _name_two(sources[entry.name], entry)
            loaded = _Broken(entry.name, f"{both} advertise a backend called {entry.name!r}: uninstall one of them")
        found[entry.name], sources[entry.name] = loaded, entry
    for first, second in itertools.combinations([e for e in found.values() if not isinstance(e, _Broken)], 2):
        names = {first.name, *first.aliases} & {second.name, *second.aliases}
        modules = {*first.array_modules} & {*second.array_modules}
        if names or modules:
            both = _name_two(sources[first.name], sources[second.name])
            what = f"the device {min(names)!r} is" if names else f"the arrays of {min(modules)} are"
            for one in (first, second):
                message = f"{both} both say that {what} theirs: uninstall one of them"
                found[one.name] = _Broken(one.name, message, tuple(one.aliases), tuple(one.array_modules))
    return found


def _name_two(one: Any, other: Any) -> str:
    """Two entry points, as the subject of a sentence."""
    named = [f"{e.value} (entry point {e.name!r}{f' of {e.dist.name}' if e.dist else ''})" for e in (one, other)]
    return " and ".join(named)


def _checked(loaded: Any, name: str) -> type[Backend]:
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise TypeError(f"{loaded!r} is no subclass of portnn.backend.Backend")
    if getattr(loaded, "name", None) != name:
        raise ValueError(f"the class must have name = {name!r}, like its entry point")
    if not hasattr(loaded, "array_modules"):
        raise ValueError("the class must say in array_modules where its arrays are defined")
    for claim in ("aliases", "array_modules"):
        value = getattr(loaded, claim)
        if isinstance(value, str) or not all(isinstance(name, str) for name in value):  # "numpy" has "num" in it
            raise TypeError(f"{claim} must be a tuple of names, not {value!r}")
    return loaded


def available_backends() -> dict[str, Status]:
    """The status of every registered backend, by name. Imports the libraries that are installed."""
    return {name: _status(entry) for name, entry in _discover().items()}


def _status(entry: type[Backend] | _Broken) -> Status:
    if isinstance(entry, _Broken):
        return Status(False, entry.message)
    try:
        return Status(*entry.status())
    except Exception as error:  # as above
        return Status(False, f"its status cannot be found out: {first_line(error)}")


def get_backend(device: str | Backend = "cpu", precision: str | None = None) -> Backend:
    """The backend of a device name: an alias, a backend's name, or ``"name:device"``.

    Parameters
    ----------
    device : str or Backend
        ``"cpu"`` (NumPy), ``"gpu"`` or ``"cuda"`` (CuPy), ``"numpy"``, ``"cupy:1"``, ``"torch"``,
        ``"torch:cuda"``, ``"jax"``, ``"strict"``, or the name of any other registered backend.
    precision : {"float32", "tf32"}, optional
        Of matrix products; see `Backend.with_precision`. Default: float32, or what a given backend has.

    Raises
    ------
    BackendError
        If the name is unknown or the backend cannot be used here. There is no silent fallback.
    """
    if isinstance(device, Backend):
        return device if precision is None else device.with_precision(precision)
    if not isinstance(device, str):
        raise BackendError(f'a device is given by its name, such as "cpu" or "torch:cuda", not by {device!r}')
    name, _, where = device.partition(":")
    classes = _discover()
    for entry in classes.values():
        if name in entry.aliases:
            name = entry.name
    if not classes:
        raise BackendError(
            "no backend is registered: portnn must be installed, not only on the path (pip install -e .)"
        )
    if name not in classes:
        aliases = [alias for entry in classes.values() for alias in entry.aliases]
        raise BackendError(f"unknown device {device!r}; known are {', '.join(sorted([*aliases, *classes]))}")
    entry = classes[name]
    status = _status(entry)
    if isinstance(entry, _Broken) or not status.usable:
        raise BackendError(status.message)
    backend = entry(where or None)
    return backend if precision is None else backend.with_precision(precision)


def backend_class_of(array_type: type) -> type[Backend] | None:
    """The backend class to whose library a type of array belongs, or None.

    Raises BackendError where two backends say that the library is theirs.
    """
    module = array_type.__module__.partition(".")[0]
    for entry in _discover().values():
        if module in entry.array_modules:
            if isinstance(entry, _Broken):
                raise BackendError(entry.message)
            return entry
    return None


def as_host(x: Any, what: str = "x") -> NDArray[Any]:
    """A NumPy array of real numbers in native byte order, from an array of any known library or anything like one.

    Tables of numbers are read too, nullable columns without gaps included, and lists of arrays of one shape. bfloat16
    becomes float32, which holds the same numbers.

    Raises
    ------
    DataError
        If ``x`` cannot be read as an array, or holds anything but real numbers.
    """
    entry = backend_class_of(type(x))
    if isinstance(x, _numpy().ma.MaskedArray) and x.mask.any():
        raise DataError(f"{what} has masked values: fill the gaps, or leave those examples out")
    try:
        host = _read(x, entry, what)
        if host.dtype.kind not in "fiub":
            host = import_module("portnn.reading").numbers_of(x, host, what)
        elif entry is None and hasattr(x, "isna"):  # a table of pandas
            import_module("portnn.reading").refuse_gaps(x, what)
    except DataError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:  # a ragged list, an odd dtype ...
        reading = import_module("portnn.reading")
        reading.refuse_sparse(x, what)
        reason = reading.several_shapes(x) or first_line(error)
        raise DataError(f"{what} cannot be read as an array: {reason}") from None
    native: NDArray[Any] = host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))
    return native


def _read(x: Any, entry: type[Backend] | None, what: str) -> Any:
    """``x`` in NumPy, of whatever dtype."""
    if entry is not None:
        return _numpy().asarray(entry.from_array(x).to_numpy(x))
    np = _numpy()
    first = x[0] if isinstance(x, list | tuple) and x else None
    if not isinstance(first, np.ndarray | np.generic) and backend_class_of(type(first)) is not None:
        # NumPy would take arrays of other libraries apart, number by number, and cannot where they are on a GPU.
        return np.stack([as_host(one, what) for one in x])
    return np.asarray(x)


@functools.cache
def _numpy() -> Any:
    """The host library, loaded when it is first needed."""
    return import_module("numpy")


def backend_of(array: Array) -> Backend:
    """The backend on whose device an array lives.

    Raises
    ------
    BackendError
        If no registered backend knows arrays of this type.

    Examples
    --------
    >>> import numpy as np
    >>> backend_of(np.zeros(3))
    <portnn backend numpy:cpu>
    """
    entry = backend_class_of(type(array))
    if entry is None:
        raise BackendError(
            f"no registered backend knows arrays of type {type(array).__module__}.{type(array).__name__}"
        )
    return entry.from_array(array)
