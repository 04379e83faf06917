"""What a training run gave, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


@dataclass
class History:
    """One record an epoch; ``history["loss"]`` is the column of that name, NaN where an epoch has no such number.

    Attributes
    ----------
    records : list of dict
        Each has ``epoch`` (from 1), ``loss`` (of the batches in training mode, each counted by its number of
        examples), ``seconds`` and ``samples_per_second`` (of the training steps alone), ``lr`` (of the last step), and
        ``val_loss`` and ``val_<metric>`` where there is validation data; ``skipped`` steps where those that are not
        finite are skipped, which count in no mean.
    stopped : bool
        Whether the latest call was stopped before its last epoch.
    message : str
        Why the latest run of a full-batch method ended. Such runs also record ``evaluations`` of the loss, and no
        ``lr``.
    status : int
        The same as SciPy's number: 0 where the method converged.
    minimum : float
        What that run reached: the loss with its penalties.

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    [0.5, 0.25]
    """

    records: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    message: str = ""
    status: int = 0
    minimum: float = math.nan

    def __getitem__(self, column: str) -> list[float]:
        if not any(column in record for record in self.records):
            raise KeyError(column)
        return [record.get(column, math.nan) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles that are made while another thread goes on to fill the latest record.
        return vars(self) | {"records": [dict(record) for record in self.records]}
