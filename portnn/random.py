"""`Stream`: stateless, counter-based random numbers, equal bit for bit on every backend.

A stream is a name for an endless sequence of numbers, not a generator that runs: the same stream gives the
same array however often and wherever it is asked, so resuming a run needs no stored generator state.
The numbers are those of NumPy's Philox4x64-10 [1]_, drawn on the host.

References
----------
.. [1] Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj
from numpy.random import Generator

from portnn._typing import Array, Shape
from portnn.backend import Backend, backend_of
from portnn.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ShapeStream", "Stream", "as_stream"]


@dataclass(frozen=True)
class Stream:
    """A place in the space of random numbers: ``(seed, step, path)``.

    Parameters
    ----------
    seed : int
        ``0 <= seed < 2**64``.
    step : int, default 0
        The training step or epoch that the numbers belong to.
    path : tuple of str and int, default ()
        What the numbers are for, such as ``("init", 0, "w")``. Different paths give independent numbers.

    Raises
    ------
    ConfigError
        If seed or step is no integer, or a name in the path neither text nor an integer.

    Notes
    -----
    Philox gets ``key = (seed, hash(path))`` and ``counter = (0, step, 0, 0)``; the first counter word numbers
    the blocks within one draw. The hash is 8-byte BLAKE2b over ``repr(path)``.

    Examples
    --------
    >>> rng = Stream(0)
    >>> bool((rng.child("w").normal((2, 3)) == rng.child("w").normal((2, 3))).all())
    True
    """

    seed: int
    step: int = 0
    path: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        if not _is_integer(self.seed) or not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must be an int in 0 .. 2**64 - 1, not {self.seed!r}")
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "step", _number(self.step))
        object.__setattr__(self, "path", _names(self.path))

    def child(self, *names: str | int) -> Stream:
        """The stream for a part of what this one is for: a layer, a parameter, the batch order.

        Raises ConfigError where a name is neither text nor an integer.
        """
        return self._with(self.step, self.path + _names(names))

    def at(self, step: int) -> Stream:
        """The same stream at another step: an integer, or within a compiled step a 0-d array of integers.

        Raises ConfigError where it is neither.
        """
        return self._with(_number(step), self.path)

    def _with(self, step: int, path: tuple[str | int, ...]) -> Stream:
        # Without a look at what was checked before: a network derives many streams in each step.
        stream = object.__new__(type(self))
        vars(stream).update(seed=self.seed, step=step, path=path)
        return stream

    @property
    def key(self) -> NDArray[np.uint64]:
        """The key of Philox: two 64-bit words."""
        return np.asarray([self.seed, _purpose(self.path)], dtype=np.uint64)

    @property
    def counter(self) -> NDArray[np.uint64]:
        """The counter of Philox before the first block: four 64-bit words."""
        if not 0 <= self.step < 2**64:
            raise ConfigError(f"step must be in 0 .. 2**64 - 1, not {self.step}")
        return np.asarray([0, self.step, 0, 0], dtype=np.uint64)

    def generator(self) -> Generator:
        """A new generator of NumPy at the beginning of the stream."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=self.counter))

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Numbers from ``[low, high)``: a float64 host array of the given shape."""
        return low + (high - low) * self.generator().random(shape)

    def normal(self, shape: Shape, mean: float = 0.0, std: float = 1.0) -> NDArray[np.float64]:
        """Numbers from the normal distribution: a float64 host array of the given shape."""
        return mean + std * self.generator().standard_normal(shape)

    def orthogonal(self, shape: Shape) -> NDArray[np.float64]:
        """A random matrix with orthonormal columns (rows, if there are fewer), uniform among all of them.

        A float64 host array of the given shape, whose axes but the last are taken together (Mezzadri 2007).
        """
        rows, columns = int(np.prod(shape[:-1])), shape[-1]
        q, r = np.linalg.qr(self.normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diagonal(r))
        return np.reshape(q if rows >= columns else q.T, shape)

    def uniform_like(self, x: Array) -> Array:
        """Numbers from ``[0, 1)`` with the shape, dtype (float32 or float64) and device of ``x``; also when compiled.

        The float32 numbers are NumPy's own, and not rounded float64 ones, which could come out as 1.
        """
        backend = backend_of(x)
        return backend.uniform(self, tuple(x.shape), _float_of(x, backend))

    def normal_like(self, x: Array) -> Array:
        """Numbers from the standard normal distribution with the shape, dtype and device of ``x``."""
        backend, shape = backend_of(x), tuple(x.shape)
        dtype: Any = _float_of(x, backend)

        def draw(step: int) -> NDArray[Any]:
            return self.at(step).generator().standard_normal(shape, dtype=dtype)

        return backend.draw(draw, self.step, shape, dtype)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """The numbers ``0`` to ``n-1`` in random order: an int64 host array of shape ``(n,)``."""
        return self.generator().permutation(n)

    def full(self, shape: Shape, value: float) -> NDArray[np.float64]:
        """A constant in the place of random numbers, for initializers that draw nothing."""
        return np.full(shape, value, dtype=np.float64)


class ShapeStream(Stream):
    """Draws nothing: its arrays are zeros that take no memory, for finding out the shapes of parameters."""

    def __init__(self) -> None:
        super().__init__(seed=0)

    def _with(self, step: int, path: tuple[str | int, ...]) -> Stream:
        return self

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        return self.full(shape, 0.0)

    def normal(self, shape: Shape, mean: float = 0.0, std: float = 1.0) -> NDArray[np.float64]:
        return self.full(shape, 0.0)

    def orthogonal(self, shape: Shape) -> NDArray[np.float64]:
        return self.full(shape, 0.0)

    def full(self, shape: Shape, value: float) -> NDArray[np.float64]:
        return np.broadcast_to(np.float64(value), shape)


@functools.lru_cache(1024)
def _purpose(path: tuple[str | int, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(path).encode(), digest_size=8).digest(), "little")


def _name(name: Any) -> str | int:
    """A part of a path as plain text or a plain int.

    The path is hashed by its ``repr``, and found again by ``==``: what is equal, such as ``np.str_("a")`` and ``"a"``,
    must look the same, and what is hashed as another name must not be equal.
    """
    if type(name) is str or type(name) is int:
        return name
    if isinstance(name, str):
        return str.__str__(name)
    if _is_integer(name):
        return int(name)
    raise ConfigError(f"a stream is named by text and integers, not by {name!r}: write str({name!r})")


def _names(path: Any) -> tuple[str | int, ...]:
    if isinstance(path, str):
        raise ConfigError(f"path must be a tuple of names, not {path!r}: write ({path!r},)")
    return tuple([_name(p) for p in path])


def _number(step: Any) -> int:
    """A step as a plain int; what a compiled step is given in its place stays as it is."""
    if isinstance(step, int) and not isinstance(step, bool):
        return step  # also of a subclass: it may know where it comes from
    if _is_integer(step):
        return int(step)
    if is_array_api_obj(step) and step.ndim == 0 and array_namespace(step).isdtype(step.dtype, "integral"):
        return step  # type: ignore[no-any-return]
    raise ConfigError(f"step must be an int, not {step!r}")


def _float_of(x: Array, backend: Backend) -> str:
    return "float64" if backend.supports("float64") and x.dtype == backend.dtype("float64") else "float32"


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def as_stream(rng: Stream | int | None) -> Stream:
    """Turn the ``rng`` argument of a public function into a `Stream`.

    An int is a seed; ``None`` asks the operating system for one.
    """
    if isinstance(rng, Stream):
        return rng
    if rng is None:
        return Stream(int(np.random.SeedSequence().generate_state(1, np.uint64)[0]))
    if not _is_integer(rng):
        raise ConfigError(f"rng must be an int, a portnn.random.Stream or None, not {type(rng).__name__}")
    return Stream(int(rng))
