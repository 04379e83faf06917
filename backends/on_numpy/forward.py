"""The forward pass of NumPy: from Python, until a form of batches has come often; then from a tape."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from portnn.forward import Forward
from portnn.kernels import twins_on

from .compile import loaded, loops
from .recording import recorder
from .workspace import give_back, take, workspace

__all__ = ["TapeForward"]

#: So many batches of a form go through from Python first: what is asked for once does not pay for a recording.
_FIRST = 256

#: For so many forms of batches tapes are kept, and so many are counted.
_FORMS, _COUNTED = 16, 256

#: Of the memory of all tapes, in bytes: what takes more goes through from Python.
_MOST_BYTES = 2**26

_log = logging.getLogger(__name__)


class TapeForward(Forward):
    """Records what is done with a form of batches when some have come, and replays it from then on, bit for bit.

    Several threads may ask at once: a tape is one thread's at a time, and the others go through from Python.

    Attributes
    ----------
    reason : str or None
        Why nothing is recorded; None as long as it is, or may be.
    replayed : int
        About how many batches went through by tapes.
    """

    def __init__(self, apply: Callable[..., Any]) -> None:
        super().__init__(apply)
        self.reason: str | None = None
        self.replayed = 0
        #: For batches of a form: how many there were, and what was recorded; None where it would take too much memory.
        self._seen: dict[Any, int] = {}
        self._kept: dict[Any, Any] = {}
        #: Those that are worth no other core, by shape and dtype.
        self._small: dict[Any, Any] = {}
        self.forget_threads()
        _alive.add(self)

    def forget_threads(self) -> None:
        """What a forked child does, which has none of the threads that may have been in the middle of something."""
        self._recording = threading.Lock()
        for kept in [*getattr(self, "_kept", {}).values()]:
            if kept is not None:
                kept.forget_threads()

    @property
    def tapes(self) -> list[Any]:
        """What was recorded, one for each form of batches."""
        return [kept.tapes[0] for kept in [*self._kept.values()] if kept is not None]

    @property
    def nbytes(self) -> int:
        """Of the memory of all tapes."""
        return sum(kept.nbytes for kept in [*self._kept.values()] if kept is not None)

    def __call__(self, params: Any, state: Any, x: Any) -> Any:
        y = self._replayed((params, state), x, len(x), 1)
        if y is not None:
            return y
        y = super().__call__(params, state, x)
        self._count((params, state), x)
        return y

    def many(self, params: Any, state: Any, x: Any, size: int) -> Any:
        trees, whole = (params, state), len(x) // size
        y = self._replayed(trees, x, size, whole)
        if y is None:
            return super().many(params, state, x, size)
        if whole * size < len(x):
            y[whole * size :] = self(params, state, x[whole * size :])
        return y

    def _replayed(self, trees: Any, x: Any, size: int, count: int) -> Any:
        """Room for the outputs for all of ``x``, with those of the first ``count`` batches of ``size`` rows.

        None where there is no tape for them, or it is in use.
        """
        # First what costs nothing: most networks never come to a tape.
        kept = self._kept.get(_form(x, size)) if self._kept and _lies_well(x) else None
        if kept is None or recorder() is not None or not kept.lock.acquire(blocking=False):
            return None
        try:
            if not kept.bind(trees):
                return None
            y = np.empty((len(x), *kept.output_shape), kept.dtype)
            kept.fill(x, y, size, count)
        finally:
            kept.lock.release()
        self.replayed += count
        if len(x) == size and kept.is_small and twins_on():
            self._small[x.shape, x.dtype] = kept
        return y

    def at_once(self, trees: tuple[Any, Any], known: object, x: Any, size: int) -> Any:
        kept = self._small.get((x.shape, x.dtype)) if self._small and _lies_well(x) else None
        if kept is None or len(x) > size or not twins_on() or recorder() is not None:
            return None
        if x.dtype.kind == "f" and not math.isfinite(np.vdot(x, x)):  # as in `NumpyBackend.all_finite`
            return None
        if not kept.lock.acquire(blocking=False):
            return None
        try:
            parts = take()
            try:
                if parts != len(kept.tapes) or not kept.bind(trees, known):
                    return None
                self.replayed += 1
                return kept.answer(x)
            finally:
                give_back()
        finally:
            kept.lock.release()

    def _count(self, trees: Any, x: Any) -> None:
        """Count a batch that went through from Python, and record its form where it has come often."""
        if self.reason is not None or not _lies_well(x) or recorder() is not None:
            return
        form = _form(x, len(x))
        if len(self._seen) >= _COUNTED:
            self._seen.clear()
        self._seen[form] = self._seen.get(form, 0) + 1
        if self._seen[form] < _FIRST or form in self._kept or not self._recording.acquire(blocking=False):
            return
        try:
            self._record(form, trees, x)
        finally:
            self._recording.release()

    def _record(self, form: Any, trees: Any, x: Any) -> None:
        if loops("threads") is None:  # which the plain call has warned of
            self.reason = "Numba cannot be used"
            return
        recording = loaded("tape.forward")
        try:
            kept = recording.recorded(self.apply, *trees, x, parts=form[0])
        except Exception as error:  # the plain call has just been done: whatever fails is a matter of the tape
            self.reason, self._kept, self._small = recording.told(error), {}, {}
            _log.info("predictions go batch by batch, from Python: %s", self.reason)
            return
        self._seen[form], more = 0, kept.nbytes
        if more > _MOST_BYTES:
            kept, more = None, 0
        while self._kept and (len(self._kept) >= _FORMS or self.nbytes + more > _MOST_BYTES):
            oldest = self._kept.pop(next(iter(self._kept)))
            self._small = {key: small for key, small in self._small.items() if small is not oldest}
        self._kept[form] = kept


def _lies_well(x: Any) -> bool:
    """Whether a tape may be given an array: it takes the rows as they lie in memory."""
    return type(x) is np.ndarray and x.flags.c_contiguous and x.flags.aligned


def _form(x: Any, size: int) -> Any:
    """What the tape for batches depends on: cores, twins or portable functions, rows, shape and dtype."""
    cores = workspace().cores()
    return 1 if cores is None else cores.count, twins_on(), size, x.shape[1:], x.dtype


_alive: weakref.WeakSet[TapeForward] = weakref.WeakSet()


def _forget_threads() -> None:
    for forward in list(_alive):
        forward.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
