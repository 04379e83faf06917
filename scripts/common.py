"""What the scripts share: their arguments, how errors are shown, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from portnn import Trainer
from portnn.checks import check_count
from portnn.data import Dataset, load_digits, load_mnist
from portnn.errors import ConfigError, MissingDataError, PortnnError
from portnn.storage import check_replaceable, write_atomically
from portnn.training import Callback, Checkpoint, CSVLog, JSONLinesLog, TensorBoardLog, latest_checkpoint

#: The extras of portnn that bring what is imported under other names, or with others.
_EXTRAS = {"sklearn": "sklearn", "scipy": "sklearn", "pandas": "tables", "matplotlib": "plot"}
REFUSED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

Asked = TypeVar("Asked")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main function, and end the process: what goes wrong is one sentence on standard error, and code 2.

    So are files and output that cannot be written, a library that is not installed, and a lack of memory. Nobody needs
    to listen on standard error.
    """
    _end(_ended(main))


def begin(ask: Callable[[], Asked]) -> Asked:
    """Begin a script that has no main function, as its code stands in cells: what ``ask`` returns.

    What goes wrong in ``ask``, and in the cells after it, ends the process as in `run`.
    """
    answers: list[Asked] = []
    code = _ended(lambda: answers.append(ask()))
    if not answers:
        _end(code)
    sys.excepthook = _end_for
    return answers[0]


