"""cuBLASLt, as far as `portnn_backends.on_cupy.lt` calls it, and as particular as NVIDIA's."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import numpy as np

from . import shortage
from .cublas import _columns
from .streams import Stream

SUCCESS, OUT_OF_MEMORY, INVALID, NOT_SUPPORTED = 0, 3, 7, 15

#: cudaDataType
_DTYPES = {0: np.dtype(np.float32), 1: np.dtype(np.float64), 14: np.dtype(np.uint16)}
#: (cublasComputeType_t, cudaDataType of scalars): of factors, and of products.
_COMPUTES = {(68, 0): {(0, 0), (14, 14), (14, 0)}, (77, 0): {(0, 0)}, (70, 1): {(1, 1)}}
_MAGIC = 0x706F72746E6E


class CublasLtImitation:
    """The C functions that `lt` calls, on the memory that its pointers name.

    Algorithm number ``i`` takes ``durations[i]`` milliseconds, and matrices that begin at multiples of ``needs[i]``
    bytes; with ``rounding``, it adds up ``i + 1`` parts apart, so that each of them rounds otherwise.

    Attributes
    ----------
    alive : dict
        What was created and not destroyed.
    launched : list of (int, str)
        The algorithms of all products, and whether they were ``"captured"`` or done at ``"once"``.
    """

    durations: ClassVar[tuple[float, ...]] = (0.02, 0.03)
    needs: ClassVar[tuple[int, ...]] = (4, 16, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4)
    space: ClassVar[tuple[int, ...]] = (0,) * 16
    rounding: ClassVar[bool] = False
    version: ClassVar[int] = 130100

    def __init__(self) -> None:
        self.alive: dict[int, Any] = {}
        self.asked = 0
        self.launched: list[tuple[int, str]] = []
        self._next = 1000

    def cublasLtGetVersion(self) -> int:
        return self.version

    # ---- what is created and destroyed

    def _create(self, into: Any, value: Any) -> int:
        if shortage.is_met("cuBLASLt"):
            return OUT_OF_MEMORY
        self._next += 8
        into._obj.value = self._next
        self.alive[self._next] = value
        return SUCCESS

    def _destroy(self, handle: Any, kind: type) -> int:
        assert isinstance(self.alive.pop(handle.value), kind), "destroyed as what it is not"
        return SUCCESS

    def cublasLtCreate(self, into: Any) -> int:
        return self._create(into, _Handle())

    def cublasLtDestroy(self, handle: Any) -> int:
        return self._destroy(handle, _Handle)

    def cublasLtMatmulDescCreate(self, into: Any, compute: Any, scale: Any) -> int:
        if (compute.value, scale.value) not in _COMPUTES:
            return INVALID
        return self._create(into, _Product(compute.value, scale.value))

    def cublasLtMatmulDescDestroy(self, product: Any) -> int:
        return self._destroy(product, _Product)

    def cublasLtMatrixLayoutCreate(self, into: Any, dtype: Any, rows: Any, columns: Any, leading: Any) -> int:
        assert [type(a) for a in (dtype, rows, columns, leading)] == [
            ctypes.c_int,
            *[ctypes.c_uint64] * 2,
            ctypes.c_int64,
        ]
        if leading.value < rows.value or not rows.value * columns.value:
            return INVALID
        return self._create(into, _Layout(dtype.value, rows.value, columns.value, leading.value))

    def cublasLtMatrixLayoutDestroy(self, layout: Any) -> int:
        return self._destroy(layout, _Layout)

    def cublasLtMatmulPreferenceCreate(self, into: Any) -> int:
        return self._create(into, _Preference())

    def cublasLtMatmulPreferenceDestroy(self, preference: Any) -> int:
        return self._destroy(preference, _Preference)

    def _set(self, of: Any, kind: type, attribute: Any, value: Any, size: Any) -> int:
        found = self.alive[of.value]
        assert isinstance(found, kind)
        if attribute.value not in found.types:
            return INVALID
        # The number of bytes is all that cuBLASLt knows of the type.
        if found.types[attribute.value] is not type(value._obj) or size.value != ctypes.sizeof(value._obj):
            return INVALID
        found.values[attribute.value] = value._obj.value
        return SUCCESS

    def cublasLtMatmulDescSetAttribute(self, *args: Any) -> int:
        return self._set(args[0], _Product, *args[1:])

    def cublasLtMatrixLayoutSetAttribute(self, *args: Any) -> int:
        return self._set(args[0], _Layout, *args[1:])

    def cublasLtMatmulPreferenceSetAttribute(self, *args: Any) -> int:
        return self._set(args[0], _Preference, *args[1:])

    # ---- algorithms

    def _problem(self, handle: Any, product: Any, *layouts: Any) -> _Problem | None:
        """None if the layouts do not fit together."""
        assert isinstance(self.alive[handle.value], _Handle)
        return _Problem.of(self.alive[product.value], *(self.alive[layout.value] for layout in layouts))

    def cublasLtMatmulAlgoGetHeuristic(self, *args: Any) -> int:
        *described, preference, most, results, found = args
        problem, wishes = self._problem(*described), self.alive[preference.value]
        if problem is None:
            return INVALID
        if shortage.is_met("cuBLASLt"):
            return OUT_OF_MEMORY
        self.asked += 1
        told = [wishes.values.get(attribute, 256) for attribute in (5, 6, 7, 8)]
        alignment = min(*told, problem.bias_alignment)
        fitting = [
            i
            for i in range(len(self.durations))
            if self.needs[i] <= alignment and self.space[i] <= wishes.values.get(1, 0)
        ][: most.value]
        for result, i in zip(results._obj, fitting, strict=False):
            result.algorithm.data[:3] = (_MAGIC, i, problem.digest)
            result.workspace, result.state, result.waves = self.space[i], SUCCESS, 1.0
        found._obj.value = len(fitting)
        return SUCCESS if fitting else NOT_SUPPORTED

    def _number(self, algorithm: Any, problem: _Problem) -> int | None:
        magic, number, digest, *rest = algorithm.data
        fits = magic == _MAGIC and number < len(self.durations) and digest == problem.digest and not any(rest)
        return number if fits else None

    def cublasLtMatmulAlgoCheck(self, *args: Any) -> int:
        *described, algorithm, result = args
        problem = self._problem(*described)
        number = None if problem is None else self._number(algorithm._obj, problem)
        if number is None:
            return INVALID if problem is None else NOT_SUPPORTED
        if shortage.is_met("cuBLASLt"):
            return OUT_OF_MEMORY
        result._obj.workspace, result._obj.state = self.space[number], SUCCESS
        return SUCCESS

    def cublasLtMatmul(self, handle: Any, product: Any, *args: Any) -> int:
        """As NVIDIA describes it: ``D = epilogue(alpha op(A) op(B) + beta C)``, everything column by column."""
        alpha, a, of_a, b, of_b, beta, c, of_c, d, of_d, algorithm, workspace, size, stream = args
        problem = self._problem(handle, product, of_a, of_b, of_c, of_d)
        assert c.value == d.value, "C is not D, which this imitation does not read"
        scalar = ctypes.c_double if problem is not None and problem.scale == 1 else ctypes.c_float
        assert type(alpha._obj) is type(beta._obj) is scalar
        assert (alpha._obj.value, beta._obj.value) == (1.0, 0.0)
        number = None if problem is None else self._number(algorithm._obj, problem)
        if problem is None or number is None:
            return INVALID
        begins = [a.value, b.value, d.value]
        begins += [stride * _DTYPES[layout.dtype].itemsize for layout in problem.layouts for stride in layout.strides]
        begins += [problem.bias] if problem.epilogue != 1 else []
        if any(begin % self.needs[number] for begin in begins):
            return INVALID  # or what is there is read wrongly
        if size.value < self.space[number] or (self.space[number] and workspace.value % 256):
            return INVALID
        if shortage.is_met("cuBLASLt"):
            return OUT_OF_MEMORY
        on = Stream.known[stream.value]
        parts, takes = number + 1 if self.rounding else 1, self.durations[number]
        work = problem.work(a.value, b.value, d.value, parts)

        def timed() -> None:
            work()
            on.clock += takes

        self.launched.append((number, "once" if on.captured is None else "captured"))
        on.do(timed)
        return SUCCESS


class _Handle:
    pass


class _Attributes:
    types: ClassVar[dict[int, Any]] = {}

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}


class _Product(_Attributes):
    types: ClassVar[dict[int, Any]] = {
        3: ctypes.c_int32,  # whether A and B are transposed
        4: ctypes.c_int32,
        7: ctypes.c_uint32,  # epilogue
        8: ctypes.c_void_p,  # bias
    }

    def __init__(self, compute: int, scale: int) -> None:
        super().__init__()
        self.compute, self.scale = compute, scale


class _Preference(_Attributes):
    types: ClassVar[dict[int, Any]] = {1: ctypes.c_uint64, **dict.fromkeys((5, 6, 7, 8), ctypes.c_uint32)}


class _Layout(_Attributes):
    types: ClassVar[dict[int, Any]] = {5: ctypes.c_int32, 6: ctypes.c_int64}  # how many, and the elements between them

    def __init__(self, dtype: int, rows: int, columns: int, leading: int) -> None:
        super().__init__()
        self.dtype, self.rows, self.columns, self.leading = dtype, rows, columns, leading

    count = property(lambda self: self.values.get(5, 1))

    @property
    def strides(self) -> list[int]:
        return [self.values.get(6, 0)] if self.count > 1 else []

    def matrices(self, address: int) -> list[Any]:
        """Views on the memory at an address: of float64, or of copies in float32 where they are of bfloat16."""
        dtype, step = _DTYPES[self.dtype], self.values.get(6, 0)
        shape = self.rows, self.columns
        return [_columns(address + i * step * dtype.itemsize, shape, self.leading, dtype) for i in range(self.count)]


class _Problem:
    """A product with its layouts, which fit together."""

    def __init__(self, product: _Product, layouts: tuple[_Layout, ...]) -> None:
        self.product, self.layouts, self.scale = product, layouts, product.scale
        self.turned = [bool(product.values.get(attribute, 0)) for attribute in (3, 4)]
        self.epilogue, self.bias = product.values.get(7, 1), product.values.get(8) or 0
        # An algorithm is for what it was given for: not for another shape, layout or type.
        told = [(x.dtype, x.rows, x.columns, x.leading, x.count, x.values.get(6, 0)) for x in layouts]
        self.digest = hash((product.compute, tuple(self.turned), self.epilogue, tuple(told))) % 2**61

    @classmethod
    def of(cls, product: _Product, a: _Layout, b: _Layout, c: _Layout, d: _Layout) -> _Problem | None:
        made = cls(product, (a, b, d))
        turn_a, turn_b = made.turned
        m, k = (a.columns, a.rows) if turn_a else (a.rows, a.columns)
        other, n = (b.columns, b.rows) if turn_b else (b.rows, b.columns)
        fits = (m, n) == (d.rows, d.columns) and k == other and c is d and a.count == b.count == d.count
        kinds = a.dtype == b.dtype and (a.dtype, d.dtype) in _COMPUTES[product.compute, product.scale]
        known = made.epilogue == 1 or (made.epilogue in (4, 6) and made.bias)
        return made if fits and kinds and known else None

    @property
    def bias_alignment(self) -> int:
        return 256 if self.epilogue == 1 else (self.bias | 256) & -(self.bias | 256)

    def work(self, a: int, b: int, d: int, parts: int) -> Any:
        left, right, out = (x.matrices(at) for x, at in zip(self.layouts, (a, b, d), strict=True))
        turn_a, turn_b = self.turned
        epilogue, address, dtype = self.epilogue, self.bias, _DTYPES[self.layouts[2].dtype]
        length = self.layouts[2].rows

        def work() -> None:
            with np.errstate(all="ignore"):
                for x, y, to in zip(left, right, out, strict=True):
                    # By rows, as CuPy's own imitation: the same bits.
                    y, x = (wide(y).T if not turn_b else wide(y)), (wide(x).T if not turn_a else wide(x))
                    made = _in_parts(y, x, parts)
                    if epilogue != 1:
                        made = made + wide(_columns(address, (length, 1), length, dtype))[:, 0]
                    if epilogue == 6:
                        made = np.maximum(made, 0)
                    to.T[...] = _bits(made) if dtype == np.uint16 else made

        return work


def _in_parts(x: Any, y: Any, parts: int) -> Any:
    cuts = np.array_split(np.arange(x.shape[1]), parts)
    products = [x[:, cut] @ y[cut] for cut in cuts] if parts > 1 else [x @ y]
    return sum(products[1:], products[0])


def wide(values: Any) -> Any:
    """Of the bits of bfloat16, the numbers as float32; all else as it is."""
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


def _bits(values: Any) -> Any:
    """Float32 rounded to the nearest bfloat16, to even in the middle."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
