"""cuBLAS, as far as `portnn_backends.on_cupy.blas` calls it."""

import ctypes

import numpy as np

from . import shortage
from .streams import Stream


class CublasImitation:
    """The C functions that `cupy_blas` calls, on the memory that its pointers name. What is asked of it is kept."""

    def __init__(self):
        self.modes, self.products, self.stream, self.destroyed = [], 0, None, []

    def cublasCreate_v2(self, handle):
        handle._obj.value = 77
        return 3 if shortage.is_met("cuBLAS") else 0

    def cublasDestroy_v2(self, handle):
        self.destroyed.append(handle.value)
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = Stream.known[stream.value], None
        return 0

    def cublasSetWorkspace_v2(self, handle, pointer, size):
        self.workspace = pointer.value, size.value
        return 0

    def cublasSetMathMode(self, handle, mode):
        self.modes.append(mode.value)
        return 0

    def cublasGemmEx(
        self, handle, turn_a, turn_b, m, n, k, alpha, a, ta, lda, b, tb, ldb, beta, c, tc, ldc, kind, algo
    ):
        """As NVIDIA describes it: ``C = alpha op(A) op(B) + beta C``, everything column by column."""
        assert handle.value == 77
        assert self.workspace is not None, "the stream was set after the workspace, which took it away"
        assert ta.value == tb.value == tc.value
        dtype, scalar = {(0, 68): (np.float32, ctypes.c_float), (1, 70): (np.float64, ctypes.c_double)}[
            (ta.value, kind.value)
        ]
        assert type(alpha._obj) is type(beta._obj) is scalar
        shapes = [(m.value, k.value), (k.value, n.value)]
        shapes = [shape[::-1] if turn.value else shape for shape, turn in zip(shapes, (turn_a, turn_b), strict=True)]
        left, right, out = (
            _columns(pointer.value, shape, ld.value, dtype)
            for pointer, shape, ld in ((a, shapes[0], lda), (b, shapes[1], ldb), (c, (m.value, n.value), ldc))
        )
        if left is None or right is None or out is None:
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        factor, rest, self.products = alpha._obj.value, beta._obj.value, self.products + 1
        assert rest == 0.0
        if shortage.is_met("cuBLAS"):
            return 3  # CUBLAS_STATUS_ALLOC_FAILED

        def work():
            # By rows, as CuPy's own imitation: the same bits.
            with np.errstate(all="ignore"):
                product = (right if not turn_b.value else right.T).T @ (left if not turn_a.value else left.T).T
                out.T[...] = factor * product

        self.stream.do(work)
        return 0


def _columns(address, shape, leading, dtype):
    """A matrix stored column by column, whose columns are ``leading`` elements apart."""
    itemsize = np.dtype(dtype).itemsize
    if leading < shape[0]:
        return None
    size = ((shape[1] - 1) * leading + shape[0]) * itemsize
    memory = (ctypes.c_char * size).from_address(address)
    return np.ndarray(shape, dtype, memory, 0, (itemsize, leading * itemsize))
