"""MNIST: 70,000 handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges)."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnn.data.dataset import Dataset
from portnn.data.idx import read_idx
from portnn.errors import DataError, MissingDataError
from portnn.storage import local

__all__ = ["load_mnist"]

#: SHA-256 of the uncompressed files: the gzip headers differ from mirror to mirror.
_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: Where the files lie below a folder: as here, and as torchvision puts them.
_FOLDERS = ("", "mnist", "MNIST", "MNIST/raw", "mnist/raw", "raw")
_TIMEOUT = (3.0, 30.0)  # seconds to connect, and between two pieces of an answer


def load_mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """60,000 training and 10,000 test images, uint8, shape (28, 28), with labels 0 to 9.

    Parameters
    ----------
    data_dir : path, optional
        A folder that holds the four idx files, plain or ``.gz``, itself or in a folder ``mnist`` or ``MNIST/raw``
        below; ``train-images.idx3-ubyte`` is another name for ``train-images-idx3-ubyte``, and so on. Without it
        they are looked for in the folder that the environment variable ``PORTNN_DATA_DIR`` names, then in the
        user's cache, and last downloaded into the cache (needs pooch: ``pip install pooch``).

    Raises
    ------
    MissingDataError
        If the files are nowhere. With ``data_dir`` given, nothing is downloaded.
    DataError
        If a file is damaged, or the files do not fit together.
    """
    where = data_dir or os.environ.get("PORTNN_DATA_DIR")
    if where:
        paths = _find(Path(local(where)))
        if paths:
            return _load(paths)
        if data_dir:
            raise MissingDataError(f"no MNIST in {where}: {', '.join(_FILES)} (plain or .gz) are expected there")
    return _load(_fetch())


def _find(folder: Path) -> dict[str, Path] | None:
    """Paths of the four files; None if none of them is there."""
    found: dict[str, Path] = {}
    for name in _FILES:
        for below, written, suffix in itertools.product(_FOLDERS, (name, name.replace("-idx", ".idx")), ("", ".gz")):
            if os.path.isfile(candidate := folder / below / f"{written}{suffix}"):
                found.setdefault(name, candidate)
    missing = [name for name in _FILES if name not in found]
    if found and missing:
        raise MissingDataError(f"{folder} has a part of MNIST only: {', '.join(missing)} missing")
    return found or None


def _load(paths: dict[str, Path]) -> Dataset:
    x_train, y_train = _load_half(paths, "train")
    x_test, y_test = _load_half(paths, "t10k")
    return Dataset("mnist", x_train, y_train, x_test, y_test, classes=10)


def _load_half(paths: dict[str, Path], half: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    image_path, label_path = paths[f"{half}-images-idx3-ubyte"], paths[f"{half}-labels-idx1-ubyte"]
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise DataError(f"{image_path} holds {images.dtype} of shape {images.shape}, not images of 28 x 28 bytes")
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise DataError(f"{label_path} holds {labels.dtype} of shape {labels.shape}, not a list of labels")
    if len(images) != len(labels):
        raise DataError(f"{image_path} has {len(images)} images, but {label_path} has {len(labels)} labels")
    if labels.max(initial=0) > 9:
        raise DataError(f"{label_path} holds the label {labels.max()}; the labels of MNIST are 0 .. 9")
    return images, labels.astype(np.int64)


def _fetch() -> dict[str, Path]:
    """The files in the user's cache, downloaded where they are not there yet."""
    try:
        import pooch
    except ImportError:
        raise MissingDataError("MNIST is not on this machine; to download it: pip install pooch") from None
    pooch.get_logger().setLevel("WARNING")
    cache = Path(pooch.os_cache("portnn")) / "mnist"
    paths: dict[str, Path] = {}
    for name, checksum in _FILES.items():
        problems = []
        for mirror in _MIRRORS:
            try:
                pooch.retrieve(f"{mirror}{name}.gz", checksum, name, cache, downloader=_download)
                break
            except (OSError, ValueError, EOFError) as error:  # no network; another checksum; a broken stream
                problems.append(f"{mirror} ({type(error).__name__})")
        else:
            raise MissingDataError(f"MNIST is not on this machine and cannot be downloaded: {', '.join(problems)}")
        paths[name] = cache / name
    return paths


def _download(url: str, output_file: str, pup: Any) -> None:
    """A downloader for pooch that unpacks, so that what is kept and checked is the uncompressed file."""
    import pooch

    packed = f"{output_file}.gz"
    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT)(url, packed, pup)
        with gzip.open(packed, "rb") as source, open(output_file, "wb") as target:
            shutil.copyfileobj(source, target)
    finally:
        Path(packed).unlink(missing_ok=True)
