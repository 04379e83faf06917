"""Groups for CuPy: several layers in a row, or the last ones and the loss, in few launches."""

from __future__ import annotations

from . import affine_groups, direct, loss_groups

__all__ = ["GROUPS"]

GROUPS = (*loss_groups.GROUPS, *affine_groups.GROUPS, *direct.GROUPS)
