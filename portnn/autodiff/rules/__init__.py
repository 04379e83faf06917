"""The rules of differentiation, a file for each family; `portnn.autodiff.rules.table` has them all."""

from portnn.autodiff.rules.table import CREATION, NO_DERIVATIVE, RULES

__all__ = ["CREATION", "NO_DERIVATIVE", "RULES"]
