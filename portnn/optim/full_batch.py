"""Methods that look at all examples before each step: descriptions of SciPy's minimizers.

They are given to a `portnn.Trainer` in the place of an optimizer; see `portnn.training.full_batch` for the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from portnn.checks import hold_count, hold_number
from portnn.errors import ConfigError
from portnn.optim.penalties import L2

__all__ = ["BFGS", "LBFGS", "ConjugateGradient", "FullBatch"]


@dataclass(frozen=True)
class FullBatch(ABC):
    """A method of `scipy.optimize.minimize` for the loss of all examples as a function of all parameters.

    One iteration is an epoch, with a line search that evaluates the loss a few times. There is no learning rate. What
    was learned about the curvature is forgotten between two calls of ``fit``. Use a float64 network where precision
    counts: in float32 the line search ends when the loss changes in its seventh digit.

    Parameters
    ----------
    gtol : float, default 1e-5
        The run ends when no derivative is larger than this, >= 0.
    penalty : L2, optional
        Added to the loss that is minimized; not to the loss in the history.
    """

    gtol: float = 1e-5
    penalty: L2 | None = None

    method: ClassVar[str]
    #: Arrays of numbers that the method keeps, each as long as the square of the number of parameters.
    matrices: ClassVar[int] = 0

    def __post_init__(self) -> None:
        hold_number(self, "gtol", 0)
        if self.penalty is not None and not isinstance(self.penalty, L2):
            raise ConfigError(f"{type(self).__name__}'s penalty must be an L2, which has a derivative everywhere")

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What `scipy.optimize.minimize` takes as options, but the number of iterations."""


@dataclass(frozen=True)
class ConjugateGradient(FullBatch):
    """Nonlinear conjugate gradients (Polak and Ribiere 1969): a few vectors of memory."""

    method = "CG"

    def options(self) -> dict[str, Any]:
        return {"gtol": self.gtol}


@dataclass(frozen=True)
class BFGS(FullBatch):
    """The quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno (1970).

    It keeps a matrix of n x n numbers for n parameters: for small networks.
    """

    method = "BFGS"
    matrices = 3  # the matrix, the next one, and what is between them

    def options(self) -> dict[str, Any]:
        return {"gtol": self.gtol}


@dataclass(frozen=True)
class LBFGS(FullBatch):
    """BFGS with limited memory (Byrd, Lu, Nocedal and Zhu 1995): the latest steps stand for the matrix.

    Parameters
    ----------
    gtol, penalty
        As `FullBatch`.
    ftol : float, default 2.2e-9
        The run also ends when an iteration lowers the loss by less than this share of it, >= 0.
    memory : int, default 10
        How many of the latest steps are kept.
    max_evaluations : int, default 2**31 - 1
        The run also ends after the iteration that evaluates the loss more often in all than this.
    """

    ftol: float = 2.2e-9
    memory: int = 10
    # Each iteration has a limit of its own for evaluations; SciPy's limit for their sum would end long runs.
    max_evaluations: int = 2**31 - 1

    method = "L-BFGS-B"

    def __post_init__(self) -> None:
        super().__post_init__()
        hold_number(self, "ftol", 0)
        hold_count(self, "memory")
        hold_count(self, "max_evaluations")

    def options(self) -> dict[str, Any]:
        return {"gtol": self.gtol, "ftol": self.ftol, "maxcor": self.memory, "maxfun": self.max_evaluations}
