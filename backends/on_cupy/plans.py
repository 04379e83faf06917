"""How products are computed on one stream: by the algorithm of cuBLASLt that a clock found to be the fastest.

For each shape and layout that is not small, cuBLASLt is asked for some algorithms. When such a product is first
computed, before anything is recorded, they are timed inside a CUDA graph, many in a row: launched one by one, they
would take the time of the host. The choice stays (`portnn_backends.on_cupy.choices`), and the first step, which is
computed at once, goes by it like those that are recorded: they have the same bits. Nothing of this is done when a graph
is launched.
"""

from __future__ import annotations

import functools
import logging
import operator
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cupy
import numpy as np

from portnn.errors import BackendError

from ..layouts import layout
from .agreement import check_products
from .choices import Choices
from .lt import (
    BIAS,
    LARGEST_ALIGNMENT,
    PLAIN,
    RELU_BIAS,
    Algorithm,
    Descriptors,
    Library,
    LtError,
    Operand,
    Problem,
)
from .timing import captured, milliseconds

__all__ = ["TOO_LONG", "Lt", "readable", "tell"]

_log = logging.getLogger(__name__)

#: How many algorithms are timed for a product, and the seconds after which no further one is.
_ALGORITHMS, _SECONDS = 16, 0.25

#: The most products in a row in a graph, the milliseconds that they take at most, and how often the graph is launched.
_IN_A_ROW, _MILLISECONDS, _LAUNCHES = 20, 2.0, 5

#: Products of up to so many pairs of numbers take a few microseconds by any algorithm: the first one is taken.
_SMALL = 2**18

#: Lengths, and steps from row to row, are ints of C.
TOO_LONG = 2**31


class _Posed(NamedTuple):
    """A product that somebody wants, with its arrays, which stay until it is launched."""

    problem: Problem
    a: Any
    b: Any
    out: Any
    bias: Any

    @property
    def bias_at(self) -> int:
        return 0 if self.bias is None else int(self.bias.data.ptr)


class _Plan(NamedTuple):
    descriptors: Descriptors
    algorithm: Algorithm


