"""Waiting for another thread without sleeping, compiled by Numba: a core that sleeps takes 100 microseconds to wake up.

The loop does not hold the GIL. Between two looks the thread offers its core to whoever else wants it.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import compiled

__all__ = ["announce_and_wait", "hand_over", "look", "put", "yield_core"]


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def look(context: Any, array: Any, index: Any) -> Any:
    """What is in an array of int64 now; a plain read would be moved out of the loop."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def put(context: Any, array: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def yield_core(context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not hasattr(os, "sched_yield"):  # Windows: who waits keeps its core, for as many looks as it may
            return ir.Constant(ir.IntType(32), 0)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        return builder.call(function, [])

    return types.int32(), generate


@compiled
def announce_and_wait(flags: Any, mine: int, done: int, other: int, awaited: int, looks: int) -> bool:
    """Put ``done`` into a flag, then look at another one until it has a value; whether it came to that."""
    put(flags, mine, done)
    for _ in range(looks):
        if look(flags, other) == awaited:
            return True
        yield_core()
    return False


@compiled
def hand_over(flags: Any, mine: int, begun: int, other: int, looks: int, pause: int) -> None:
    """Put ``begun`` into a flag, and keep away from the GIL until the other thread has had it for a moment.

    A thread that finds the GIL taken sleeps, even if only for as long as its holder needs to begin a matrix product.
    """
    put(flags, mine, begun)
    for _ in range(looks):
        if look(flags, other) == begun:
            break
        yield_core()
    for _ in range(pause):
        yield_core()
