"""The loop that walks a tape in one thread and looks at the clock after each instruction: for people who measure."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import compiled
from .replay import call_block

__all__ = ["timed"]

_WORD, _STATUS = ir.IntType(64), ir.IntType(32)


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def _read_clock(context: Any, clock: Any, time: Any) -> Any:
    """C's ``clock_gettime``: seconds and nanoseconds of a clock, into an array of two words."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[1])(context, builder, args[1]).data
        kind = ir.FunctionType(_STATUS, [_STATUS, _WORD.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        return builder.call(function, [builder.trunc(args[0], _STATUS), data])

    return types.int32(types.int64, time), generate


@compiled
def _nanoseconds(clock: int, time: Any) -> int:
    _read_clock(clock, time)
    return time[0] * 1_000_000_000 + time[1]  # type: ignore[no-any-return]


@compiled
def timed(program: Any, words: Any, places: Any, numbers: Any, clock: int, time: Any, spent: Any) -> int:
    """As `replay` in one thread; what a look at the clock takes, in nanoseconds.

    clock : the number of the system's clock; time : (2,) to read it into
    spent : (steps, parts, places) gets nanoseconds, looks included
    """
    least = 1_000_000
    for step in range(numbers.shape[0]):
        for i in range(places.shape[0]):
            words[places[i, 0]] = numbers[step, places[i, 1]] + places[i, 2]
        before = _nanoseconds(clock, time)
        now = _nanoseconds(clock, time)
        least = min(least, now - before)
        for i in range(program.shape[1]):
            for part in range(program.shape[0]):
                function = program[part, i, 0]
                if function > 0:
                    call_block(function, program[part, i, 1])
                    before, now = now, _nanoseconds(clock, time)
                    spent[step, part, i] = now - before
    return least
