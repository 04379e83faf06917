"""setuptools, and for an editable install the folder of the checkout on Python's path, besides its finder.

`backends/` is installed as `portnn_backends`, so setuptools finds the packages of an editable install by a finder,
which is asked after all folders on the path. A program beside the checkout has the folder above it on its path, where
the checkout itself, a folder called portnn without an `__init__.py`, is a namespace package, and is found first. A
package with an `__init__.py`, in whatever folder on the path, goes before it.
"""

from __future__ import annotations

import base64
import hashlib
import locale
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_PATH_FILE = "__editable__.portnn_checkout.pth"
#: In which Python's site module reads it.
_ENCODING = "utf-8" if sys.version_info >= (3, 13) else locale.getencoding()


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """See PEP 660."""
    name: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _add(Path(wheel_directory) / name, _PATH_FILE, f"{os.getcwd()}\n".encode(_ENCODING))
    return name


def _add(wheel: Path, name: str, content: bytes) -> None:
    """Put one more file into a wheel, and into its list of files."""
    whole = wheel.with_suffix(".part")
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr(name, content)
        for entry in old.infolist():
            held = old.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                held = f"{name},sha256={digest},{len(content)}\n".encode() + held
            new.writestr(entry, held)
    os.replace(whole, wheel)
