"""scikit-learn's solvers as optimizers of portnn, and its rules for the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from portnn import optim
from portnn.training.courses import needs_all

__all__ = ["EpsilonHatAdam", "LearningRate", "ShuffledOrder", "check_stochastic", "make_optimizer", "solver_name"]


@dataclass(frozen=True)
class EpsilonHatAdam(optim.Adam):
    """`optim.Adam` with epsilon beside the root that is not corrected yet, as scikit-learn has it.

    Kingma and Ba (2015) give this variant at the end of section 2, and call its epsilon epsilon hat.
    """

    def hyper(self, step: int) -> dict[str, float]:
        hyper = super().hyper(step)
        return hyper | {"eps": self.eps / math.sqrt(hyper["bias2"])}


def make_optimizer(estimator: Any) -> optim.Optimizer | optim.FullBatch:
    """What an estimator's solver and its parameters mean; an ``optimizer`` of the user's goes before them."""
    if estimator.optimizer is not None:
        optimizer: optim.Optimizer | optim.FullBatch = estimator.optimizer
        return optimizer
    if estimator.solver == "lbfgs":
        return optim.LBFGS(gtol=estimator.tol, ftol=10**7 * np.finfo(np.float64).eps, max_evaluations=estimator.max_fun)
    lr = estimator.learning_rate_init
    if estimator.solver == "adam":
        return EpsilonHatAdam(lr, estimator.beta_1, estimator.beta_2, estimator.epsilon)
    if estimator.momentum == 0:
        return optim.SGD(lr)
    rule = optim.Nesterov if estimator.nesterovs_momentum else optim.Momentum
    return rule(lr, min(estimator.momentum, math.nextafter(1, 0)))  # 1 is allowed there, and not here


def solver_name(estimator: Any) -> str:
    """What an estimator trains by, by name: its solver, or the type of the user's optimizer."""
    return estimator.solver if estimator.optimizer is None else type(estimator.optimizer).__name__


def check_stochastic(estimator: Any) -> bool:
    """True; AttributeError if an estimator trains by a full-batch method, which knows no ``partial_fit``."""
    if needs_all(make_optimizer(estimator)):
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {solver_name(estimator)} is not stochastic."
        )
    return True


class LearningRate:
    """The learning rate of an estimator, as it changes from epoch to epoch.

    Parameters
    ----------
    initial : float
    schedule : {"constant", "invscaling", "adaptive"}
        Constant; ``initial / (samples + 1)^power``; or a fifth after each plateau.
    power : float

    Attributes
    ----------
    learning_rate : float
    """

    def __init__(
        self, initial: float, schedule: Literal["constant", "invscaling", "adaptive"], power: float = 0.5
    ) -> None:
        self.settings = (initial, schedule, power)
        self.learning_rate = initial

    @property
    def factor(self) -> float:
        """The rate in units of the initial one."""
        return self.learning_rate / self.settings[0]

    def end_epoch(self, samples: int) -> None:
        """After an epoch, with the number of samples seen so far."""
        initial, schedule, power = self.settings
        if schedule == "invscaling":
            self.learning_rate = initial / (samples + 1) ** power

    def plateau(self) -> str:
        """After some epochs without improvement: what is to be done, ending in "Stopping." if that is all."""
        if self.settings[1] != "adaptive":
            return "Stopping."
        if self.learning_rate <= 1e-6:
            return "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return f"Setting learning rate to {self.learning_rate:f}"


class ShuffledOrder:
    """The order of the examples: a `Trainer`'s ``order``, with the draws of scikit-learn.

    Each epoch shuffles the order of the one before.
    """

    def __init__(self, random_state: np.random.RandomState | None) -> None:
        self.random_state = random_state
        self._latest: NDArray[np.int64] = np.arange(0)

    def __call__(self, n: int, epoch: int) -> NDArray[np.int64]:
        """The numbers of n examples, shape (n,); always ascending without a random state."""
        if len(self._latest) != n:
            self._latest = np.arange(n)
        if self.random_state is not None:
            self._latest = self._latest[self.random_state.permutation(n)]
        return self._latest
