"""The door for tables: where their files are, what is in them, and what is said if it is not."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Parser, add_device_arguments, add_seed_argument

from portnn.backend import first_line
from portnn.data.cells import is_unknown, number
from portnn.errors import DataError, MissingDataError, MissingLibraryError
from portnn.storage import local

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

__all__ = ["as_float32", "demand", "find_file", "number_at", "parser", "read_rows", "read_table"]

_SEPARATORS = ",;\t"


def parser(description: str | None, files: str) -> Parser:
    """Arguments of all these scripts: ``--device`` or ``--backend``, ``--data-dir`` and ``--seed``."""
    arguments = Parser(description)
    add_device_arguments(arguments)
    arguments.add_path("--data-dir", help=f"folder with {files}, or with a folder of them (default: $PORTNN_DATA_DIR)")
    add_seed_argument(arguments, "of splits, first weights and order", bits=32)  # as scikit-learn takes them
    return arguments


def find_file(data_dir: str | None, folder: str, names: Sequence[str]) -> Path:
    """The first file of these names in the data folder, or in the folder below it that is named after the task."""
    where = data_dir or os.environ.get("PORTNN_DATA_DIR")
    if not where:
        raise MissingDataError(f"{names[0]} is needed: name its folder with --data-dir or PORTNN_DATA_DIR")
    place = Path(local(where))
    for path in (at / name for at in (place, place / folder) for name in names):
        if os.path.isfile(path):
            return path
    raise MissingDataError(f"there is no {' or '.join(names)} in {where}, nor in a folder {folder} there")


def read_rows(path: Path, fits: Callable[[list[str]], bool]) -> tuple[list[int], list[list[str]]]:
    """The rows of a text file, plain or ``.gz``, with their numbers, which are those of the lines that they end in.

    Cells are separated by commas, semicolons or tabs: by those with which the first row fits. Rows whose cells are
    all empty are nothing, and so is a byte order mark.

    Raises
    ------
    DataError
        If the file cannot be read, is not in UTF-8, or is quoted wrongly.
    """
    text = _text(path)
    numbers: list[int] = []
    rows: list[list[str]] = []
    for separator in _SEPARATORS:
        try:
            first: list[str] = next(filter(any, _reader(text, separator)), [])
        except csv.Error:
            continue
        if fits([cell.strip() for cell in first]):
            break
    else:
        separator = _SEPARATORS[0]
    reader = _reader(text, separator)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                numbers.append(reader.line_num)
                rows.append(cells)
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: row {reader.line_num}: {error}") from None
    return numbers, rows


def _reader(text: str, separator: str) -> Any:
    lines = io.StringIO(text, newline="")  # the ends of lines within quotes are left alone
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read().removeprefix(codecs.BOM_UTF8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as CSV: {first_line(error)}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} cannot be read as CSV: row {row} has a byte {content[error.start]:#04x} that is no UTF-8; save "
            "the file in that encoding"
        ) from None


def read_table(path: Path, columns: Sequence[str], text: Sequence[str] = ()) -> DataFrame:
    """A CSV file with a header, and with these columns at least, as a table whose index is the numbers of the rows.

    The columns hold finite numbers, float64, those of ``text`` words; what is unknown is NaN. What is in the file
    besides them is text.

    Raises
    ------
    MissingLibraryError
        If pandas is not installed.
    DataError
        If the file cannot be read (see `read_rows`), lacks a column or has two of one name, has no rows, has a row of
        another length than its header, or a cell that should be a number and is none. The sentence says where.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingLibraryError("tables are read by pandas, which is not installed: pip install pandas") from None
    numbers, rows = read_rows(path, lambda first: set(columns) <= set(first))
    if not rows:
        raise DataError(f"{path} cannot be read as CSV: it is empty")
    header, *rows = rows
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(ascii, header))}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has more than one column {', '.join(twice)}")
    if not rows:
        raise DataError(f"{path} has no rows")
    for at, row in zip(numbers[1:], rows, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}: row {at} has {len(row)} cells, and the header {len(header)}")
    read: dict[str, Any] = {}
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        if name in columns and name not in text:
            read[name] = [number_at(path, at, name, cell) for at, cell in zip(numbers[1:], cells, strict=True)]
        else:
            read[name] = np.array([np.nan if is_unknown(cell) else cell for cell in cells], dtype=object)
    return pd.DataFrame(read, index=numbers[1:])


def number_at(path: Path, row: int, column: str, cell: str) -> float:
    """The number in a cell; NaN where it is unknown, and DataError that says where if it is none."""
    try:
        return number(cell)
    except ValueError as error:
        raise DataError(f"{path}: row {row} has {error} in column {column}") from None


def demand(path: Path, table: DataFrame, column: str, right: NDArray[np.bool_], what: str) -> None:
    """Raise DataError, which names the first row of a table where a column is not right, and ``what`` it must be."""
    if right.all():
        return
    row = int(table.index[int(np.argmin(right))])
    cell = table[column][row]
    found = "no value" if cell != cell else f"{cell:.10g}" if isinstance(cell, float) else repr(cell)
    raise DataError(f"{path}: row {row} has {found} in column {column}, which must be {what}")


def as_float32(x: Any) -> Any:
    """The last step before a network: not every device has the float64 that scikit-learn's scalers give."""
    return x.astype(np.float32)
