"""The cells of tables in text files: which are numbers, and which say that something is not known."""

from __future__ import annotations

import math
import re

import numpy as np

__all__ = ["is_unknown", "number"]

#: What tables write where they know nothing, without regard to case: an empty cell, the "?" of UCI's tables, and the
#: words of R, of databases and of spreadsheets.
_UNKNOWN = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>"})
#: Not all that ``float`` takes: it reads "1_000" and digits of every script, and "inf" is no measurement.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)


def is_unknown(cell: str) -> bool:
    """Whether a cell says that its value is not known: it is empty, or "?", "NA", "NaN", ..."""
    return cell.strip().lower() in _UNKNOWN


def number(cell: str) -> float:
    """The finite number in a cell, which must fit into float32; NaN if it is unknown.

    Raises
    ------
    ValueError
        If there is something else; it says what, as the middle of a sentence.

    >>> number(" 7.25"), number("?")
    (7.25, nan)
    >>> number("$452,600")
    Traceback (most recent call last):
    ValueError: '$452,600' in the place of a number such as 1234.5
    """
    text = cell.strip()
    if is_unknown(text):
        return math.nan
    if not _NUMBER.fullmatch(text):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        hint = " such as 1234.5" if any("0" <= c <= "9" for c in text) else ""
        raise ValueError(f"{shown!r} in the place of a number{hint}")
    value = float(text)
    if abs(value) > _LARGEST:
        raise ValueError(f"{text!r}, which is beyond float32,")
    return value
