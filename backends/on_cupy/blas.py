"""Matrix products of CuPy arrays: CuPy's own; and cuBLAS called directly where CuPy refuses to call it.

On a stream that is being captured into a CUDA graph, CuPy 14 raises NotImplementedError for every product. cuBLAS
itself can be captured if it works in memory that it was given, so inside `directly` products go through its C
interface: by cuBLASLt, of whose algorithms the fastest is taken (`portnn_backends.on_cupy.plans`); and where that
cannot be used, which the log says, by cuBLAS.

Of the three ways to call cuBLAS, this one is the smallest. nvmath-python would bring more packages, for bindings that
take the same pointers. A graph for each segment between two products would leave two launches for each product to the
host, 17 a step for three affine layers. One function of C, ``cublasGemmEx``, has not changed since CUDA 11;
before it is trusted, its products are compared with CuPy's.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import cupy
import numpy as np

from portnn.errors import BackendError
from portnn.kernels import Kernel

from .choices import Choices
from .plans import TOO_LONG, Lt, readable, tell

__all__ = ["KERNELS", "Cublas", "Products", "bfloat16_product", "biased_product", "directly", "matmul"]

#: By dtype: cudaDataType, cublasComputeType_t (library_types.h, cublas_api.h), and the type of scalars.
_TYPES = {"float32": (0, 68, ctypes.c_float), "float64": (1, 70, ctypes.c_double)}
_DEFAULT_ALGORITHM = -1
_DEFAULT_MATH, TF32_MATH = 0, 3  # cublasMath_t, in cublas_api.h

#: What NVIDIA advises for its largest devices, in bytes.
_WORKSPACE = 32 * 2**20


class Cublas:
    """A handle of cuBLAS on one stream, with its workspace.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        Where the products are computed; the current one.
    tf32 : bool
        Whether products of float32 are computed in TF32.

    Raises
    ------
    BackendError
        If cuBLAS cannot be loaded or used, or its products differ from CuPy's.
    """

    def __init__(self, stream: Any, tf32: bool) -> None:
        self._library = _load()
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self._handle = handle
        # Not at the end of the process, when the driver may be gone already.
        weakref.finalize(self, self._library.cublasDestroy_v2, handle).atexit = False
        self.stream, self.workspace = stream, cupy.empty(_WORKSPACE, cupy.uint8)
        self._move(stream, self.workspace)
        self._call("cublasSetMathMode", handle, ctypes.c_int(TF32_MATH if tf32 else _DEFAULT_MATH))
        self._compare(0.01 if tf32 else 1e-5)

    def _move(self, stream: Any, workspace: Any) -> None:
        self._call("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream.ptr))
        # After the stream, which would take the workspace away again.
        size = ctypes.c_size_t(workspace.size)
        self._call("cublasSetWorkspace_v2", self._handle, _pointer(workspace), size)

    @contextmanager
    def on(self, stream: Any, workspace: Any) -> Iterator[None]:
        """Inside, products are computed on another stream, in other memory."""
        self._move(stream, workspace)
        try:
            yield
        finally:
            self._move(self.stream, self.workspace)

    def _call(self, name: str, *args: Any) -> None:
        status = getattr(self._library, name)(*args)
        if status != 0:
            raise BackendError(f"{name} of cuBLAS failed with status {status}")

    def _compare(self, tolerance: float) -> None:
        """Products in all layouts against CuPy's, so that a wrong argument never trains a network."""
        values = cupy.sin(cupy.arange(60, dtype=cupy.float32))
        a, b = cupy.reshape(values[:15], (3, 5)), cupy.reshape(values[15:35], (5, 4))
        a_turned, b_turned = cupy.ascontiguousarray(a.T).T, cupy.ascontiguousarray(b.T).T
        expected = cupy.asnumpy(cupy.matmul(a, b))
        for left, right in ((a, b), (a_turned, b), (a, b_turned), (a_turned, b_turned)):
            # On the host: what is to be trusted here is no reduction of CuPy.
            difference = float(np.max(np.abs(cupy.asnumpy(self.matmul(left, right)) - expected)))
            if not difference <= tolerance:
                raise BackendError(f"a product of cuBLAS, called directly, differs by {difference} from CuPy's")

    def matmul(self, a: Any, b: Any) -> Any:
        """``a @ b`` of float32 or float64: (m, k) and (k, n), or (g, m, k) and (g, k, n)."""
        out = cupy.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
        if a.ndim == 2:
            self._product(a, b, out)
        else:
            for i in range(a.shape[0]):
                self._product(a[i], b[i], out[i])
        return out

    def _product(self, a: Any, b: Any, out: Any) -> None:
        (m, k), n = a.shape, b.shape[1]
        kind, compute, scalar = _TYPES[a.dtype.name]
        (a, (a_turned, a_row, _)), (b, (b_turned, b_row, _)) = readable(a), readable(b)
        if max(m, k, n, a_row, b_row) >= TOO_LONG:  # C would take it for another number
            raise BackendError(
                f"cuBLAS multiplies matrices of lengths below {TOO_LONG}, and these are ({m}, {k}) and ({k}, {n}), "
                f"with {a_row} and {b_row} elements from row to row: give it fewer examples at once"
            )
        # cuBLAS counts down columns. What lies in memory row by row is, read so, the transpose: out.T = b.T a.T.
        self._call(
            "cublasGemmEx",
            *(self._handle, ctypes.c_int(b_turned), ctypes.c_int(a_turned)),
            *(ctypes.c_int(n), ctypes.c_int(m), ctypes.c_int(k), ctypes.byref(scalar(1.0))),
            *(_pointer(b), ctypes.c_int(kind), ctypes.c_int(b_row)),
            *(_pointer(a), ctypes.c_int(kind), ctypes.c_int(a_row), ctypes.byref(scalar(0.0))),
            *(_pointer(out), ctypes.c_int(kind), ctypes.c_int(n)),
            *(ctypes.c_int(compute), ctypes.c_int(_DEFAULT_ALGORITHM)),
        )


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.data.ptr)


