"""What the scripts on tables share: where their files are, what is in them, and what is said if it is not."""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import add_device_arguments

from portnn.backend import first_line
from portnn.errors import DataError, MissingDataError, MissingLibraryError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["as_float32", "find_file", "parser", "read_table"]


def parser(description: str | None, files: str) -> argparse.ArgumentParser:
    """Arguments of all these scripts: ``--device`` or ``--backend``, ``--data-dir`` and ``--seed``."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_device_arguments(arguments)
    arguments.add_argument(
        "--data-dir", help=f"folder with {files}, or with a folder of them (default: $PORTNN_DATA_DIR)"
    )
    arguments.add_argument("--seed", type=int, default=0, help="of splits, first weights and order (default: 0)")
    return arguments


def find_file(data_dir: str | None, folder: str, names: Sequence[str]) -> Path:
    """The first file of these names in the data folder, or in the folder below it that is named after the task."""
    where = data_dir or os.environ.get("PORTNN_DATA_DIR")
    if not where:
        raise MissingDataError(f"{names[0]} is needed: name its folder with --data-dir or PORTNN_DATA_DIR")
    for place in (Path(where), Path(where) / folder):
        for name in names:
            if (place / name).is_file():
                return place / name
    raise MissingDataError(f"there is no {' or '.join(names)} in {where}, nor in a folder {folder} there")


def read_table(path: Path, columns: Sequence[str], text: Sequence[str] = ()) -> DataFrame:
    """A CSV file, plain or ``.gz``, with these columns at least; those of ``text`` hold text, even if all are empty."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingLibraryError("tables are read by pandas, which is not installed: pip install pandas") from None
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str))
    except (OSError, EOFError, ValueError, zlib.error) as error:  # damaged gzip, no CSV, no text
        raise DataError(f"{path} cannot be read as CSV: {first_line(error)}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(ascii, table.columns))}")
    if table.empty:
        raise DataError(f"{path} has no rows")
    return table


def as_float32(x: Any) -> Any:
    """The last step before a network: not every device has the float64 that scikit-learn's scalers give."""
    return x.astype(np.float32)
