"""cuBLASLt through its C interface: several algorithms for one product, of which the caller takes one.

Functions, numbers and structures are those of NVIDIA's cublasLt.h, which have stayed since CUDA 11.4. Every call is
checked; what is created is destroyed with its owner. Nothing here waits for the device.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

from portnn.backend import first_line
from portnn.errors import BackendError

__all__ = [
    "BIAS",
    "KINDS",
    "LARGEST_ALIGNMENT",
    "PLAIN",
    "RELU_BIAS",
    "Algorithm",
    "Descriptors",
    "Library",
    "LtError",
    "Operand",
    "Problem",
]

# cublasLtEpilogue_t
PLAIN, BIAS, RELU_BIAS = 1, 4, 6

# cublasLtMatmulDescAttributes_t
_TURN_A, _TURN_B, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8
# cublasLtMatrixLayoutAttribute_t
_COUNT, _STRIDE = 5, 6
# cublasLtMatmulPreferenceAttributes_t: the alignments of A, B, C and D
_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)

#: Of begins of arrays, in bytes: all that cuBLASLt asks for.
LARGEST_ALIGNMENT = 256

_OUT_OF_MEMORY, _NOT_SUPPORTED = 3, 15
_STATUSES = {
    1: "CUBLAS_STATUS_NOT_INITIALIZED",
    _OUT_OF_MEMORY: "CUBLAS_STATUS_ALLOC_FAILED",
    7: "CUBLAS_STATUS_INVALID_VALUE",
    8: "CUBLAS_STATUS_ARCH_MISMATCH",
    11: "CUBLAS_STATUS_MAPPING_ERROR",
    13: "CUBLAS_STATUS_EXECUTION_FAILED",
    14: "CUBLAS_STATUS_INTERNAL_ERROR",
    _NOT_SUPPORTED: "CUBLAS_STATUS_NOT_SUPPORTED",
}


class Kind(NamedTuple):
    """What is multiplied: cudaDataType of both factors, of the product and of scalars, and cublasComputeType_t."""

    factors: int
    product: int
    compute: int
    scale: int
    scalar: Any


#: By name; a product of bfloat16 is of these, too, or of float32. Sums of all but float64 are of float32.
KINDS = {
    "float32": Kind(0, 0, 68, 0, ctypes.c_float),
    "tf32": Kind(0, 0, 77, 0, ctypes.c_float),
    "float64": Kind(1, 1, 70, 1, ctypes.c_double),
    "bfloat16": Kind(14, 14, 68, 0, ctypes.c_float),
    "bfloat16 to float32": Kind(14, 0, 68, 0, ctypes.c_float),
}


class LtError(BackendError):
    """A call has failed; ``status`` is its cublasStatus_t."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} of cuBLASLt failed with status {status} ({_STATUSES.get(status, 'unknown')})")
        self.status = status

    @property
    def not_supported(self) -> bool:
        """Whether cuBLASLt has nothing for this product, or this algorithm is not for it."""
        return self.status == _NOT_SUPPORTED


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: 64 bytes whose meaning is cuBLASLt's own."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)

    @classmethod
    def of_hex(cls, text: str) -> Algorithm:
        return cls.from_buffer_copy(bytes.fromhex(text))

    def hex(self) -> str:
        return bytes(self).hex()


class _Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Operand(NamedTuple):
    """How a factor lies in memory.

    Attributes
    ----------
    turned : bool
        Whether it is the transpose of what lies there row by row.
    row, stride : int
        Elements from one row there to the next, and from one matrix of a stack to the next.
    """

    turned: bool
    row: int
    stride: int


class Problem(NamedTuple):
    """A product of stacks (matrices, m, k) and (matrices, k, n): all that an algorithm depends on.

    ``alignment`` is the largest power of 2, up to 256, at whose multiples in bytes all matrices, and the bias, begin.
    """

    kind: str
    matrices: int
    m: int
    k: int
    n: int
    a: Operand
    b: Operand
    epilogue: int
    alignment: int

    def __str__(self) -> str:
        """Names it, in sentences and files."""
        factors = " ".join(f"{'NT'[f.turned]}{f.row}+{f.stride}" for f in (self.a, self.b))
        return f"{self.kind} {self.matrices} x {self.m} {self.k} {self.n} {factors}, at {self.alignment}{self.then}"

    @property
    def then(self) -> str:
        return {PLAIN: "", BIAS: " with a bias", RELU_BIAS: " with a bias and ReLU"}[self.epilogue]


class Library:
    """The functions of cuBLASLt, with a handle for the current device.

    Raises
    ------
    BackendError
        If it cannot be loaded, or not be used.
    """

    def __init__(self) -> None:
        self._functions = _load()
        self.version = int(self._functions.cublasLtGetVersion())
        self.handle = self.created(self, "cublasLt")

    def call(self, name: str, *args: Any) -> None:
        status = getattr(self._functions, name)(*args)
        if status != 0:
            raise LtError(name, status)

    def created(self, owner: Any, kind: str, *args: Any) -> ctypes.c_void_p:
        """What ``<kind>Create`` gives, which is destroyed with its owner."""
        made = ctypes.c_void_p()
        self.call(f"{kind}Create", ctypes.byref(made), *args)
        # Not at the end of the process, when the driver may be gone already.
        weakref.finalize(owner, getattr(self._functions, f"{kind}Destroy"), made).atexit = False
        return made


