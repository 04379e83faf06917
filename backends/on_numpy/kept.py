"""Compiled code on disk: where it is kept, for which sources, versions and processor, and how it is read and written.

In the folder that ``NUMBA_CACHE_DIR`` names, else beside the loops, else in the user's folder for such things. What
others may have changed meanwhile is in the name of the folder, so nothing in it is ever out of date.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

from portnn.storage import write_atomically

from ..folders import user_folder

__all__ = ["is_empty", "read", "write"]

#: Seconds after which code for other sources or versions is deleted, if nothing was compiled for them.
_OLD = 60 * 24 * 3600

_log = logging.getLogger(__name__)


@functools.cache
def _folders() -> tuple[Path, ...]:
    """The folders for code of these sources, versions and processor, which may be there or not: the best one first."""
    name = f"portnn-{_key()}"
    return tuple(place / name for place in _places())


def is_empty() -> bool:
    """Whether nothing is kept yet."""
    return not any(here.is_dir() and any(here.iterdir()) for here in _folders())


def read(name: str) -> bytes | None:
    """What was kept under a name; None if there is nothing, or nothing whole."""
    for here in _folders():
        try:
            digest, content = (here / name).read_bytes().split(b"\n", 1)
        except (OSError, ValueError):
            continue
        if digest == _digest(content):
            return content
    return None


def write(name: str, content: bytes) -> None:
    """Keep something where that is possible, or say once that it is nowhere."""
    for here in _folders():
        try:
            if not here.is_dir():
                here.mkdir(parents=True, exist_ok=True)
                _delete_old(here.parent)
            write_atomically(here / name, _digest(content) + b"\n" + content)
        except OSError:
            continue
        return
    _not_written()


@functools.cache
def _not_written() -> None:
    _log.warning("compiled code can be kept nowhere, so each process compiles: set NUMBA_CACHE_DIR to a folder")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _key() -> str:
    """Of everything that compiled code depends on."""
    here = Path(__file__).parent
    sources = [*here.glob("loops/*.py"), *here.glob("compile*.py"), here / "machine_code.py"]
    parts = [path.read_bytes() for path in sorted(sources)]
    settings = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR")
    machine = sys.platform, platform.machine(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    versions = sys.version, np.__version__, version("numba"), version("llvmlite")
    return hashlib.sha256(repr((parts, settings, machine, versions)).encode()).hexdigest()[:16]


def _places() -> Iterator[Path]:
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield Path(__file__).parent / "loops" / "__pycache__"
    if (folder := user_folder()) is not None:
        yield folder


def _delete_old(place: Path) -> None:
    for other in place.glob("portnn-*"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _OLD:
                shutil.rmtree(other)
