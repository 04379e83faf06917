"""The door: data are checked once, where they come in, with one sentence each, and brought to the device.

Behind the door array code assumes that its input fits, and never looks at values. The checks of values wait for
the device; they run once a call of ``fit``, ``evaluate`` or ``predict``, not once a batch.
"""

import math
from typing import Any, Literal, TypeAlias

from array_api_compat import array_namespace

from portnn._typing import Array, Namespace, Shape
from portnn.backend import Backend, as_host, first_line
from portnn.errors import DataError, DeviceMemoryError, ShapeError
from portnn.reading import name_in_code

__all__ = [
    "TargetKind",
    "check_batch_weight",
    "check_finite",
    "check_lengths",
    "check_rows",
    "check_sample_weight",
    "check_target",
    "enter",
    "enter_target",
    "holds_numbers",
    "memory_named",
]

#: What a loss takes as its target: class numbers or rows over the classes; numbers in [0, 1]; any numbers; those >= 0.
TargetKind: TypeAlias = Literal["classes", "probabilities", "numbers", "counts"]


def enter(x: Any, backend: Backend, dtype: str, what: str = "x") -> Array:
    """Bring data for a network of float ``dtype`` to its device: uint8 stay bytes, all other numbers become floats.

    The estimators come here with floats only: they take bytes for numbers, as scikit-learn does.

    Raises DataError where ``x`` is no array of numbers.
    """
    x, xp = _real(x, backend, what)
    return backend.asarray(x, None if x.dtype == xp.uint8 else dtype)


def enter_target(y: Any, backend: Backend, dtype: str, kind: TargetKind, what: str = "y") -> Array:
    """Bring targets to the device: class numbers as integers, all others as floats of ``dtype``."""
    y, xp = _real(y, backend, what)
    if kind != "classes" or y.ndim != 1:
        return backend.asarray(y, dtype)
    if xp.isdtype(y.dtype, ("bool", "integral")):
        # Not every library computes with every unsigned type. False and True are the classes 0 and 1.
        narrow = "int32" if xp.isdtype(y.dtype, "bool") else None
        return backend.asarray(y, "int64" if backend.supports("int64") else narrow)
    return y  # `check_target` refuses it


def _real(x: Any, backend: Backend, what: str) -> tuple[Array, Namespace]:
    """An array of real numbers, of the backend or on the host, and its namespace."""
    array = x if backend.owns(x) and holds_numbers(x) else as_host(x, what)
    return array, array_namespace(array)


def holds_numbers(array: Array) -> bool:
    """Whether an array of a known library has a dtype of real numbers that the library's namespace knows."""
    try:
        return bool(array_namespace(array).isdtype(array.dtype, ("bool", "integral", "real floating")))
    except TypeError:  # array_api_compat knows none of the types that others add to NumPy, such as bfloat16
        return False


def check_rows(x: Array, input_shape: Shape, what: str = "x", taker: str = "the network") -> None:
    """Raise unless ``x`` is a non-empty batch of rows of ``input_shape``."""
    if x.ndim == 0 or tuple(x.shape[1:]) != input_shape:
        expected = ", ".join(["n", *map(str, input_shape)])
        hint = _shape_hint(tuple(x.shape), input_shape, name_in_code(what))
        raise ShapeError(f"{what} has shape {tuple(x.shape)}; {taker} takes ({expected}){hint}")
    if x.shape[0] == 0:
        raise DataError(f"{what} is empty: it has 0 examples")


def _shape_hint(shape: Shape, input_shape: Shape, name: str) -> str:
    """How to write an array whose shape lacks an axis of length 1."""
    if shape == input_shape:
        return f": for a single example, write {name}[None]"
    if shape[1:] + (1,) == input_shape:
        return f": write {name}[..., None]"
    return ""


def check_lengths(x: Array, target: Array, what: str = "x", target_what: str = "y") -> None:
    """Raise unless there are as many targets as examples."""
    if target.ndim == 0 or x.shape[0] != target.shape[0]:
        count, name = target.shape[0] if target.ndim else "no", name_in_code(target_what)
        hint = "" if target.ndim else f": for a single target, write [{name}]"
        raise ShapeError(f"{what} has {x.shape[0]} examples, but {target_what} has {count} targets{hint}")


