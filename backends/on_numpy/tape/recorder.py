"""`Recorder`: what a step asks of NumPy and of compiled loops, as instructions of a tape."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile import Code, Compiled, loops
from .native import flat_arguments, loop_kinds, loop_of
from .numbers import StepFloat, StepInt, Unrecordable, plain_number
from .words import Place, Shifted, Words, plain, strided

__all__ = ["Recorder", "coalesced"]

#: A first value that is met again changes nothing.
_IDEMPOTENT = frozenset({np.maximum, np.minimum, np.fmax, np.fmin})


#: An axis that is split has at least so many places for each part.
_LONG = 16


class Recorder(Words):
    """Writes down what a step does."""

    def loop(self, compiled: Compiled, arguments: tuple[Any, ...]) -> Any:
        """A call of what Numba compiled: done, and written down."""
        given = tuple(_given(argument) for argument in arguments)
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        for a in arrays:  # which of them are written the loop does not say
            if not self.root(a).fresh:
                self.reads(a)
        constants = [a for a in arrays if not self.root(a).fresh and self.root(a).name is None]
        before = [a.tobytes() for a in constants]
        result = compiled.now(*given)
        if before != [a.tobytes() for a in constants]:
            raise Unrecordable(f"{compiled.__name__} changes an array that is not made in the step")
        words: list[Any] = []
        for argument, value in zip(arguments, given, strict=True):
            if isinstance(argument, StepFloat | StepInt):
                words.append((argument, np.asarray(value).dtype))
            else:
                words += [_word(word) for word in flat_arguments(value)]
        self._instruct_compiled(compiled.__name__, compiled.code(given), words, sum(a.nbytes for a in arrays))
        for a in arrays:
            if self.root(a).fresh:
                self.writes(a)
        return result

    def ufunc(self, ufunc: np.ufunc, inputs: Sequence[Any], output: Any) -> None:
        """One result of a ufunc, element by element."""
        types = self._loop_types(ufunc, inputs, output)
        operands = [self._as_operand(x, t) for x, t in zip(inputs, types[:-1], strict=True)]
        out = output if output.dtype == types[-1] else self._temporary(output.shape, types[-1])
        for x in operands:
            if isinstance(x, np.ndarray):
                self.reads(x)
        self.writes(out, reading=operands)
        self._over(ufunc, types, [*operands, out], out.shape)
        if out is not output:
            self.convert(out, output)

    def _loop_types(self, ufunc: np.ufunc, inputs: Sequence[Any], output: Any, reduction: bool = False) -> Any:
        kinds = [x.dtype if isinstance(x, np.ndarray | np.generic) else _python_type(x) for x in inputs]
        if reduction:
            return ufunc.resolve_dtypes((output.dtype, *kinds, None), reduction=True)
        return ufunc.resolve_dtypes((*kinds, None))

    def _as_operand(self, x: Any, dtype: Any) -> Any:
        """An array of a dtype, or a word with a number."""
        if isinstance(x, StepFloat | StepInt):
            word = self.block([(x, dtype)])
            return Place(word, 1)
        x = plain(np.asarray(x, dtype) if not isinstance(x, np.ndarray) else x)
        if x.dtype == dtype:
            return x
        converted = self._temporary(x.shape, dtype)
        self.reads(x)
        self.convert(x, converted)
        return converted

    def _temporary(self, shape: Any, dtype: Any) -> Any:
        made = np.empty(shape, dtype)
        self.made(made)
        return made

    def _over(self, ufunc: np.ufunc, types: Any, operands: Sequence[Any], shape: tuple[int, ...]) -> None:
        found = _loop(ufunc, types)
        strides = [(0,) * len(shape) if isinstance(x, Place) else np.broadcast_to(x, shape).strides for x in operands]
        counts, steps = coalesced(shape, strides)
        self.walk(ufunc.__name__, found, operands, counts, steps)

    def walk(
        self, name: str, loop: tuple[int, int], operands: Sequence[Any], counts: Sequence[int], steps: Sequence[Any]
    ) -> None:
        """An inner loop of NumPy's along the last of some axes, for each place in the others.

        ``steps`` has the bytes of each operand along each axis.
        """
        if 0 in counts:
            return
        if (
            self.splits(math.prod(counts))
            and (axis := _axis_to_split(counts, [step[-1] for step in steps])) is not None
        ):
            self.parallel(
                [
                    functools.partial(self.walk, name, loop, *_part(operands, counts, steps, axis, part))
                    for part in _ranges(counts[axis], self.parts)
                ]
            )
            return
        (function, data), n = loop, len(operands)
        args = Place(self.block([*operands]), n)
        inner_counts, inner_steps = Place(self.block(counts[-1:]), 1), Place(self.block(steps[-1]), n)
        bytes_ = math.prod(counts) * sum(x.itemsize for x in operands if isinstance(x, np.ndarray))
        if len(counts) == 1:
            self.instruct(name, loop_kinds(n), function, [args, inner_counts, inner_steps, data], bytes_)
            return
        shape = Place(self.block(counts[:-1]), len(counts) - 1)
        strides = Place(self.block([s for axis in steps[:-1] for s in axis]), n * (len(counts) - 1))
        room = Place(self.block([0] * (2 * n + len(counts) - 1)), 2 * n + len(counts) - 1)
        row = np.zeros(1, np.int64)
        code = loops("replay").over.code((1, 1, row, row, row, row, row.reshape(1, 1), row))
        words: list[Any] = [function, data]
        for place, form in (
            (args, (n,)),
            (inner_counts, (1,)),
            (inner_steps, (n,)),
            (shape, (shape.size,)),
            (strides, (shape.size, n)),
            (room, (room.size,)),
        ):
            words += [0, 0, place.size, 8, place, *form, *([8] if len(form) == 1 else [8 * n, 8])]
        self._instruct_compiled(name, code, words, bytes_)

    def convert(self, x: Any, out: Any) -> None:
        """Values of one dtype as those of another, or just copied; ``x`` is broadcast."""
        x, out = plain(x), plain(out)
        if x.dtype == out.dtype and x.dtype.kind != "b":
            self.reads(x)
            self.writes(out)
            self._over(np.positive, (x.dtype, x.dtype), [x, out], out.shape)
            return
        if x.dtype.kind == "b" and out.dtype.kind == "b":
            self.convert(x.view(np.uint8), out.view(np.uint8))
            return
        strides = [np.broadcast_to(x, out.shape).strides, out.strides]
        counts, steps = coalesced(out.shape, strides)
        if len(counts) > 1:
            if x.flags.c_contiguous or not out.flags.c_contiguous:
                raise Unrecordable(f"a conversion of {x.dtype} to {out.dtype} of arrays that lie otherwise in memory")
            same = self._temporary(out.shape, x.dtype)
            self.convert(x, same)
            x, counts, steps = same, [out.size], [[x.itemsize, out.itemsize]]
        self.reads(x)
        self.writes(out)
        self.call("converted", *[strided(a, counts[0], step) for a, step in zip((x, out), steps[0], strict=True)])

    def call(self, name: str, *arrays: Any, whole: int = 0) -> None:
        """A loop of `loops.replay`, which is not done now. All arrays but the first ``whole`` may be cut in rows."""
        if self.splits(arrays[-1].size):
            kept, cut = arrays[:whole], arrays[whole:]
            self.parallel(
                [
                    functools.partial(self.call, name, *kept, *(a[part] for a in cut), whole=whole)
                    for part in _ranges(len(cut[-1]), self.parts)
                ]
            )
            return
        code = getattr(loops("replay"), name).code(arrays)
        words = [_word(word) for a in arrays for word in flat_arguments(a)]
        # Of an array that is not cut, as much is read as is written.
        bytes_ = sum(a.nbytes for a in arrays[whole:]) + whole * arrays[-1].nbytes
        self._instruct_compiled(name, code, words, bytes_)

    def _instruct_compiled(self, name: str, code: Code, words: Sequence[Any], bytes_: int) -> None:
        """A function of Numba's, which also wants room for what it gives and for its error."""
        room = self.block([0] * 8)
        self.instruct(name, code.kinds, code.address, [Place(room, 4), Place(room + 4, 4), *words], bytes_)

    def reduce(self, ufunc: np.ufunc, x: Any, axes: tuple[int, ...], output: Any, initial: Any) -> None:
        """A reduction over some axes; ``output`` has them, with length 1."""
        types = self._loop_types(ufunc, [x], output, reduction=True)
        x = self._as_operand(x, types[1])
        out = output if output.dtype == types[0] else self._temporary(output.shape, types[0])
        self.reads(x)
        if initial is None and ufunc.identity is None:
            if ufunc not in _IDEMPOTENT:
                raise Unrecordable(f"{ufunc.__name__}.reduce without a first value")
            self.convert(x[tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim))], out)
        else:
            start = ufunc.identity if initial is None else initial
            if ufunc is np.add and initial is None and types[0].kind == "f" and x.size:
                start = -0.0  # which changes nothing that is added to it
            self.convert(np.asarray(start, types[0]), out)
        self.writes(out)
        found = _loop(ufunc, types)
        outer = np.broadcast_to(out, x.shape).strides
        counts, steps = coalesced(x.shape, [outer, outer, x.strides])
        together = [step for step in steps if not step[0]]
        rounds = len(together) > 1 and types[0].kind == "f" and ufunc not in _IDEMPOTENT
        if rounds and (len(together) == len(steps) or not all(step[-1] for step in together)):
            # NumPy copies such an array into a buffer, so much at a time, and sums up each of the pieces in pairs.
            raise Unrecordable(f"{ufunc.__name__}.reduce of all of an array that does not lie in one piece")
        steps = [[one, step, other] for one, other, step in steps]
        self.walk(f"{ufunc.__name__}.reduce", found, [out, x, out], counts, steps)
        if out is not output:
            self.convert(out, output)

    def matmul(self, a: Any, b: Any, output: Any) -> None:
        """A product of two matrices, of a vector and a matrix, or of as many of them as the first axes say."""
        types = self._loop_types(np.matmul, [a, b], output)
        a, b = (self._as_operand(x, t) for x, t in zip((a, b), types[:-1], strict=True))
        if output.dtype != types[-1]:
            raise Unrecordable("a product of matrices into an array of another dtype")
        self.reads(a)
        self.reads(b)
        self.writes(output)
        out = plain(output)
        if a.ndim == 1:
            a, out = a[None], (out[..., None, :] if b.ndim > 1 else out[..., None])
        if b.ndim == 1:
            b, out = b[:, None], out[..., None]
        outer = out.shape[:-2]
        if len(outer) > 1:
            raise Unrecordable("a product of stacks of stacks of matrices")
        found = _loop(np.matmul, types)
        stacks = [0 if x.ndim < 3 or x.shape[0] == 1 else x.strides[0] for x in (a, b, out)]
        counts = [math.prod(outer), a.shape[-2], a.shape[-1], b.shape[-1]]
        steps = [*stacks, *a.strides[-2:], *b.strides[-2:], *out.strides[-2:]]
        args = Place(self.block([a, b, out]), 3)
        self.instruct(
            "matmul",
            loop_kinds(3),
            found[0],
            [args, Place(self.block(counts), 4), Place(self.block(steps), 9), found[1]],
            a.nbytes + b.nbytes + out.nbytes,
            tuple(counts[counts[0] == 1 :]),
        )

    def foreign_product(self, function: int, kinds: str, values: Sequence[Any], a: Any, b: Any, output: Any) -> None:
        """A product of two matrices by a function of C, which is called with these values."""
        self.reads(a)
        self.reads(b)
        self.writes(output)
        sizes = (a.shape[0], a.shape[1], b.shape[1])
        self.instruct("matmul", kinds, function, values, a.nbytes + b.nbytes + output.nbytes, sizes)

    def vecdot(self, a: Any, b: Any, output: Any) -> None:
        """The inner product of two vectors, or of each pair along the last axis."""
        types = self._loop_types(np.vecdot, [a, b], output)
        a, b = (self._as_operand(x, t) for x, t in zip((a, b), types[:-1], strict=True))
        found = loop_of(np.vecdot, "".join(t.char for t in types))
        if found is None or output.dtype != types[-1] or max(a.ndim, b.ndim) > 2:
            raise Unrecordable(f"inner products of {', '.join(map(str, types))} with {max(a.ndim, b.ndim)} axes")
        self.reads(a)
        self.reads(b)
        self.writes(output)
        stacks = [0 if x.ndim < n or x.shape[0] == 1 else x.strides[0] for x, n in ((a, 2), (b, 2), (output, 1))]
        steps = Place(self.block([*stacks, a.strides[-1], b.strides[-1]]), 5)
        sizes = (output.size, a.shape[-1], 1)
        counts = Place(self.block(list(sizes[:2])), 2)
        args = Place(self.block([a, b, plain(output)]), 3)
        self.instruct("vecdot", loop_kinds(3), found[0], [args, counts, steps, found[1]], a.nbytes + b.nbytes, sizes)