def _load() -> Any:
    try:
        from cuda import pathfinder  # comes with CuPy 14

        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, RuntimeError, OSError) as error:  # pathfinder's own errors are RuntimeErrors
        raise BackendError(f"cuBLAS cannot be loaded: {error}") from error


class Products:
    """The products on one stream: by cuBLASLt, and by cuBLAS where that cannot be used.

    Parameters
    ----------
    stream : cupy.cuda.Stream
        Where they are computed; the current one.
    tf32 : bool
        Whether products of float32 are computed in TF32.
    choices : Choices
        Which algorithms the run goes by.

    Attributes
    ----------
    cublas : Cublas
    lt : Lt or None
        They take turns, and work in the same memory.

    Raises
    ------
    BackendError
        If cuBLAS cannot be loaded or used, or its products differ from CuPy's.
    """

    def __init__(self, stream: Any, tf32: bool, choices: Choices) -> None:
        self.cublas = Cublas(stream, tf32)
        self.lt: Lt | None = None
        try:
            self.lt = Lt(stream, tf32, self.cublas.workspace, choices)
        except BackendError as error:
            tell(f"cuBLASLt is not used: {error}")

    def matmul(self, a: Any, b: Any) -> Any:
        """As `Cublas.matmul`."""
        made = None if self.lt is None else self.lt.multiplied(a, b)
        return self.cublas.matmul(a, b) if made is None else made

    def recording(self) -> AbstractContextManager[object]:
        """Entered while the stream is captured."""
        return nullcontext() if self.lt is None else self.lt.recording()

    @contextmanager
    def on(self, stream: Any, workspace: Any) -> Iterator[None]:
        """Inside, products are computed on another stream, which is the current one, in memory of the same size."""
        with self.cublas.on(stream, workspace), nullcontext() if self.lt is None else self.lt.on(stream, workspace):
            yield

    def keep(self) -> None:
        """Keep on disk what was chosen."""
        if self.lt is not None:
            self.lt.keep()


_direct: ContextVar[Cublas | Products | None] = ContextVar("portnn_direct_cublas", default=None)


@contextmanager
def directly(products: Cublas | Products) -> Iterator[None]:
    """Inside, `matmul` calls cuBLAS itself."""
    token = _direct.set(products)
    try:
        yield
    finally:
        _direct.reset(token)


def matmul(a: Any, b: Any) -> Any:
    """``a @ b``, also while a graph is being captured; for twins that multiply matrices."""
    products = _direct.get()
    if products is None or a.dtype != b.dtype or a.dtype.name not in _TYPES or a.ndim != b.ndim or not a.size * b.size:
        return cupy.matmul(a, b)
    return products.matmul(a, b)


def biased_product(a: Any, b: Any, bias: Any, *, relu: bool = False) -> Any:
    """``a @ b + bias`` by one launch, with ``relu`` the larger of that and 0; None where that cannot be done.

    Of float32 or float64, shapes (m, k), (k, n) and (n,). It is done inside `directly`, unless the log says why not.
    What becomes of NaN in cuBLASLt's ReLU is not documented: the portable one keeps it.
    """
    lt = _lt()
    alike = a.dtype == b.dtype == bias.dtype and a.dtype.name in _TYPES and a.ndim == b.ndim
    return lt.multiplied(a, b, bias, relu=relu) if lt is not None and alike and a.size * b.size else None


def bfloat16_product(a: Any, b: Any, bias: Any = None, *, relu: bool = False, narrow: bool = False) -> Any:
    """``a @ b`` of the bits of bfloat16, arrays of uint16; sums are of float32.

    Parameters
    ----------
    a, b : (m, k) and (k, n), or (g, m, k) and (g, k, n); no length is 0
    bias : array, shape (n,), optional
        Added to each row; of the dtype of the product.
    relu : bool, default False
        Whether what is negative then becomes 0; goes with a bias.
    narrow : bool, default False
        Whether the product is of bfloat16 too, and not of float32.

    Raises
    ------
    BackendError
        If it cannot be computed: CuPy has no products of bfloat16 to fall back on.
    """
    if a.dtype != np.uint16 or b.dtype != np.uint16 or a.ndim != b.ndim or not a.size * b.size:
        raise BackendError(
            f"a product of bfloat16 is one of two arrays of uint16 with elements, not of {a.shape} of {a.dtype} and "
            f"{b.shape} of {b.dtype}"
        )
    lt = _lt()
    made = None if lt is None else lt.multiplied(a, b, bias, relu=relu, narrow=narrow)
    if made is None:
        raise BackendError(
            "products of bfloat16 are computed by cuBLASLt alone, in steps that are recorded, and it is not used here: "
            "the log of portnn_backends.on_cupy says why; take precision tf32"
        )
    return made


def _lt() -> Lt | None:
    products = _direct.get()
    return products.lt if isinstance(products, Products) else None


KERNELS = {"matmul": Kernel(matmul)}
