"""YearPredictionMSD: the year of a song from 90 numbers on its timbre (Bertin-Mahieux et al. 2011; UCI), streamed."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from portnn.checks import check_count
from portnn.data.cells import number
from portnn.errors import DataError, MissingDataError
from portnn.storage import local

__all__ = ["YEAR_PREDICTION_TRAIN_ROWS", "stream_year_prediction"]

#: The split that its authors ask for: the last 51,630 songs are for the test, so that no artist is in both parts.
YEAR_PREDICTION_TRAIN_ROWS = 463_715

_FEATURES = 90
_NAME = "YearPredictionMSD.txt"
_FILES = (_NAME, f"{_NAME}.gz", f"{_NAME}.zip", "yearpredictionmsd.zip")


def stream_year_prediction(
    data_dir: str | os.PathLike[str] | None = None,
    part: Literal["train", "test"] = "train",
    *,
    block: int = 8192,
    train_rows: int = YEAR_PREDICTION_TRAIN_ROWS,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The songs of a part of the data, some at a time: the file is never in memory as a whole.

    Parameters
    ----------
    data_dir : path, optional
        A folder that holds YearPredictionMSD.txt, plain, ``.gz`` or in UCI's ``.zip``, itself or in a folder
        ``yearprediction`` below. Default: the folder that the environment variable ``PORTNN_DATA_DIR`` names.
    part : {"train", "test"}, default "train"
    block : int, default 8192
        How many songs come at a time; the last time there may be fewer.
    train_rows : int, default 463715
        How many songs at the beginning of the file are for training.

    Yields
    ------
    x : float32 array, shape (n, 90)
        Twelve averages and 78 covariances of timbre.
    y : float32 array, shape (n,)
        Years.

    Raises
    ------
    MissingDataError
        If the file is nowhere.
    DataError
        If the file is damaged, has a line that is not a year and 90 finite numbers (empty lines are nothing), or ends
        within the training part.
    """
    if part not in ("train", "test"):
        raise DataError(f'part must be "train" or "test", not {part!r}')
    check_count("block", block)
    return _blocks(_find(data_dir), part, block, check_count("train_rows", train_rows))


def _find(data_dir: str | os.PathLike[str] | None) -> Path:
    where = data_dir or os.environ.get("PORTNN_DATA_DIR")
    if not where:
        raise MissingDataError(f"{_NAME} is needed: name its folder as data_dir, or in PORTNN_DATA_DIR")
    folder = Path(local(where))
    for path in (place / name for place in (folder, folder / "yearprediction") for name in _FILES):
        if os.path.isfile(path):
            return path
    raise MissingDataError(f"there is no {_NAME} (plain, .gz or .zip) in {where}, nor in a folder yearprediction there")


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".zip":
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(path))
                names = archive.namelist()
                member = stack.enter_context(archive.open(_NAME)) if _NAME in names else None
            except (RuntimeError, ValueError) as error:  # an unknown version or way of compression, a password
                raise DataError(f"{path} cannot be read: {error}") from None
            if member is None:
                raise DataError(f"{path} has no {_NAME}; it has {', '.join(map(ascii, names))}")
            yield io.BufferedReader(member)  # type: ignore[type-var]
    elif path.suffix == ".gz":
        with gzip.open(path) as file:
            yield io.BufferedReader(file)
    else:
        with open(path, "rb") as file:
            yield file


def _blocks(
    path: Path, part: str, size: int, train_rows: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    first, end = (0, train_rows) if part == "train" else (train_rows, None)
    seen = first
    try:
        with _open(path) as file:
            numbered = ((number, line) for number, line in enumerate(_without_mark(file), 1) if line.strip())
            lines = itertools.islice(numbered, first, end)
            while block := list(itertools.islice(lines, size)):
                yield _parsed(block, path)
                seen += len(block)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged, or cannot be read: {error}") from None
    if (part == "train" and seen < train_rows) or (part == "test" and seen == first):
        raise DataError(f"{path} ends within the first {train_rows:,} songs, which are for training: is it whole?")


def _without_mark(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, without the byte order mark that some editors begin it with."""
    first = file.readline()
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from file


def _parsed(block: list[tuple[int, bytes]], path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        with np.errstate(over="ignore"):  # it is infinite then
            table = np.loadtxt([line for _, line in block], np.float32, delimiter=",", comments=None, ndmin=2)
        right = table.shape == (len(block), 1 + _FEATURES) and bool(np.isfinite(table).all())
    except ValueError:
        right = False
    if not right:
        raise DataError(_what_is_wrong(block, path))
    return table[:, 1:], table[:, 0]


def _what_is_wrong(block: list[tuple[int, bytes]], path: Path) -> str:
    for at, line in block:
        cells = line.decode("ascii", "replace").strip().split(",")
        if len(cells) != 1 + _FEATURES:
            return f"{path}: line {at:,} has {len(cells)} columns, and not a year and {_FEATURES} numbers"
        for column, cell in enumerate(cells, 1):
            try:
                unknown = math.isnan(number(cell))
            except ValueError as error:
                return f"{path}: line {at:,} has {error} in column {column}"
            if unknown:
                return f"{path}: line {at:,} has no value in column {column}"
    return f"{path}: lines {block[0][0]:,} to {block[-1][0]:,} cannot be read as numbers"
