"""Images as torch takes them, on the memory as it lies.

Images (n, h, w, c) seen as (n, c, h, w) are what torch calls channels last: no copy is made. Where padding differs
between two sides, which torch does not know, zeros are added, or cut off, around the call.
"""

from __future__ import annotations

from typing import Any

__all__ = ["channels_first", "channels_last"]


def channels_first(x: Any) -> Any:
    return x.permute(0, 3, 1, 2)


def channels_last(x: Any) -> Any:
    return x.permute(0, 2, 3, 1)
