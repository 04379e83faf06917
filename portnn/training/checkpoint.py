"""Saving a run from time to time, into a folder that holds the latest checkpoints."""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from portnn.checks import check_count, check_number
from portnn.errors import ConfigError, ModelFileError
from portnn.storage import local, read_tensors
from portnn.training.callback import Callback, Training

__all__ = ["Checkpoint", "checkpoints", "latest_checkpoint", "whole_before"]

_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


class Checkpoint(Callback):
    """Saves the run into ``folder/checkpoint-<step>.safetensors``, from time to time and at its end.

    A run that is killed at any moment goes on with ``trainer.load(latest_checkpoint(folder))``. At the end of a call
    of `Trainer.fit`, also one that `Trainer.stop` or Ctrl-C ended, the last step is saved; not after an error.
    A file that cannot be written in between is a warning, and the run goes on; at the end it is an error.

    Parameters
    ----------
    folder : path
        Made if it is not there. Without ``resume``, it must not have checkpoints of another run.
    seconds : float, default 60
        Save when this much time has passed since the last file was written, > 0; infinity for never.
    steps : int, optional
        Save after every so many steps.
    epochs : int, optional
        Save after every so many epochs.
    keep : int, default 2
        How many of the latest files stay. A file is removed when the new one is whole, never before.
    resume : bool, default False
        Whether the folder may have checkpoints, of the run that goes on.

    Raises
    ------
    ConfigError
        If the folder has checkpoints and ``resume`` is False.
    ModelFileError
        If the folder cannot be made or written to.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        seconds: float = 60.0,
        steps: int | None = None,
        epochs: int | None = None,
        keep: int = 2,
        resume: bool = False,
    ) -> None:
        self.folder = Path(local(folder))
        self.seconds = seconds if seconds == float("inf") else check_number("seconds", seconds, 0, open_low=True)
        self.steps = None if steps is None else check_count("steps", steps)
        self.epochs = None if epochs is None else check_count("epochs", epochs)
        self.keep = check_count("keep", keep)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = checkpoints(self.folder)
            if there and not resume:
                raise ConfigError(
                    f"{self.folder} has checkpoints of another run, up to {there[-1].name}: resume that run, or take "
                    "an empty folder"
                )
            if not os.access(self.folder, os.W_OK):
                raise ModelFileError(f"{self.folder} cannot be written to: no permission")
            # What killed runs left: two runs at a time in one folder would mix up their checkpoints anyway.
            for left_over in self.folder.glob(".portnn-*.tmp"):
                left_over.unlink()
        except OSError as error:
            raise _refused(self.folder, error) from error
        self._last_epoch = 0
        self._saved: tuple[int, int] | None = None
        self._saved_at = time.monotonic()

    def on_fit_begin(self, trainer: Training, epochs: int, steps_per_epoch: int | None) -> None:
        self._last_epoch, self._saved_at, self._saved = trainer.epoch + epochs, time.monotonic(), None
        later = [path for path in checkpoints(self.folder) if _step(path.name) > trainer.step]
        if later:
            raise ConfigError(
                f"the run goes on from step {trainer.step}, and {self.folder} has later checkpoints, up to "
                f"{later[-1].name}: load that one, or remove them"
            )

    def due(self, trainer: Training) -> bool:
        return self.steps is not None and trainer.step % self.steps == 0

    def steps_until_due(self, trainer: Training) -> int | None:
        return None if self.steps is None else self.steps - trainer.step % self.steps

    def on_pause(self, trainer: Training) -> None:
        between_epochs = trainer.progress.batches == 0
        at_end = trainer.stopping or (between_epochs and trainer.epoch == self._last_epoch)
        by_epochs = between_epochs and self.epochs is not None and trainer.epoch % self.epochs == 0
        by_time = time.monotonic() - self._saved_at > self.seconds
        if (at_end or by_epochs or by_time or self.due(trainer)) and self._saved != (trainer.step, trainer.epoch):
            self._save(trainer, at_end)

    def _save(self, trainer: Training, at_end: bool) -> None:
        path = self.folder / f"checkpoint-{trainer.step:09d}.safetensors"
        try:
            trainer.save(path)
        except ModelFileError as error:
            if at_end:
                raise
            warnings.warn(f"{error}: the run goes on without this checkpoint", RuntimeWarning, stacklevel=2)
        else:
            self._saved = trainer.step, trainer.epoch
            self._remove_old(path)
        self._saved_at = time.monotonic()

    def _remove_old(self, latest: Path) -> None:
        for path in checkpoints(self.folder)[: -self.keep]:
            if path != latest:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    warnings.warn(f"{_refused(path, error)}", RuntimeWarning, stacklevel=2)


def checkpoints(folder: str | os.PathLike[str]) -> Sequence[Path]:
    """The checkpoints in a folder, the oldest first; none if there is no such folder."""
    folder = local(folder)
    try:
        found = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelFileError(f"{folder} cannot be read: {error.strerror or error}") from error
    return [Path(folder) / name for name in sorted(found, key=_step)]


def latest_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The last checkpoint in a folder; None if there is none. It is whole: a file gets its name when it is."""
    found = checkpoints(folder)
    return found[-1] if found else None


def whole_before(path: str | os.PathLike[str]) -> Path | None:
    """The last whole checkpoint before a damaged one in its folder; None if there is none, or it is no checkpoint."""
    name = os.path.basename(os.fspath(path))
    if not _NAME.fullmatch(name):
        return None
    for older in reversed(checkpoints(os.path.dirname(os.fspath(path)) or ".")):
        if _step(older.name) < _step(name):
            with contextlib.suppress(ModelFileError):
                read_tensors(older)
                return older
    return None


def _step(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1])


def _refused(path: Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"{path} cannot be written to: {error.strerror or error}")
