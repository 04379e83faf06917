"""Warnings of the estimators, which filters written for scikit-learn's meet as well as filters written for ours."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = ["warn"]

#: Where scikit-learn's multilayer perceptrons warn from.
_THEIRS = "sklearn.neural_network._multilayer_perceptron"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning.

    Python compares a warning with filters by the name of one module, that of whoever issues it. Programs that were
    written for scikit-learn filter by ``module="sklearn"``, others by ours. So the first filter that would take the
    warning for one of the two is given the name that it looks for; file and line are always our own.
    """
    frame = sys._getframe(1)
    ours = str(frame.f_globals["__name__"])
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = _module_that_is_meant(message, category, (ours, _THEIRS), frame.f_lineno)
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _module_that_is_meant(message: str, category: type[Warning], modules: tuple[str, ...], line: int) -> str:
    """The first of some modules for which the first of the warning filters that fits it, fits."""
    filters: list[Any] = list(warnings.filters)
    for _, text, kind, pattern, at in filters:
        if not issubclass(category, kind) or (text is not None and not text.match(message)) or at not in (0, line):
            continue
        for module in modules:
            # Python's own first filters hold the name itself.
            if pattern is None or (pattern == module if isinstance(pattern, str) else pattern.match(module)):
                return module
    return modules[0]
