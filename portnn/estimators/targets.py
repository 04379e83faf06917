"""What an estimator knows of its targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from portnn.backend import Backend
from portnn.losses import Loss

__all__ = ["Targets"]


class Targets(ABC):
    """How the targets of an estimator become those of a loss; the part in which classifier and regressor differ."""

    #: Whether targets are numbers, or labels of classes.
    _numeric_targets: ClassVar[bool]

    @abstractmethod
    def _encode(self, y: Any) -> Any:
        """Validated targets as a matrix on the host, shape (n, columns)."""

    @abstractmethod
    def _loss_and_outputs(self, columns: int) -> tuple[Loss, int, str]:
        """The loss, how many outputs it needs, and the activation that makes predictions of them, by its name."""

    @abstractmethod
    def _loss_target(self, targets: Any) -> Any:
        """What the loss takes, from what `_encode` gave."""

    @abstractmethod
    def _score_outputs(self, targets: Any, outputs: Any, sample_weight: Any) -> float:
        """The estimator's score for outputs of the network, all on the host."""

    @abstractmethod
    def _learn_targets(self, y: Any, home: Backend, incremental: bool) -> None:
        """Remember of validated targets what `_encode` needs, or compare them with what is known."""

    def _class_weights(self, y: Any, incremental: bool) -> Any:
        """A weight for each example that comes from its target; None where there is none."""
        return None

    def _stratify(self, targets: Any) -> Any:
        """What the parts of a split for early stopping are to have in equal shares; None for nothing."""
        return None
