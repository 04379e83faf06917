"""Twins of several layers in a row for CuPy."""

from __future__ import annotations

from . import direct

__all__ = ["GROUPS"]

GROUPS = (*direct.GROUPS,)
