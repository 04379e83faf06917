"""Addresses of compiled code: what Numba made of a loop, NumPy's own inner loops, and calls of both from a block.

A block is a row of 64-bit words: the address of a function, and its arguments. NumPy's inner loops are found in the
object of a ufunc, whose beginning has been the same since NumPy 1.0 (``numpy/ufuncobject.h``).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

__all__ = ["caller", "flat_arguments", "loop_kinds", "loop_of", "numba_function"]

_WORD = ir.IntType(64)


def loop_kinds(operands: int) -> str:
    """Of ``loop(char **args, npy_intp *dimensions, npy_intp *steps, void *data)``, which may change ``args``."""
    return f"v:{operands}iii"


@functools.cache
def caller(kinds: str) -> int:
    """The address of ``int32 call(int64 block)``, which calls the function in the first word with the words behind it.

    ``kinds`` has a letter for what the function gives, v (nothing) or i (a status), a colon, and a letter for each
    argument: i, a word or a pointer; w, 32 bits; b, 8 bits; t, a truth value; d and f, a float64 and a float32;
    a digit, the address of so many words, of which the function gets a copy.
    """
    gives, _, arguments = kinds.partition(":")
    status, name = ir.IntType(32), "portnn_call_" + kinds.replace(":", "_")
    module = ir.Module(name)
    function = ir.Function(module, ir.FunctionType(status, [_WORD]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    block = builder.inttoptr(function.args[0], _WORD.as_pointer())
    words = [builder.load(builder.gep(block, [_WORD(i)])) for i in range(len(arguments) + 1)]
    values = [_as(builder, kind, word) for kind, word in zip(arguments, words[1:], strict=True)]
    type_ = ir.FunctionType(ir.VoidType() if gives == "v" else status, [value.type for value in values])
    made = builder.call(builder.inttoptr(words[0], type_.as_pointer()), values)
    builder.ret(status(0) if gives == "v" else made)
    with global_compiler_lock:
        library = cpu_target.target_context.codegen().create_library(name)
        library.add_ir_module(module)
        library.finalize()
    _kept.append(library)
    return int(library.get_pointer_to_function(name))


#: The code lives as long as what holds it.
_kept: list[Any] = []


def _as(builder: Any, kind: str, word: Any) -> Any:
    if kind == "i":
        return word
    if kind.isdigit():
        there, here = builder.inttoptr(word, _WORD.as_pointer()), builder.alloca(_WORD, int(kind))
        for i in map(_WORD, range(int(kind))):
            builder.store(builder.load(builder.gep(there, [i])), builder.gep(here, [i]))
        return builder.ptrtoint(here, _WORD)
    if kind == "d":
        return builder.bitcast(word, ir.DoubleType())
    narrow = builder.trunc(word, ir.IntType({"w": 32, "f": 32, "b": 8, "t": 1}[kind]))
    return builder.bitcast(narrow, ir.FloatType()) if kind == "f" else narrow


def numba_function(compiled: Any, arguments: tuple[Any, ...]) -> tuple[int, str]:
    """What a call of a compiled function with such arguments comes to: its address, and the kinds for `caller`.

    Before the arguments it takes two addresses, of what it gives and of its error (Numba's calling convention).
    """
    types = tuple(compiled.typeof_pyval(argument) for argument in arguments)
    if types not in compiled.overloads:
        compiled.compile(types)
    made = compiled.overloads[types]
    kinds = "".join(_kind(t) for t in made.target_context.get_arg_packer(made.signature.args).argument_types)
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name)), "i:ii" + kinds


def _kind(type_: Any) -> str:
    if isinstance(type_, ir.PointerType):
        return "i"
    if isinstance(type_, ir.IntType):
        return {64: "i", 32: "w", 8: "b", 1: "t"}[type_.width]
    return {ir.DoubleType(): "d", ir.FloatType(): "f"}[type_]


def flat_arguments(argument: Any) -> list[Any]:
    """An argument as the words that Numba makes of it; an array's address stands as the array itself."""
    if isinstance(argument, np.ndarray):
        return [0, 0, argument.size, argument.itemsize, argument, *argument.shape, *argument.strides]
    if isinstance(argument, tuple):
        return [word for part in argument for word in flat_arguments(part)]
    return [argument]


class _Ufunc(ctypes.Structure):
    """The beginning of NumPy's ``PyUFuncObject``, after what every object has."""

    _fields_ = (
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    )


@functools.cache
def loop_of(ufunc: np.ufunc, characters: str) -> tuple[int, int] | None:
    """Address and data of the inner loop for some dtypes, such as ``"fff"``; None if there is none."""
    head = _Ufunc.from_address(id(ufunc) + object.__basicsize__)
    if (head.nin, head.nout, head.ntypes) != (ufunc.nin, ufunc.nout, ufunc.ntypes):
        return None  # an interpreter or a NumPy that lays its objects out otherwise
    types = [types.replace("->", "") for types in ufunc.types]
    if characters not in types:
        return None
    place = types.index(characters)
    address = head.functions[place]
    return None if not address else (address, (head.data[place] or 0) if head.data else 0)