def _loop(ufunc: np.ufunc, types: Sequence[Any]) -> tuple[int, int]:
    """Address and data of NumPy's inner loop for some dtypes."""
    found = loop_of(ufunc, "".join(t.char for t in types))
    if found is None:
        raise Unrecordable(f"{ufunc.__name__} has no loop for {', '.join(map(str, types))}")
    return found


def _axis_to_split(counts: Sequence[int], written: Sequence[int]) -> int | None:
    """The first axis along which results lie beside each other; None if there is none of some length."""
    axes = [axis for axis, (count, step) in enumerate(zip(counts, written, strict=True)) if step and count >= _LONG]
    return axes[0] if axes else None


def _ranges(count: int, parts: int) -> list[slice]:
    """About equal parts, which begin where a cache line may."""
    ends = [count * part // parts // _LONG * _LONG if part < parts else count for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def _part(operands: Sequence[Any], counts: Sequence[int], steps: Sequence[Any], axis: int, part: slice) -> Any:
    """Some places along an axis of what `Recorder.walk` is given."""
    moved = [
        x if isinstance(x, Place) else Shifted(x, part.start * step)
        for x, step in zip(operands, steps[axis], strict=True)
    ]
    return moved, [*counts[:axis], part.stop - part.start, *counts[axis + 1 :]], steps


def coalesced(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same places with as few axes as can be, none of length 1: their lengths, and every operand's steps."""
    counts: list[int] = []
    steps: list[list[int]] = []
    for axis in _far_to_near(strides[-1]):
        count = shape[axis]
        if count == 1:
            continue
        here = [stride[axis] for stride in strides]
        if counts and all(outer == inner * count for outer, inner in zip(steps[-1], here, strict=True)):
            counts[-1], steps[-1] = counts[-1] * count, here
        else:
            counts.append(count)
            steps.append(here)
    return (counts, steps) if counts else ([1], [[0] * len(strides)])


def _far_to_near(strides: Sequence[int]) -> list[int]:
    """The axes as they lie in memory, in the order in which NumPy's iterator goes: sums depend on it.

    It leaves two axes in their places where one of them has no step.
    """
    axes: list[int] = []
    for axis in reversed(range(len(strides))):
        place = len(axes)
        for i in reversed(range(len(axes))):
            here, other = abs(strides[axis]), abs(strides[axes[i]])
            if here and other:
                if other <= here:
                    break
                place = i
        axes.insert(place, axis)
    return axes[::-1]


def _given(argument: Any) -> Any:
    """What the compiled loop is really given."""
    number = plain_number(argument)
    return np.uint64(number) if isinstance(argument, StepInt) else plain(number)


def _word(word: Any) -> Any:
    """A part of a compiled loop's argument as `Words.block` takes it."""
    if isinstance(word, bool | np.bool_):
        return int(word)
    if isinstance(word, np.ndarray | int):
        return word
    if isinstance(word, np.generic):
        return word, word.dtype
    if isinstance(word, float):
        return word, np.float64
    raise Unrecordable(f"a {type(word).__name__} is given to a compiled loop")


def _python_type(x: Any) -> Any:
    if isinstance(x, bool):
        return np.dtype(bool)
    for kind in (int, float):
        if isinstance(x, kind):
            return kind
    raise Unrecordable(f"a {type(x).__name__} is computed with")
