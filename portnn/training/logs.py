"""Logs of a run: a line, or a point of each curve, an epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from abc import abstractmethod
from typing import Any

from portnn.errors import ConfigError, DataError
from portnn.storage import local
from portnn.training.callback import Callback, Training
from portnn.training.records import tidy

__all__ = ["CSVLog", "JSONLinesLog", "TensorBoardLog"]


class _Log(Callback):
    """Appends whole lines to a file, so that it can be read at any moment, also after a kill.

    A run that was killed and resumed does the epochs after its last checkpoint once more: of lines of the same epoch,
    the last one counts, and they differ in their times only. A line that cannot be written is a warning.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = local(path)
        self._check(self._open_and_mend())

    @abstractmethod
    def _check(self, lines: list[bytes]) -> None:
        """Raise DataError unless whole lines are of a log of this kind."""

    @abstractmethod
    def _line(self, record: dict[str, Any]) -> str:
        """A record with the line's end; may raise ConfigError."""

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        line = self._line(_tidied({"step": trainer.step} | record))
        try:
            _append(self.path, line.encode())
        except OSError as error:
            warnings.warn(
                f"{self.path} cannot be written: {error.strerror or error}: epoch {trainer.epoch} is not in the log",
                RuntimeWarning,
                stacklevel=2,
            )

    def _open_and_mend(self) -> list[bytes]:
        """The whole lines that are there; what a cut left behind the last of them is cut off."""
        try:
            with open(self.path, "a+b") as file:
                file.seek(0)
                content = file.read()
                lines = content.splitlines(keepends=True)
                if lines and not lines[-1].endswith(b"\n"):
                    torn = lines.pop()
                    self._check(lines)  # before a byte of somebody else's file is touched
                    if not lines:
                        raise DataError(f"{self.path} is there, and is no log: it has no whole line")
                    file.truncate(len(content) - len(torn))
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return lines


def _tidied(record: dict[str, Any]) -> dict[str, Any]:
    """A record as a trainer makes it, also where a log is called by somebody else."""
    tidy(record)
    return record


def _append(path: str, line: bytes) -> None:
    """Append a line, or nothing of it. One write a line: a kill does not cut it."""
    # Windows would write other ends of lines, if it were not told that these are bytes.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError("the disk is full")
    finally:
        os.close(descriptor)


class JSONLinesLog(_Log):
    """A JSON object an epoch: the record of the history, and ``step``; what is not finite is null.

    Parameters
    ----------
    path : path
        A new file, or one to append to.

    Raises
    ------
    DataError
        If the file cannot be written, or is there and no such log.
    """

    def _check(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                fits = isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                fits = False
            if not fits:
                raise DataError(f"{self.path} is there, and is no log: line {number} is no JSON object")

    def _line(self, record: dict[str, Any]) -> str:
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in record.items()}
        return json.dumps(finite, allow_nan=False) + "\n"


class CSVLog(_Log):
    """A table with a row an epoch: the record of the history, and ``step``; the first record decides on the columns.

    Parameters
    ----------
    path : path
        A new file, or one with the same columns to append to.

    Raises
    ------
    DataError
        If the file cannot be written, or is there and no such log.
    ConfigError
        In a run, if a record has a column that the table lacks.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._columns: list[str] = []
        super().__init__(path)

    def _check(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            rows = list(csv.reader(line.decode() for line in lines))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path} is there, and is no log: {error}") from None
        if rows[0][:2] != ["step", "epoch"]:
            raise DataError(f"{self.path} is there, and is no log: it begins with {lines[0][:60]!r}")
        for number, row in enumerate(rows, 1):
            if len(row) != len(rows[0]):
                raise DataError(f"{self.path} is there, and is no log: line {number} has {len(row)} columns")
        self._columns = rows[0]

    def _line(self, record: dict[str, Any]) -> str:
        text = io.StringIO()
        self._columns = self._columns or list(record)
        if not os.path.exists(self.path) or os.path.getsize(self.path) == 0:
            csv.writer(text, lineterminator="\n").writerow(self._columns)
        unknown = [name for name in record if name not in self._columns]
        if unknown:
            raise ConfigError(
                f"{self.path} has the columns {', '.join(self._columns)}, and no {', '.join(unknown)}: take another "
                "file, or a JSONLinesLog"
            )
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(record)
        return text.getvalue()


class TensorBoardLog(Callback):
    """The curves of the history for TensorBoard, by the number of the epoch; written by tensorboardX.

    Parameters
    ----------
    folder : path
        ``tensorboard --logdir folder`` shows it.

    Raises
    ------
    ConfigError
        If tensorboardX is not installed (``pip install tensorboardX``).
    DataError
        If the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = local(folder)
        try:
            import tensorboardX
        except ImportError as error:
            raise ConfigError(f"TensorBoard needs tensorboardX: pip install tensorboardX ({error})") from None
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written to: {error.strerror or error}") from error
        self._make = tensorboardX.SummaryWriter
        self._writer: Any = None

    def on_epoch_end(self, trainer: Training, record: dict[str, float]) -> None:
        try:
            if self._writer is None:
                # In a resumed run, points after the checkpoint are drawn once more: the older ones are to go.
                self._writer = self._make(self.folder, purge_step=trainer.epoch)
            for name, value in _tidied(dict(record)).items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, trainer.epoch)
            self._writer.flush()
        except OSError as error:
            warnings.warn(
                f"{self.folder} cannot be written to: {error.strerror or error}: epoch {trainer.epoch} is not in the "
                "log",
                RuntimeWarning,
                stacklevel=2,
            )

    def on_fit_end(self, trainer: Training) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
