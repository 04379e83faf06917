"""Files of MNIST's format idx, and a small MNIST."""

import gzip
import struct

import numpy as np

#: By the dtype, what the format calls it.
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    kind = array.dtype.newbyteorder("=").str[1:]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[kind], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    """Write a file, compressed if its name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def small_mnist(folder, suffix=".gz", **changes):
    """The four files with a few images each; ``changes`` replaces the content of a file."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for half, n in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, size=(n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, size=n, dtype=np.uint8)
        for name, array in ((f"{half}-images-idx3-ubyte", images), (f"{half}-labels-idx1-ubyte", labels)):
            write(
                folder / f"{name}{suffix}", changes.get(name.partition("-idx")[0].replace("-", "_"), idx_bytes(array))
            )
    return folder