class Descriptors:
    """A problem, as cuBLASLt is told of it.

    Parameters
    ----------
    library : Library
    problem : Problem
    workspace : int
        Bytes that an algorithm may use.
    """

    def __init__(self, library: Library, problem: Problem, workspace: int) -> None:
        self._library, self._kind, self._workspace = library, KINDS[problem.kind], workspace
        kind, (_, count, m, k, n, a, b, epilogue, alignment) = self._kind, problem
        created = library.created
        self._product = created(self, "cublasLtMatmulDesc", ctypes.c_int(kind.compute), ctypes.c_int(kind.scale))
        # cuBLASLt counts down columns. What lies in memory row by row is, read so, the transpose: out.T = b.T a.T.
        self._set(self._product, "MatmulDesc", _TURN_A, ctypes.c_int32(b.turned))
        self._set(self._product, "MatmulDesc", _TURN_B, ctypes.c_int32(a.turned))
        self._set(self._product, "MatmulDesc", _EPILOGUE, ctypes.c_uint32(epilogue))
        self._has_bias = epilogue != PLAIN
        # Nothing is read there before `multiply`, but what an algorithm may rely on is seen by the address.
        self._point_to(2 * LARGEST_ALIGNMENT + alignment)
        self._left = self._layout(kind.factors, (k, n) if b.turned else (n, k), b.row, count, b.stride)
        self._right = self._layout(kind.factors, (m, k) if a.turned else (k, m), a.row, count, a.stride)
        self._out = self._layout(kind.product, (n, m), n, count, m * n)
        self._preference = created(self, "cublasLtMatmulPreference")
        self._set(self._preference, "MatmulPreference", _WORKSPACE, ctypes.c_uint64(workspace))
        for attribute in _ALIGNMENTS:  # unless it is told, it takes multiples of 256 bytes for granted
            self._set(self._preference, "MatmulPreference", attribute, ctypes.c_uint32(alignment))

    def _layout(self, dtype: int, shape: tuple[int, int], column: int, count: int, stride: int) -> ctypes.c_void_p:
        rows, columns = (ctypes.c_uint64(length) for length in shape)
        layout = self._library.created(
            self, "cublasLtMatrixLayout", ctypes.c_int(dtype), rows, columns, ctypes.c_int64(column)
        )
        if count > 1:
            self._set(layout, "MatrixLayout", _COUNT, ctypes.c_int32(count))
            self._set(layout, "MatrixLayout", _STRIDE, ctypes.c_int64(stride))
        return layout

    def _set(self, of: ctypes.c_void_p, what: str, attribute: int, value: Any) -> None:
        size = ctypes.c_size_t(ctypes.sizeof(value))
        self._library.call(f"cublasLt{what}SetAttribute", of, ctypes.c_int(attribute), ctypes.byref(value), size)

    def _point_to(self, bias: int) -> None:
        if self._has_bias:
            self._set(self._product, "MatmulDesc", _BIAS_POINTER, ctypes.c_void_p(bias))

    def _told(self) -> Iterator[ctypes.c_void_p]:
        yield from (self._library.handle, self._product, self._left, self._right, self._out, self._out)

    def heuristics(self, most: int) -> list[Algorithm]:
        """Algorithms for the problem, the most promising first; none if cuBLASLt has none."""
        results, count = (_Heuristic * most)(), ctypes.c_int(0)
        try:
            self._library.call(
                "cublasLtMatmulAlgoGetHeuristic",
                *(*self._told(), self._preference, ctypes.c_int(most), ctypes.byref(results), ctypes.byref(count)),
            )
        except LtError as error:
            if error.not_supported:
                return []
            raise
        found = [result for result in results[: count.value] if result.state == 0]
        return [Algorithm.from_buffer_copy(result.algorithm) for result in found if result.workspace <= self._workspace]

    def refusal(self, algorithm: Algorithm) -> str | None:
        """Why the problem cannot be solved by an algorithm from elsewhere; None if it can."""
        result = _Heuristic()
        try:
            self._library.call("cublasLtMatmulAlgoCheck", *self._told(), ctypes.byref(algorithm), ctypes.byref(result))
        except LtError as error:
            return str(error)
        if result.workspace > self._workspace:
            return f"it needs {result.workspace:,} bytes to work in, and there are {self._workspace:,}"
        return None if result.state == 0 else f"cublasLtMatmulAlgoCheck gives it the state {result.state}"

    def multiply(self, algorithm: Algorithm, a: int, b: int, out: int, bias: int, workspace: int, stream: int) -> None:
        """``out = a b``, of matrices at these addresses, on a stream; raises LtError."""
        one, zero = self._kind.scalar(1.0), self._kind.scalar(0.0)
        self._point_to(bias)
        left, right, product = (ctypes.c_void_p(address) for address in (b, a, out))
        handle, described, of_left, of_right, of_out, _ = self._told()
        self._library.call(
            "cublasLtMatmul",
            *(handle, described, ctypes.byref(one), left, of_left, right, of_right),
            *(ctypes.byref(zero), product, of_out, product, of_out, ctypes.byref(algorithm)),
            *(ctypes.c_void_p(workspace), ctypes.c_size_t(self._workspace), ctypes.c_void_p(stream)),
        )


def _load() -> Any:
    try:
        from cuda import pathfinder  # comes with CuPy 14

        library = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        library.cublasLtGetVersion.restype = ctypes.c_size_t
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # pathfinder's own are RuntimeErrors
        raise BackendError(f"cuBLASLt cannot be loaded: {first_line(error)}") from error
    return library
