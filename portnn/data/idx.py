"""Reader of the idx format, in which MNIST is published.

A file is: two zero bytes, a type code, the number of axes; the length of each axis as a big-endian int32; the values,
big-endian, the last axis running fastest (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from portnn.errors import DataError
from portnn.storage import local

__all__ = ["read_idx"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an idx file, plain or compressed (a name that ends in ``.gz``), in native byte order.

    Raises
    ------
    DataError
        If the file is missing, truncated, too long, a corrupt gzip file, or no idx file. No more memory is used
        than the file has content, whatever sizes it claims.
    """
    name = local(path)
    try:
        with gzip.open(name, "rb") if name.endswith(".gz") else open(name, "rb") as file:
            return _read(cast(BinaryIO, file), name)
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name} is a corrupt gzip file: {error}") from None
    except EOFError:
        raise DataError(f"{name} is truncated: its gzip stream ends too early") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None


def _read(file: BinaryIO, name: str) -> NDArray[Any]:
    magic = _read_up_to(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataError(f"{name} is no idx file: it begins with {magic.hex(' ') or 'nothing'}")
    dtype, axes = np.dtype(_DTYPES[magic[2]]), magic[3]
    header = _read_up_to(file, 4 * axes)
    if len(header) < 4 * axes:
        raise DataError(f"{name} is truncated: it ends within its header")
    shape = struct.unpack(f">{axes}I", header)
    expected = math.prod(shape) * dtype.itemsize
    content = _read_up_to(file, expected + 1)
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{name} is {state}: shape {shape} needs {expected:,} bytes, it has {_count(content, expected)}"
        )
    try:
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # an empty array with axes beyond what NumPy can index
        raise DataError(f"{name} claims the impossible shape {shape}: {error}") from None


def _count(content: bytearray, expected: int) -> str:
    return f"{len(content):,}" if len(content) < expected else "more"


def _read_up_to(file: BinaryIO, size: int) -> bytearray:
    """``file.read(size)`` in pieces: a single large read would allocate all that a damaged header claims."""
    content = bytearray()
    while len(content) < size and (piece := file.read(min(_CHUNK, size - len(content)))):
        content += piece
    return content
