"""What a backend is, and how one is found.

A backend binds an array library and one of its devices. portnn itself knows no concrete library: backends are
classes advertised under the entry-point group ``portnn.backends``, the five that come with portnn as well as any
other that is installed (`portnn.registry`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from portnn._typing import Array, DType, Namespace, Shape
from portnn.errors import BackendError, DataError
from portnn.forward import Forward
from portnn.groups import Group
from portnn.host import as_host, numpy
from portnn.loop import Loop
from portnn.registry import Registered, available_backends, class_of, opened
from portnn.status import Memory, Status, first_line, library_status
from portnn.twins import Kernel

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = [
    "Backend",
    "Memory",
    "RandomStream",
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


class RandomStream(Protocol):
    """What backends know of a `portnn.random.Stream`."""

    @property
    def step(self) -> Any:
        """The training step: an int, or within a compiled step a 0-d array."""

    @property
    def key(self) -> NDArray[Any]:
        """The key of Philox: two 64-bit words."""

    @property
    def counter(self) -> NDArray[Any]:
        """The counter of Philox before the first block: four 64-bit words."""

    def at(self, step: Any) -> RandomStream:
        """The same stream at another step."""

    def generator(self) -> Generator:
        """A new generator of NumPy at the beginning of the stream."""


class Backend(Registered, ABC):
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
    precision : {"float32", "tf32", "bf16"}
        How products of float32 matrices are computed inside `context`; see `with_precision`.
    """

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
        """The backend of the device on which an array of this library lives; inside a `context`, of its precision."""

    @classmethod
    def kernels(cls) -> Mapping[str, Kernel]:
        """Twins by the name of the portable function that they replace."""
        return {}

    @classmethod
    def groups(cls) -> Sequence[Group]:
        """Twins of several layers in a row, or of the last ones and a loss; of equal length, the first one is taken."""
        return ()

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

    def overwritten(self, array: Array, values: Array) -> Array:
        """An array with these values, both of which are given up: where it gains to stay in its memory, the first one.

        Recorded steps of a backend may read and write at fixed places. Here, the second one.
        """
        return values

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
        with numpy().errstate(over="ignore"):  # 1e300 becomes infinity, which the check of the data meets
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

    def without_bf16(self) -> str | None:
        """Why this device cannot multiply in bfloat16: the end of a sentence; None if it can."""
        on_gpus = "on NVIDIA GPUs from compute capability 8.0 (Ampere) on"
        return f"torch and JAX can, on the CPU, and they and CuPy {on_gpus}"

    def with_precision(self, precision: str) -> Backend:
        """The same device, with another precision of its matrix products.

        Parameters
        ----------
        precision : {"float32", "tf32", "bf16"}
            ``"tf32"`` rounds the factors of products of float32 matrices to 10 bits after the binary point, and adds up
            in float32: several times as fast on NVIDIA's tensor cores, with relative errors of about 1e-3.

            ``"bf16"`` rounds them to bfloat16, 7 bits after the binary point, to nearest, ties to even, and multiplies
            and adds up in float32: relative errors of about 1e-2. It holds for `functional.matmul`, the affine map
            and convolutions, forth and back. Parameters, gradients, sums over rows, losses and updates are float32,
            and so is a product that is written with ``@``, or is computed inside `kernels.portable`.

        Raises
        ------
        BackendError
            If the device has no TF32 or no products of bfloat16, or the name is not known.
        """
        if precision not in ("float32", "tf32", "bf16"):
            raise BackendError(f'precision must be "float32", "tf32" or "bf16", not {precision!r}')
        if precision == "tf32" and (reason := self.without_tf32()) is not None:
            raise BackendError(f"backend {self} cannot multiply in TF32: {reason}; use precision float32")
        if precision == "bf16" and (reason := self.without_bf16()) is not None:
            raise BackendError(f"backend {self} cannot multiply in bfloat16: {reason}; use precision float32")
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

    def synchronize(self) -> None:
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

    def uniform(self, stream: RandomStream, shape: Shape, dtype: str) -> Array:
        """The stream's numbers from [0, 1): the bits of ``stream.generator().random(shape, dtype)``."""
        return self.draw(lambda step: _draw_uniform(stream.at(step), shape, dtype), stream.step, shape, dtype)

    def compile(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A faster form of a pure training step, or the step itself.

        The step's first three arguments (params, state, optimizer slots) are given up by the caller.
        """
        return step

    def loop(self, *steps: Callable[..., Any]) -> Loop:
        """What does many such steps in a row; of several steps, one after the other as they are told."""
        return Loop(self, steps)

    def forward(self, apply: Callable[..., Any]) -> Forward:
        """What computes ``apply(params, state, x) -> y``, a network at inference, for batch after batch."""
        return Forward(apply)

    def all_finite(self, x: Array) -> bool:
        """Whether a floating-point array holds neither NaN nor infinity; waits for the device."""
        return bool(self.xp.all(self.xp.isfinite(x)))

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


def _draw_uniform(stream: RandomStream, shape: Shape, dtype: Any) -> NDArray[Any]:
    return stream.generator().random(shape, dtype=dtype)


def get_backend(device: str | Backend = "cpu", precision: str | None = None) -> Backend:
    """The backend of a device name: an alias, a backend's name, or ``"name:device"``.

    Parameters
    ----------
    device : str or Backend
        ``"cpu"`` (NumPy), ``"gpu"`` or ``"cuda"`` (CuPy), ``"numpy"``, ``"cupy:1"``, ``"torch"``,
        ``"torch:cuda"``, ``"jax"``, ``"strict"``, or the name of any other registered backend.
    precision : {"float32", "tf32", "bf16"}, optional
        Of matrix products; see `Backend.with_precision`. Default: float32, or what a given backend has.

    Raises
    ------
    BackendError
        If the name is unknown or the backend cannot be used here. There is no silent fallback.
    """
    if isinstance(device, Backend):
        return device if precision is None else device.with_precision(precision)
    backend: Backend = opened(device)
    for name in ("device", "xp"):
        if not hasattr(backend, name):
            raise BackendError(f"{type(backend).__name__}.__init__ must set self.{name}")
    return backend if precision is None else backend.with_precision(precision)


def backend_class_of(array_type: type) -> type[Backend] | None:
    """The backend class to whose library a type of array belongs, or None.

    Raises BackendError where two backends say that the library is theirs.
    """
    return class_of(array_type)


def backend_of(array: Array) -> Backend:
    """The backend on whose device an array lives; of one that wraps another, as in `portnn.autodiff`, where that lives.

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
    if entry is None and hasattr(type(array), "__wrapped_array__"):
        return backend_of(array.__wrapped_array__())
    if entry is None:
        raise BackendError(
            f"no registered backend knows arrays of type {type(array).__module__}.{type(array).__name__}"
        )
    return entry.from_array(array)
