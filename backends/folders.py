"""Where a user's own files of portnn lie that can be made again: compiled code, and what was timed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_folder"]


def user_folder() -> Path | None:
    """In the user's folder for such things; None for a user without a home."""
    try:
        home = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "portnn"
    except RuntimeError:
        return None
