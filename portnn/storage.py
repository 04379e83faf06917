"""Model files: one safetensors file with the arrays, and a description in its metadata. Never pickle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnn.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_tensors", "write_atomically", "write_tensors"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at any moment either the old or the whole new one is there.

    Raises OSError, with nothing left behind, if it cannot be written.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a model file gets the permissions of any other new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write host arrays and a description as one safetensors file, atomically.

    Raises
    ------
    ModelFileError
        If the file cannot be written; the sentence names the path.
    """
    import numpy as np
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, dict(metadata))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ModelFileError(f"{os.fspath(path)} cannot be written: {error.strerror or error}") from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the description of a safetensors file.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not Path(name).is_file():
        raise ModelFileError(f"{name}: there is no such model file")
    try:
        with safe_open(name, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(f"{name} is truncated, damaged or no safetensors file: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror or error}") from None
