"""What a training run gave, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass
class History:
    """One record an epoch; ``history["loss"]`` is the column of that name.

    Attributes
    ----------
    records : list of dict
        Each has ``epoch`` (from 1), ``loss`` (of the batches in training mode, each counted by its number of
        examples), ``seconds`` and ``samples_per_second`` (of the training steps alone), and ``val_loss`` and
        ``val_<metric>`` where there is validation data.
    stopped : bool
        Whether the latest call ended before its last epoch.

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    [0.5, 0.25]
    """

    records: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False

    def __getitem__(self, column: str) -> list[float]:
        return [record[column] for record in self.records]

    def __len__(self) -> int:
        return len(self.records)
