"""Where in an epoch a run is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass
class Progress:
    """What is known of the epoch under way; a checkpoint holds it, so that a resumed epoch gives the same record.

    Attributes
    ----------
    batches, skipped : int
        How many steps of the epoch are done, and how many of these were not applied (``on_nonfinite="skip"``).
    examples, skipped_examples : int
        How many examples these steps have seen.
    total : float
        Sum of the losses of the applied steps, each times its number of examples.
    seconds : float
        How long the steps took.
    """

    batches: int = 0
    skipped: int = 0
    examples: int = 0
    skipped_examples: int = 0
    total: float = 0.0
    seconds: float = 0.0
