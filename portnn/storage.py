"""Model files: one safetensors file with the arrays, and a description in its metadata. Never pickle."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnn.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_replaceable", "read_tensors", "write_atomically", "write_tensors"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at any moment either the old or the whole new one is there.

    A link is followed. Raises OSError, with nothing left behind, if the file cannot be written, and ModelFileError if
    the path names something that is no file, such as a device.
    """
    target = Path(path).resolve()
    check_replaceable(target)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise ModelFileError if there is something at the path that is no ordinary file."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ModelFileError(f"{os.fspath(path)} cannot be written: it is there, and no ordinary file")


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

    content = save({name: np.asarray(t, order="C") for name, t in tensors.items()}, dict(metadata))
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
    if not os.path.isfile(name):
        raise ModelFileError(f"{name}: there is no such model file")
    try:
        with safe_open(name, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(f"{name} is truncated, damaged or no safetensors file: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror or error}") from None