class Lt:
    """cuBLASLt on one stream.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        Where the products are computed; the current one.
    tf32 : bool
        Whether products of float32 are computed in TF32.
    workspace : array of uint8
        What the products on this stream work in, and nobody else at the same time.
    choices : Choices
        Of the run.

    Raises
    ------
    BackendError
        If cuBLASLt cannot be loaded or used.
    """

    def __init__(self, stream: Any, tf32: bool, workspace: Any, choices: Choices) -> None:
        self._stream, self._tf32, self._workspace, self._choices = stream, tf32, workspace, choices
        self._library = Library()
        self._plans: dict[Problem, _Plan | None] = {}
        #: By kind, epilogue, and whether there are several: whether products are CuPy's.
        self._trusted: dict[tuple[str, int, bool], bool] = {}
        self._recording = False
        choices.open(_machine(self._library.version))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, the stream is captured: nothing can be timed, nor compared."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    @contextmanager
    def on(self, stream: Any, workspace: Any) -> Iterator[None]:
        """Inside, products are computed on another stream, in other memory of the same size."""
        before, (self._stream, self._workspace) = (self._stream, self._workspace), (stream, workspace)
        try:
            yield
        finally:
            self._stream, self._workspace = before

    def multiplied(self, a: Any, b: Any, bias: Any = None, *, relu: bool = False, narrow: bool = False) -> Any:
        """``a @ b`` by one launch; None where cuBLASLt cannot do it, which the log says.

        Parameters
        ----------
        a, b : (m, k) and (k, n), or (g, m, k) and (g, k, n)
            No length is 0. Of float32 or float64; or of uint16: the bits of bfloat16, whose products are added up in
            float32.
        bias : array, shape (n,), optional
            Added to each row; of the dtype of the product.
        relu : bool, default False
            Whether what is negative then becomes 0; goes with a bias only.
        narrow : bool, default False
            Whether a product of bfloat16 is of bfloat16 too, rounded once, and not of float32.

        Raises
        ------
        BackendError
            If the bias is of another shape or dtype, or a call of cuBLASLt fails.
        """
        kind = "tf32" if self._tf32 and a.dtype == np.float32 else a.dtype.name
        if a.dtype == np.uint16:
            kind = "bfloat16" if narrow else "bfloat16 to float32"
        posed = _posed(kind, a, b, bias, relu)
        problem = posed.problem
        if max(problem.matrices, problem.m, problem.k, problem.n, problem.a.row, problem.b.row) >= TOO_LONG:
            tell(f"cuBLASLt is not used for a product of lengths from {TOO_LONG} on: {problem}")
            return None
        plan = self._plan(posed) if self._trusts(problem) else None
        if plan is None:
            return None
        self._launch(plan, posed)
        return posed.out

    def keep(self) -> None:
        """Keep on disk which algorithms were chosen."""
        self._choices.write()

    def _launch(self, plan: _Plan, posed: _Posed) -> None:
        addresses = posed.a.data.ptr, posed.b.data.ptr, posed.out.data.ptr, posed.bias_at
        plan.descriptors.multiply(plan.algorithm, *addresses, self._workspace.data.ptr, self._stream.ptr)

    def _descriptors(self, posed: _Posed) -> Descriptors:
        return Descriptors(self._library, posed.problem, self._workspace.size)

    def _plan(self, posed: _Posed) -> _Plan | None:
        problem = posed.problem
        if problem not in self._plans:
            if self._recording:  # not even what is known: the first step was computed otherwise, and nothing is loaded
                return self._of_lesser_alignment(problem)
            descriptors = self._descriptors(posed)
            algorithm = self._known(posed, descriptors) or self._fastest(posed, descriptors)
            self._plans[problem] = None if algorithm is None else _Plan(descriptors, algorithm)
        return self._plans[problem]

    def _of_lesser_alignment(self, problem: Problem) -> _Plan | None:
        """The plan for a product that was computed at once, before its arrays were copied to where the graph reads."""
        alignments = [1 << i for i in reversed(range(problem.alignment.bit_length() - 1))]
        plans = (self._plans.get(problem._replace(alignment=alignment)) for alignment in alignments)
        plan = next((plan for plan in plans if plan is not None), None)
        if plan is None:
            tell(f"cuBLASLt is not used for a product that is first met while a step is recorded: {problem}")
        return plan

    def _known(self, posed: _Posed, descriptors: Descriptors) -> Algorithm | None:
        """What was chosen before, if it still can be used."""
        problem = posed.problem
        text = self._choices.get(str(problem))
        if text is None:
            return None
        algorithm = Algorithm.of_hex(text)
        reason = descriptors.refusal(algorithm) or self._failure(_Plan(descriptors, algorithm), posed)
        if reason is None:
            self._choices.take(str(problem), text)
            return algorithm
        tell(f"the algorithm that was chosen before cannot be used, and one is chosen anew ({reason}): {problem}")
        return None

    def _fastest(self, posed: _Posed, descriptors: Descriptors) -> Algorithm | None:
        problem, times = posed.problem, list[tuple[float, int]]()
        small = problem.matrices * problem.m * problem.k * problem.n <= _SMALL
        algorithms, begin = descriptors.heuristics(1 if small else _ALGORITHMS), time.perf_counter()
        reason: str | None = "it has no algorithm for that"
        if small and algorithms:
            reason = self._failure(_Plan(descriptors, algorithms[0]), posed)
            if reason is None:
                return algorithms[0]
            algorithms = []
        for i, algorithm in enumerate(algorithms):
            if times and time.perf_counter() - begin > _SECONDS:
                break
            try:
                times.append((self._time(_Plan(descriptors, algorithm), posed), i))
            except LtError as error:  # of this algorithm: another one may do
                reason = str(error)
        if not times:
            tell(f"cuBLASLt is not used for a product ({reason}): {problem}")
            return None
        fastest = algorithms[min(times)[1]]
        self._choices.replace(str(problem), fastest.hex())
        return fastest

    def _failure(self, plan: _Plan, posed: _Posed) -> str | None:
        """Why a product cannot be launched; None if it can: no check that cuBLASLt has says for certain."""
        try:
            self._launch(plan, posed)
        except LtError as error:
            return str(error)
        return None

    def _time(self, plan: _Plan, posed: _Posed) -> float:
        """Milliseconds."""
        launch = functools.partial(self._launch, plan, posed)
        launch()  # loads the kernel, which cannot be done while a stream is captured
        alone = milliseconds(self._stream, launch, 1)
        count = min(max(int(_MILLISECONDS / max(alone, 1e-3)), 1), _IN_A_ROW)
        graph, _ = captured(self._stream, lambda: [launch() for _ in range(count)])
        again = functools.partial(graph.launch, self._stream)
        again()
        return milliseconds(self._stream, again, _LAUNCHES) / count

    def _trusts(self, problem: Problem) -> bool:
        key = problem.kind, problem.epilogue, problem.matrices > 1
        if key not in self._trusted:
            if self._recording:
                tell(f"cuBLASLt is not used for products that are first met while a step is recorded: {problem}")
                return False
            self._trusted[key] = False
            try:
                check_products(functools.partial(self._first, problem.kind), *key)
                self._trusted[key] = True
            except BackendError as error:
                several = "stacks of " if problem.matrices > 1 else ""
                tell(f"cuBLASLt is not used for {several}products of {problem.kind}{problem.then}: {error}")
        return self._trusted[key]

    def _first(self, kind: str, a: Any, b: Any, bias: Any, relu: bool) -> Any:
        """A product by the algorithm that cuBLASLt thinks the best one."""
        posed = _posed(kind, a, b, bias, relu)
        descriptors = self._descriptors(posed)
        found = descriptors.heuristics(1)
        if not found:
            raise BackendError("cuBLASLt has no algorithm for the products that are compared with CuPy's")
        self._launch(_Plan(descriptors, found[0]), posed)
        return posed.out


