"""Numba, where a loop has to be compiled: what it makes of a function for some arguments, as an object file."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.errors import NumbaError

from .machine_code import target_machine

__all__ = ["compile_loop"]

#: Beginnings of names of functions that come with Numba, such as those for memory, or with Python.
_OF_NUMBA = ("NRT_", "numba_", "Py", "_Py")

_LETTERS = {64: "i", 32: "w", 8: "b", 1: "t"}


def compile_loop(function: Any, arguments: tuple[Any, ...], symbol: str) -> tuple[bytes, str, str]:
    """An object file with one symbol; what the function gives; and a letter for each of its flat arguments.

    Raises
    ------
    NumbaError
        If the function cannot be compiled for such arguments; or needs what comes with Numba, such as memory, or
        ``reshape`` of an array that may not lie in one piece.
    """
    types = tuple(function.typeof_pyval(argument) for argument in arguments)
    function.compile(types)
    made = function.overloads[types]
    module = llvm.parse_assembly(made.library.get_llvm_str())
    for part in [*module.functions, *module.global_variables]:
        if part.name == made.fndesc.llvm_func_name:
            part.name = symbol
        elif not part.is_declaration:
            part.linkage = "internal"
        elif part.name.startswith(_OF_NUMBA):
            raise NumbaError(f"{function.__name__} calls {part.name}, which is not there where Numba is not imported")
    code = target_machine(*made.library.codegen.magic_tuple()).emit_object(module)
    given = made.signature.return_type
    gives = {"none": "v", "bool": "t"}.get(str(given), "i")
    flat = made.target_context.get_arg_packer(made.signature.args).argument_types
    return code, gives, "".join(map(_letter, flat))


def _letter(type_: Any) -> str:
    if isinstance(type_, ir.PointerType):
        return "i"
    if isinstance(type_, ir.IntType):
        return _LETTERS[type_.width]
    return {ir.DoubleType(): "d", ir.FloatType(): "f"}[type_]
