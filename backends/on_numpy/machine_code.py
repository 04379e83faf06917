"""Machine code: put into memory by LLVM, and called by its address with what stands in a block of words.

A block is a row of 64-bit words: the address of a function, and its arguments. What Numba makes of a loop is such a
function; before the arguments it takes two addresses, of what it gives and of its error (Numba's calling convention),
and gives a status. llvmlite, on which Numba stands, does all of this: Numba itself takes ten times as long to import.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from . import kept
from .loading import loading

__all__ = ["FAILED", "caller", "install", "knows_arrays", "python_call", "target_machine"]

#: What `python_call` gives in the place of a result where the function has a status other than 0.
FAILED = -(2**63)

_WORD, _STATUS = ir.IntType(64), ir.IntType(32)

#: Bytes from the beginning of an array's object to what NumPy has kept there since 1.0 (``numpy/ndarraytypes.h``).
_DATA, _SHAPE, _STRIDES = (object.__basicsize__ + offset for offset in (0, 16, 24))

#: The code lives as long as what holds it.
_engines: list[Any] = []


def target_machine(triple: str | None = None, cpu: str = "", features: str = "") -> Any:
    """For code that is put into memory; of this machine unless told otherwise."""
    _initialize()
    target = llvm.Target.from_triple(triple) if triple else llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)


def install(code: bytes, symbol: str) -> int:
    """The address of a function in an object file, which is put into memory."""
    with loading:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return int(engine.get_function_address(symbol))


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def caller(kinds: str) -> int:
    """The address of ``int32 call(int64 block)``, which calls the function in the first word with the words behind it.

    ``kinds`` has a letter for what the function gives, v (nothing) or i (a status), a colon, and a letter for each
    argument: i, a word or a pointer; w, 32 bits; b, 8 bits; t, a truth value; d and f, a float64 and a float32;
    a digit, the address of so many words, of which the function gets a copy.
    """
    gives, _, arguments = kinds.partition(":")
    builder, word = _function(_STATUS)
    made = _call(builder, gives, word(0), [_as(builder, kind, word(i)) for i, kind in enumerate(arguments, 1)])
    builder.ret(_STATUS(0) if gives == "v" else made)
    return _installed(builder)


@functools.cache
def python_call(gives: str, arguments: tuple[str, ...]) -> tuple[Callable[[bytes], int], Callable[..., bytes]]:
    """``call(block)``, which calls what Numba made from Python, without the GIL; and ``block(function, values)``.

    ``gives`` is v (nothing), i (an integer) or t (a truth value). An argument is one of the letters of `caller` that
    mean a number; or u, an unsigned word; or ``a``, the number of axes, a colon and the bytes of a value: an array,
    which must live as long as the block.
    """
    builder, word = _function(_WORD)
    result, error = builder.alloca(_WORD), builder.alloca(_WORD)
    builder.store(_WORD(0), result)
    values = [builder.ptrtoint(place, _WORD) for place in (result, error)]
    for i, kind in enumerate(arguments, 1):
        values += _flat_array(builder, kind, word(i)) if kind[0] == "a" else [_as(builder, kind, word(i))]
    status = _call(builder, "i", word(0), values)
    mask = {"v": 0, "i": -1, "t": 1}[gives]
    value = builder.and_(builder.load(result), _WORD(mask))
    builder.ret(builder.select(builder.icmp_unsigned("==", status, _STATUS(0)), value, _WORD(FAILED)))
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p)(_installed(builder))
    formats = {"u": "Q", "d": "d", "f": "f4x"}
    pack, array = struct.Struct("=q" + "".join(formats.get(kind[0], "q") for kind in arguments)).pack, np.ndarray

    def block(function: int, values: Sequence[Any]) -> bytes:
        return pack(function, *[id(value) if type(value) is array else value for value in values])

    return call, block


def _function(gives: Any) -> tuple[Any, Callable[[int], Any]]:
    """The builder of a function of a block, and what loads its words."""
    function = ir.Function(ir.Module(), ir.FunctionType(gives, [_WORD]), "call")
    builder = ir.IRBuilder(function.append_basic_block())
    block = builder.inttoptr(function.args[0], _WORD.as_pointer())
    return builder, lambda i: builder.load(builder.gep(block, [_WORD(i)]))


def _installed(builder: Any) -> int:
    """The address of what was built: by LLVM, or kept from an earlier process, which takes a third of the time."""
    text = str(builder.module)
    name = f"call-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with loading:
        code = kept.read(name)
        if code is None:
            code = target_machine().emit_object(llvm.parse_assembly(text))
            kept.write(name, code)
        return install(code, "call")


def _call(builder: Any, gives: str, function: Any, values: Sequence[Any]) -> Any:
    kind = ir.FunctionType(ir.VoidType() if gives == "v" else _STATUS, [value.type for value in values])
    return builder.call(builder.inttoptr(function, kind.as_pointer()), values)


def _as(builder: Any, kind: str, word: Any) -> Any:
    if kind in "iu":
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


def _flat_array(builder: Any, kind: str, word: Any) -> list[Any]:
    """What Numba makes of an array, whose object is at an address: two words that are 0, and what is in the object."""
    axes, itemsize = map(int, kind[1:].split(":"))

    def read(address: Any, offset: int) -> Any:
        return builder.load(builder.inttoptr(builder.add(address, _WORD(offset)), _WORD.as_pointer()))

    lengths = [read(read(word, _SHAPE), 8 * i) for i in range(axes)] if axes else []
    strides = [read(read(word, _STRIDES), 8 * i) for i in range(axes)] if axes else []
    size = functools.reduce(builder.mul, lengths, _WORD(1))
    return [_WORD(0), _WORD(0), size, _WORD(itemsize), read(word, _DATA), *lengths, *strides]


@functools.cache
def knows_arrays() -> bool:
    """Whether an array's object is laid out as `python_call` reads it."""
    array = np.zeros((3, 6), np.float32)[:, ::2]
    data, shape, strides = (ctypes.c_int64.from_address(id(array) + at).value for at in (_DATA, _SHAPE, _STRIDES))
    if data != array.ctypes.data:
        return False
    found = [tuple((ctypes.c_int64 * 2).from_address(address)) for address in (shape, strides)]
    return found == [array.shape, array.strides]
