"""Device memory: it comes from pools and goes back to them, and what comes and what goes back is NaN.

So a graph may find its memory in other hands, or hand memory out that it writes to. Nobody may write to the bytes
around an array.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import shortage
from .streams import Stream, get_current_stream

#: Bytes around an array; as floats they are NaN.
GUARD = 256

#: Sizes are rounded up to a multiple of this, as CuPy's are.
_UNIT = 512
_BLANK = 0xFF

_local = threading.local()

Block = np.ndarray[Any, np.dtype[np.uint8]]


class Lease:
    """Keeps memory from going back to its pool, as long as an array refers to it."""

    def __init__(self, block: Block, size: int) -> None:
        self.block, self.size = block, size

    @property
    def bytes(self) -> Block:
        return self.block[GUARD : GUARD + self.size]

    @property
    def edges(self) -> list[Block]:
        return [self.block[:GUARD], self.block[GUARD + self.size :]]


class MemoryPool:
    """Stands for ``cupy.cuda.MemoryPool``.

    Blocks are handed out again, to the stream that had them, once nothing refers to them.
    """

    #: What the addresses in kernels, graphs and calls of cuBLAS lead to, whoever has it now.
    forever: list[Block] = []

    def __init__(self) -> None:
        self.free: dict[tuple[int, int], list[Block]] = {}

    def malloc(self, size: int) -> Lease:
        shortage.allocate(size)
        stream, whole = get_current_stream(), _UNIT * max(1, -(-size // _UNIT)) + 2 * GUARD
        blocks = self.free.setdefault((stream.ptr, whole), [])
        if blocks:
            block = blocks.pop()
        else:
            block = _aligned(whole)
            MemoryPool.forever.append(block)
        stream.do(lambda: block.fill(_BLANK))  # a graph left it as it was, and its edges lay in another array
        lease = Lease(block, size)
        weakref.finalize(lease, _give_back, stream, blocks, block).atexit = False
        return lease

    def free_all_blocks(self) -> None:
        self.free.clear()

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0


def _aligned(whole: int) -> Block:
    """A block whose array begins at a multiple of the unit, as CuPy's do."""
    room = np.full(whole + _UNIT, _BLANK, np.uint8)
    start = -(room.ctypes.data + GUARD) % _UNIT
    return room[start : start + whole]


def _give_back(stream: Stream, blocks: list[Block], block: Block) -> None:
    if stream.captured is None:
        stream.do(lambda: block.fill(_BLANK))
    blocks.append(block)  # only now: another thread may take it


DEFAULT_POOL = MemoryPool()


def forget() -> None:
    """Give all memory back to the host that no array refers to."""
    DEFAULT_POOL.free.clear()
    MemoryPool.forever.clear()
    for stream in Stream.known.values():
        stream.waiting.clear()  # what nobody waited for holds memory, too


@contextlib.contextmanager
def using_allocator(malloc: Callable[[int], Lease]) -> Iterator[None]:
    """Stands for ``cupy.cuda.using_allocator``."""
    before = getattr(_local, "malloc", DEFAULT_POOL.malloc)
    _local.malloc = malloc
    try:
        yield
    finally:
        _local.malloc = before


def allocate(size: int) -> Lease:
    lease: Lease = getattr(_local, "malloc", DEFAULT_POOL.malloc)(size)
    return lease


def written_outside(edges: list[Block]) -> bool:
    return not all((edge == _BLANK).all() for edge in edges)