def _end_for(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    code = _told(error)
    if code is None:
        sys.__excepthook__(kind, error, trace)
    else:
        _end(code)


def _end(code: int) -> NoReturn:
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # once more at the end of the process, it would change the exit code
            _to_nowhere(descriptor)
    sys.exit(code)


def _ended(main: Callable[[], int | None]) -> int:
    told = sys.stdout is not None
    _open_standard_streams()
    if not told:
        return _refused("standard output is closed: what is found out could not be told; close it by > /dev/null")
    try:
        try:
            code = main()
        except SystemExit as error:  # of --help
            code = error.code if isinstance(error.code, int) else 0
        sys.stdout.flush()  # here it can be said if that fails
    except BaseException as error:
        code = _told(error)
        if code is None:
            raise
    return code or 0


def _told(error: BaseException) -> int | None:
    """Say in one sentence what ends a script: its exit code; None for what nobody expects."""
    match error:
        case KeyboardInterrupt():
            _say("interrupted")
            return INTERRUPTED
        case PortnnError():
            return _refused(str(error))
        case ModuleNotFoundError():
            name = str(error.name).partition(".")[0]
            extra = _EXTRAS.get(name)
            return _refused(f"{name} is needed, and not installed: pip install " + (f'".[{extra}]"' if extra else name))
        case MemoryError():
            return _refused(f"there is not enough memory: {error}")
        case OSError():
            return _refused(_of_output(error) or f"{error.filename or 'a file'}: {error.strerror or error}")
    return None


def _open_standard_streams() -> None:
    """Let no file that a run opens take the number of a standard stream that is closed: others write there."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115 (as long as the process)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what tables hold may have letters that a terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")


def _of_output(error: OSError) -> str | None:
    """A sentence, if it is standard output that cannot be written."""
    failed = error if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EBADF) else None
    try:
        sys.stdout.flush()  # what could not be written is still there
    except OSError as again:
        failed = again
    return None if failed is None else f"standard output cannot be written: {failed.strerror or failed}"


def _to_nowhere(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _refused(sentence: str) -> int:
    _say(f"error: {' '.join(sentence.split())}")
    return REFUSED


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens
        print(sentence, file=sys.stderr, flush=True)


class Parser(argparse.ArgumentParser):
    """Arguments of a script: what is wrong with them is an error of portnn, for `run`.

    Parameters
    ----------
    description : str or None
        The docstring of the script, shown as it is.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows what can be given")

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse's own drops what cannot be written

    def add_count(self, flag: str, **options: Any) -> None:
        """An argument that takes a positive int, or some (``nargs``)."""
        self.add_argument(flag, type=_checked(_name(flag), int, check_count), **options)

    def add_path(self, flag: str, **options: Any) -> None:
        """An argument that takes a path, in which ``~`` is the user's home: not every shell puts it in."""
        self.add_argument(flag, type=_checked(_name(flag), os.path.expanduser, _check_filled), **options)


def _name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _checked(name: str, read: Callable[[str], Any], check: Callable[[str, Any], Any]) -> Callable[[str], Any]:
    """A ``type`` for argparse, which shows the sentence of the check."""

    def convert(text: str) -> Any:
        value = read(text)
        try:
            return check(name, value)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    convert.__name__ = read.__name__  # argparse says "invalid int value"
    return convert


def _check_filled(name: str, text: str) -> str:
    if not text:  # as of a variable of the shell that is not set
        raise ConfigError(f"{name} must not be empty")
    return text


def add_seed_argument(parser: Parser, of_what: str, *, bits: int = 64) -> None:
    """``--seed``, with as many bits as those take who get it."""

    def check(name: str, value: int) -> int:
        if not 0 <= value < 2**bits:
            raise ConfigError(f"{name} must be an int in 0 .. 2**{bits} - 1, not {value}")
        return value

    parser.add_argument("--seed", type=_checked("seed", int, check), default=0, help=f"{of_what} (default: 0)")


def add_device_arguments(parser: Parser) -> None:
    """``--device`` or ``--backend``: ``get_backend(args.backend or args.device)``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", choices=["cpu", "gpu", "cuda"], default="cpu", help="NumPy or CuPy (default: cpu)")
    where.add_argument(
        "--backend",
        type=_checked("backend", str, _check_filled),
        help="any backend by name: numpy, cupy:1, torch, torch:cuda, jax, ...",
    )


def add_precision_argument(parser: Parser) -> None:
    """``--precision``: ``get_backend(name, precision=args.precision)``."""
    parser.add_argument(
        "--precision",
        choices=["float32", "tf32", "bf16"],
        default="float32",
        help="of products of matrices; tf32 and bf16 need an NVIDIA GPU, bf16 on the CPU torch or JAX "
        "(default: float32)",
    )


def add_data_arguments(parser: Parser, auto: str = "MNIST if it can be had", more: Sequence[str] = ()) -> None:
    """``--data`` and ``--data-dir``, for `load_images`; ``auto`` says what the default means.

    ``more`` are data that `load_images` does not know.
    """
    choices = ["auto", "mnist", "digits", *more]
    parser.add_argument("--data", choices=choices, default="auto", help=f"default: auto, {auto}")
    parser.add_path("--data-dir", help="folder with the files of MNIST (default: $PORTNN_DATA_DIR)")


def add_checkpoint_arguments(parser: Parser) -> None:
    """``--checkpoint``, ``--checkpoint-seconds``, ``--resume`` and ``--log``, for `go_on` and `logs_of`."""
    parser.add_path("--checkpoint", metavar="DIR", help="save the state of the run there, from time to time")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="SECONDS", help="time between two (default: 60)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR, if there is one")
    parser.add_path("--log", metavar="FILE", help="append a line an epoch: *.jsonl, *.csv, or a folder for TensorBoard")


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


def check_writable(path: str | os.PathLike[str] | None) -> None:
    """Raise before hours of work, not after them, if a result could not be written."""
    if path is None:
        return
    check_replaceable(path)
    folder = Path(path).absolute().parent
    if not os.path.isdir(folder):
        raise PortnnError(f"{path} cannot be written: there is no folder {folder}")
    _check_name(path)
    try:
        _write_something(folder)
    except OSError as error:
        raise _unwritable(path, error) from None


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise before the work if no files could be written into a folder, which need not be there yet."""
    there = Path(path).absolute()
    _check_name(path)
    while not os.path.lexists(there):
        there = there.parent
    if not os.path.isdir(there):
        raise PortnnError(f"{path} cannot be written to: {there} is no folder")
    try:
        _write_something(there)
    except OSError as error:
        raise _unwritable(path, error) from None


def _check_name(path: str | os.PathLike[str]) -> None:
    """Raise if a name is too long."""
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write_something(folder: Path) -> None:
    """Make a file, which is gone again: permissions are not all that can be in the way."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".portnn-", suffix=".tmp"):
        pass


def _unwritable(path: str | os.PathLike[str], error: OSError) -> PortnnError:
    return PortnnError(f"{os.fspath(path)} cannot be written: {error.strerror or error}")


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write results as JSON, whole or not at all."""
    try:
        write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise _unwritable(path, error) from error