def check_finite(x: Array, backend: Backend, what: str = "x") -> None:
    """Raise DataError if a floating-point array holds NaN or infinity; the sentence says where."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating") or backend.all_finite(x):
        return
    host = backend.to_numpy(x)
    bad = ~(abs(host) < math.inf)
    place = tuple(int(axis[0]) for axis in bad.nonzero())
    raise DataError(
        f"{what} has {int(bad.sum())} values that are NaN or infinite, the first at {list(place)}: "
        "remove those examples or fill the gaps"
    )


def check_sample_weight(weight: Array, x: Array, backend: Backend, what: str = "sample_weight") -> None:
    """Raise unless there is one finite weight >= 0 for each example, and one of them above 0."""
    check_batch_weight(weight, x, backend, what)
    if not bool(array_namespace(weight).any(weight > 0)):
        raise DataError(f"{what} must be >= 0, and above 0 somewhere")


def check_batch_weight(weight: Array, x: Array, backend: Backend, what: str = "sample_weight") -> None:
    """Raise unless there is one finite weight >= 0 for each example; in one of many batches all may be 0."""
    if tuple(weight.shape) != (x.shape[0],):
        raise ShapeError(
            f"{what} has shape {tuple(weight.shape)}; one number for each of {x.shape[0]} examples is needed"
        )
    check_finite(weight, backend, what)
    if bool(array_namespace(weight).any(weight < 0)):
        raise DataError(f"{what} must be >= 0, and above 0 somewhere")


def check_target(target: Array, kind: TargetKind, output_shape: Shape, backend: Backend, what: str = "y") -> None:
    """Raise unless ``target`` is what a loss of this kind can compare with outputs of ``output_shape``."""
    xp = array_namespace(target)
    if kind == "classes" and output_shape[-1:] == (1,):
        raise ShapeError("a softmax over one class is always 1: for one output, take SigmoidCrossEntropy")
    if kind == "classes" and target.ndim == 1:
        if len(output_shape) != 1:
            raise ShapeError(
                f"class numbers need a network with one axis of scores, not of output shape {output_shape}"
            )
        if not xp.isdtype(target.dtype, "integral"):
            check_finite(backend.asarray(target, "float32"), backend, what)  # a gap makes floats of integers
            raise DataError(
                f"{what} has dtype {target.dtype}; class numbers must be integers (or one-hot rows): write "
                f"{name_in_code(what)}.astype(int) if they are whole numbers"
            )
        _check_range(target, 0, output_shape[0] - 1, f"the class numbers in {what}")
        return
    if tuple(target.shape[1:]) != output_shape:
        hint = ""
        if target.ndim == 1 and output_shape == (1,):
            hint = f": write {name_in_code(what)}[:, None]"
        elif kind == "classes" and tuple(target.shape[1:]) == (1,):
            hint = f": for class numbers, write {name_in_code(what)}[:, 0]"
        raise ShapeError(
            f"{what} has shape {tuple(target.shape)}; the network's output is (n, {_join(output_shape)}){hint}"
        )
    check_finite(target, backend, what)
    if kind == "counts" and bool(xp.any(target < 0)):
        raise DataError(f"{what} holds counts, which are >= 0, and the smallest is {float(xp.min(target))}")
    if kind in ("classes", "probabilities"):
        _check_range(target, 0, 1, f"the targets in {what}")


def _check_range(values: Array, low: int, high: int, what: str) -> None:
    xp = array_namespace(values)
    if xp.isdtype(values.dtype, "bool"):
        return
    smallest, largest = xp.min(values), xp.max(values)
    if bool(smallest < low) or bool(largest > high):
        number = float if xp.isdtype(values.dtype, "real floating") else int
        raise DataError(f"{what} must lie in {low} .. {high}; they go from {number(smallest)} to {number(largest)}")


def _join(shape: Shape) -> str:
    return ", ".join(map(str, shape))


class memory_named:
    """``with memory_named(backend, batch_size):`` a lack of memory inside becomes DeviceMemoryError, in a sentence."""

    def __init__(self, backend: Backend, batch_size: int) -> None:
        self._backend, self._batch_size = backend, batch_size

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, DeviceMemoryError) or not self._backend.is_out_of_memory(error):
            return
        memory = self._backend.memory()
        told = "" if memory.free is None else f"; {memory.free:,} of its {memory.total:,} bytes are free"
        held = (
            ""
            if memory.held is None
            else f", {memory.used:,} in use by arrays and {memory.held:,} held by this process"
        )
        raise DeviceMemoryError(
            f"{self._backend} has no memory left for a batch of {self._batch_size:,} examples ({first_line(error)})"
            f"{told}{held}: use a smaller batch_size, or optim.Accumulate, which adds small batches up to a large one"
        ) from error
