"""What the scripts share: how errors are shown, and where results go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portnn import Trainer
from portnn.data import Dataset, load_digits, load_mnist
from portnn.errors import ConfigError, MissingDataError, PortnnError
from portnn.storage import check_replaceable, write_atomically
from portnn.training import Callback, Checkpoint, CSVLog, JSONLinesLog, TensorBoardLog, latest_checkpoint

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main function: portnn's errors become one sentence on standard error and exit code 2."""
    try:
        code = main()
    except PortnnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code or 0)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device`` or ``--backend``: ``get_backend(args.backend or args.device)``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", choices=["cpu", "gpu", "cuda"], default="cpu", help="NumPy or CuPy (default: cpu)")
    where.add_argument("--backend", help="any backend by name: numpy, cupy:1, torch, torch:cuda, jax, ...")


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """``--precision``: ``get_backend(name, precision=args.precision)``."""
    parser.add_argument(
        "--precision",
        choices=["float32", "tf32"],
        default="float32",
        help="of products of matrices; tf32 needs an NVIDIA GPU (default: float32)",
    )


def add_data_arguments(parser: argparse.ArgumentParser, auto: str = "MNIST if it can be had") -> None:
    """``--data`` and ``--data-dir``, for `load_images`; ``auto`` says what the default means."""
    parser.add_argument("--data", choices=["auto", "mnist", "digits"], default="auto", help=f"default: auto, {auto}")
    parser.add_argument("--data-dir", help="folder with the files of MNIST (default: $PORTNN_DATA_DIR)")


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """``--checkpoint``, ``--checkpoint-seconds``, ``--resume`` and ``--log``, for `go_on` and `logs_of`."""
    parser.add_argument("--checkpoint", metavar="DIR", help="save the state of the run there, from time to time")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="SECONDS", help="time between two (default: 60)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR, if there is one")
    parser.add_argument(
        "--log", metavar="FILE", help="append a line an epoch: *.jsonl, *.csv, or a folder for TensorBoard"
    )


def go_on(trainer: Trainer, args: argparse.Namespace) -> None:
    """Let a run save checkpoints, and begin where the last one was saved, as the arguments say."""
    if args.checkpoint is None:
        if args.resume:
            raise ConfigError("--resume needs --checkpoint DIR: where the run to go on with was saved")
        return
    saving = Checkpoint(args.checkpoint, seconds=args.checkpoint_seconds, resume=args.resume)
    trainer.callbacks += (saving,)
    if not args.resume:
        return
    path = latest_checkpoint(args.checkpoint)
    if path is None:
        print(f"no checkpoint in {args.checkpoint} yet: the run begins anew", flush=True)
        return
    trainer.load(path)
    print(f"resumed {path}, after {trainer.epoch} epochs and {trainer.step} steps", flush=True)


def logs_of(args: argparse.Namespace) -> list[Callback]:
    """The log that ``--log`` asks for, by the ending of its name."""
    if args.log is None:
        return []
    return [{".jsonl": JSONLinesLog, ".csv": CSVLog}.get(Path(args.log).suffix, TensorBoardLog)(args.log)]


def load_images(name: str, data_dir: str | None) -> Dataset:
    """MNIST, the small digits of scikit-learn, or ("auto") MNIST if it can be had and the digits if not."""
    if name == "digits":
        return load_digits()
    try:
        return load_mnist(data_dir)
    except MissingDataError as error:
        if name == "mnist" or data_dir:
            raise
        print(f"NOTE: {error}. Training on the 1,797 digits of scikit-learn instead.", flush=True)
        return load_digits()


def check_writable(path: str | None) -> None:
    """Raise before hours of work, not after them, if a result could not be written."""
    if path is None:
        return
    check_replaceable(path)
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise PortnnError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PortnnError(f"{path} cannot be written: no permission to write into {folder}")


def check_folder(path: str) -> None:
    """Raise before the work if no files could be written into a folder, which need not be there yet."""
    there = Path(path).absolute()
    while not os.path.exists(there):
        there = there.parent
    if not there.is_dir():
        raise PortnnError(f"{path} cannot be written to: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise PortnnError(f"{path} cannot be written to: no permission to write into {there}")


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write results as JSON, whole or not at all."""
    try:
        write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise PortnnError(f"{path} cannot be written: {error.strerror or error}") from error