def _posed(kind: str, a: Any, b: Any, bias: Any, relu: bool) -> _Posed:
    (a, of_a), (b, of_b) = readable(a), readable(b)
    matrices = a.shape[0] if a.ndim == 3 else 1
    (m, k), n = a.shape[-2:], b.shape[-1]
    out = cupy.empty((*a.shape[:-1], n), np.float32 if kind == "bfloat16 to float32" else a.dtype)
    epilogue = PLAIN
    if bias is not None:
        bias, epilogue = cupy.ascontiguousarray(bias), RELU_BIAS if relu else BIAS
        if bias.shape != (n,) or bias.dtype != out.dtype:
            raise BackendError(
                f"cuBLASLt adds a bias of shape ({n},) and {out.dtype} to this product, not one of {bias.shape} and "
                f"{bias.dtype}"
            )
    elif relu:
        raise BackendError("cuBLASLt is asked for a ReLU, and for no bias: give it one of zeros")
    begins = [array.data.ptr for array in (a, b, out, bias) if array is not None]
    if matrices > 1:
        begins += [s * array.itemsize for array, s in ((a, of_a.stride), (b, of_b.stride), (out, m * n))]
    together = functools.reduce(operator.or_, begins, LARGEST_ALIGNMENT)
    return _Posed(Problem(kind, matrices, m, k, n, of_a, of_b, epilogue, together & -together), a, b, out, bias)


def readable(a: Any) -> tuple[Any, Operand]:
    """A matrix, or a stack of them, as cuBLAS can read it, and how it lies in memory."""
    found = layout(a.shape[-2:], a.strides[-2:], a.itemsize)
    several = a.ndim == 3 and a.shape[0] > 1
    stride, rest = divmod(a.strides[0], a.itemsize) if several else (0, 0)
    if found is None or rest or stride < 0:
        a, found = cupy.ascontiguousarray(a), (False, a.shape[-1])
        stride = a.shape[-2] * a.shape[-1] if several else 0
    return a, Operand(*found, stride)


def _machine(version: int) -> str:
    """All that the fastest algorithm depends on, but for the problem."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    name, processors = properties["name"].decode(), properties["multiProcessorCount"]
    return f"{name}, {processors} multiprocessors, cuBLASLt {version}, CUDA {runtime.driverGetVersion()} of the driver"


@functools.cache
def tell(sentence: str) -> None:
    """To the log: once."""
    _log.warning("%s", sentence)
