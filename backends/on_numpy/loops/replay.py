"""The loop that walks a tape, compiled by Numba; and what stands on tapes but is not one loop of NumPy's."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import compiled
from .threads import look, put, yield_core

__all__ = ["call_block", "chosen", "converted", "copied_rows", "over", "replay"]

_WORD = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def call_block(context: Any, function: Any, block: Any) -> Any:
    """``function(block)``, both of them addresses; what it gives."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [_WORD]).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), [args[1]])

    return types.int32(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def _call_loop(context: Any, function: Any, args_at: Any, counts_at: Any, steps_at: Any, data: Any) -> Any:
    """An inner loop of NumPy's; all five are addresses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 4).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def _address(context: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _WORD)

    return types.int64(array), generate


@compiled
def _meet(flags: Any, part: int, parts: int, stage: int, looks: int) -> bool:
    """Wait until every thread has come to a stage; who waits long offers its core to others between two looks.

    False where a thread will not come: its flag is negative.
    """
    put(flags, part * 8, stage)
    for other in range(parts):
        seen, there = 0, look(flags, other * 8)
        while there < stage:
            if there < 0:
                return False
            seen += 1
            if seen > looks:
                yield_core()
            there = look(flags, other * 8)
    return True


@compiled
def replay(
    program: Any, words: Any, places: Any, numbers: Any, flags: Any, part: int, parts: int, most: int, looks: int
) -> int:
    """Do the steps of ``numbers``, (steps, slots); this thread's part of it, or all parts. What went wrong, or 0.

    program : (parts, instructions, 2): a caller and its block, (0, 0) where the threads meet, (-1, 0) for nothing
    words : the blocks; places : (patches, 3): the word, the slot that it takes, and what is added to it
    """
    stage, wrong = 0, 0
    for step in range(numbers.shape[0]):
        if part == 0:
            for i in range(places.shape[0]):
                words[places[i, 0]] = numbers[step, places[i, 1]] + places[i, 2]
        if parts > 1:
            stage += 1
            if not _meet(flags, part, parts, stage, looks):
                return wrong
        for i in range(program.shape[1]):
            # One thread alone goes through all parts in their order.
            first, last = (part, part + 1) if parts > 1 else (0, most)
            for mine in range(first, last):
                function = program[mine, i, 0]
                if function > 0:
                    wrong |= call_block(function, program[mine, i, 1])
            if parts > 1 and program[part, i, 0] == 0:
                stage += 1
                if not _meet(flags, part, parts, stage, looks):
                    return wrong
        if parts > 1:
            stage += 1
            if not _meet(flags, part, parts, stage, looks):
                return wrong
    return wrong


@compiled
def over(function: int, data: int, args: Any, count: Any, steps: Any, shape: Any, strides: Any, room: Any) -> None:
    """NumPy's inner loop, once for each place in the outer axes.

    args : (operands,) addresses; count : (1,) or more; steps : of the inner loop; shape : (axes,); strides :
    (axes, operands), bytes; room : (2 operands + axes,) words to compute in
    """
    operands, axes = args.shape[0], shape.shape[0]
    given, place = operands, 2 * operands
    for j in range(operands):
        room[j] = args[j]
    for axis in range(axes):
        room[place + axis] = 0
    while True:
        for j in range(operands):
            room[given + j] = room[j]  # which the loop may change
        _call_loop(function, _address(room) + 8 * given, _address(count), _address(steps), data)
        axis = axes - 1
        while axis >= 0:
            room[place + axis] += 1
            for j in range(operands):
                room[j] += strides[axis, j]
            if room[place + axis] < shape[axis]:
                break
            for j in range(operands):
                room[j] -= strides[axis, j] * shape[axis]
            room[place + axis] = 0
            axis -= 1
        if axis < 0:
            return


@compiled
def converted(values: Any, out: Any) -> None:
    """Values of one dtype as those of another; one axis."""
    for i in range(out.shape[0]):
        out[i] = values[i]


@compiled
def chosen(condition: Any, a: Any, b: Any, out: Any) -> None:
    """``where``; one axis."""
    for i in range(out.shape[0]):
        out[i] = a[i] if condition[i] else b[i]


@compiled
def copied_rows(x: Any, index: Any, out: Any) -> None:
    """``take`` along the first axis; x : (n, k), out : (b, k). An index that is out of range raises."""
    for i in range(index.shape[0]):
        row = index[i]
        if row < 0:
            row += x.shape[0]
        if row < 0 or row >= x.shape[0]:
            raise IndexError
        for j in range(x.shape[1]):
            out[i, j] = x[row, j]
