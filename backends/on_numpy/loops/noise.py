"""NumPy's Philox4x64-10, compiled by Numba: the same bits as ``Generator(Philox(key, counter)).random()``.

Each block of four 64-bit words depends on its number alone, so that parts of an array are drawn independently.
Constants and rounds are those of Salmon et al. 2011; NumPy adds 1 to the counter before the first block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compile import compiled

__all__ = ["uniform32", "uniform64"]

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@intrinsic  # type: ignore[untyped-decorator]  # of Numba
def _high(context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a product of two 64-bit words: one instruction, which Numba has no name for."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@compiled
def _two_blocks(number: Any, step: Any, k0: Any, k1: Any) -> Any:
    """The words of a block and of the next one, of a counter that begins at (0, step, 0, 0).

    Two at a time, as a processor works on one while it waits for a product of the other.
    """
    zero, one = np.uint64(0), np.uint64(1)
    a0, a1, a2, a3 = number + one, step, zero, zero
    b0, b1, b2, b3 = number + one + one, step, zero, zero
    for _ in range(10):
        high0, low0, high1, low1 = _high(_M0, a0), _M0 * a0, _high(_M1, a2), _M1 * a2
        other0, under0, other1, under1 = _high(_M0, b0), _M0 * b0, _high(_M1, b2), _M1 * b2
        a0, a1, a2, a3 = high1 ^ a1 ^ k0, low1, high0 ^ a3 ^ k1, low0
        b0, b1, b2, b3 = other1 ^ b1 ^ k0, under1, other0 ^ b3 ^ k1, under0
        k0, k1 = k0 + _W0, k1 + _W1
    return a0, a1, a2, a3, b0, b1, b2, b3


@compiled
def _upper24(word: Any) -> Any:
    return np.float32(np.int32((word >> np.uint64(8)) & np.uint64(0xFFFFFF))) * np.float32(2.0**-24)


@compiled
def uniform32(first: int, step: Any, key0: Any, key1: Any, out: Any) -> None:
    """Fill ``out`` with the float32 numbers from block ``first`` on: eight of each block, 24 bits, lower half first."""
    whole = out.size - out.size % 16
    for start in range(0, whole, 16):
        words, rest = _two_blocks(np.uint64(first + start // 8), step, key0, key1), out[start:]
        for j in range(8):
            rest[2 * j], rest[2 * j + 1] = _upper24(words[j]), _upper24(words[j] >> np.uint64(32))
    if whole < out.size:
        words, rest = _two_blocks(np.uint64(first + whole // 8), step, key0, key1), out[whole:]
        for j in range(rest.size):
            rest[j] = _upper24(words[j // 2] >> np.uint64(32 * (j % 2)))


@compiled
def uniform64(first: int, step: Any, key0: Any, key1: Any, out: Any) -> None:
    """Fill ``out`` with the float64 numbers from block ``first`` on: four of each block, 53 bits."""
    for start in range(0, out.size, 8):
        words, rest = _two_blocks(np.uint64(first + start // 4), step, key0, key1), out[start:]
        for j in range(min(8, rest.size)):
            rest[j] = float(words[j] >> np.uint64(11)) * 2.0**-53
