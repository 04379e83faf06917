"""Model files: one safetensors file with the arrays, and a description in its metadata. Never pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnn import tree
from portnn._typing import Tree
from portnn.errors import DataError, ModelFileError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_replaceable", "local", "read_tensors", "rebuild", "write_atomically", "write_tensors"]

#: The entry of a file's metadata that holds a hash of all the rest. A file without it is read unchecked.
_HASH = "blake2b"


def local(path: str | os.PathLike[str]) -> str:
    """A path as text, with the user's home in the place of a leading ``~``, which only shells put in."""
    return os.path.expanduser(os.fspath(path))


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that at any moment, also after a power cut, either the old or the whole new one is there.

    A link is followed. Raises OSError, with nothing left behind, if the file cannot be written, and ModelFileError if
    the path names something that is no file, such as a device. A process that is killed within the call leaves its
    temporary file, ``.portnn-*.tmp``, in the folder.
    """
    target = Path(local(path)).resolve()
    check_replaceable(target)
    temporary = target.with_name(f".portnn-{secrets.token_hex(8)}.tmp")
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
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last: it is in the folder, which the file's own fsync does not write."""
    # The new file is whole whatever happens here; Windows cannot open folders, and some file systems not sync them.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise ModelFileError if there is something at the path that is no ordinary file."""
    name = local(path)
    if os.path.exists(name) and not os.path.isfile(name):
        raise ModelFileError(f"{name} cannot be written: it is there, and no ordinary file")


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

    arrays = {name: np.asarray(t, order="C") for name, t in tensors.items()}
    content = save(arrays, dict(metadata) | {_HASH: _hash(arrays, metadata)})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ModelFileError(f"{local(path)} cannot be written: {error.strerror or error}") from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the description of a safetensors file. No more memory is used than the file has content.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, damaged or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    name = local(path)
    if not os.path.isfile(name):
        raise ModelFileError(f"{name}: there is no such model file")
    try:
        # Sizes are compared with that of the file before anything is allocated.
        with safe_open(name, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata: dict[str, str] = dict(file.metadata() or {})
    except (SafetensorError, TypeError, ValueError, AttributeError) as error:  # the latter: a dtype that NumPy lacks
        raise ModelFileError(f"{name} is truncated, damaged or no safetensors file: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror or error}") from None
    expected = metadata.pop(_HASH, None)
    if expected is not None and expected != _hash(tensors, metadata):
        raise ModelFileError(
            f"{name} is damaged, or was edited: its content does not have the hash in its metadata "
            f"(without the entry {_HASH!r} it would be read unchecked)"
        )
    return tensors, metadata


def rebuild(like: Tree, tensors: Mapping[str, NDArray[Any]], dtype: str) -> Tree:
    """Host arrays by their dotted paths as a tree with the structure and shapes of another one.

    Raises
    ------
    ShapeError, DataError
        If an array is missing or not expected, or has another shape or dtype.
    """
    found = tree.unflatten(like, tensors)
    for path, expected in tree.flatten(like).items():
        if tensors[path].shape != tuple(expected.shape):
            raise ShapeError(f"{path} has shape {tensors[path].shape}; the architecture needs {tuple(expected.shape)}")
        if tensors[path].dtype.name != dtype:
            raise DataError(f"{path} is {tensors[path].dtype}; the network is {dtype}")
    return found


def _hash(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """Of all arrays with their names, dtypes and shapes, and of the description."""
    described = [(name, t.dtype.str, t.shape) for name, t in sorted(tensors.items())]
    content = hashlib.blake2b(json.dumps([sorted(metadata.items()), described]).encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(tensors[name].reshape(-1).view("uint8").data)
    return content.hexdigest()
