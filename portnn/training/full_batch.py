"""Training with methods that need the loss of all examples: SciPy minimizes, the backend evaluates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from portnn import tree
from portnn._typing import Tree
from portnn.data.batches import batches
from portnn.errors import ConfigError, DivergenceError
from portnn.optim import FullBatch
from portnn.optim.optimizer import zeros_like
from portnn.training.batch import Examples
from portnn.training.feeds import Resident
from portnn.training.interrupts import Stoppable, Stopped
from portnn.training.recipe import Recipe
from portnn.training.stepper import Stepper
from portnn.training.steps import adding_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Minimum", "minimize"]

Vector: TypeAlias = "NDArray[np.float64]"

#: Largest memory that the matrices of a method may take, in bytes.
_MATRIX_LIMIT = 2**32

#: SciPy's status of a run that a callback ended.
_STOPPED = 99


class Minimum(NamedTuple):
    """How a run of a full-batch method ended.

    Attributes
    ----------
    message, status : str, int
        SciPy's.
    value : float
        What was reached: the loss with its penalties.
    """

    message: str
    status: int
    value: float


class _Objective:
    """The loss of all examples, and its gradient, as functions of one host vector of all parameters."""

    def __init__(
        self,
        method: FullBatch,
        recipe: Recipe,
        stepper: Stepper,
        data: Examples,
        size: int,
        between: Callable[[], None],
    ) -> None:
        net = recipe.network
        self._recipe, self._run, self._data, self._between = recipe, stepper.run, data, between
        self._backend = net.backend
        self._method: Any = method
        #: Of one size, but for the last one.
        self._batches = list(batches(data.x.shape[0], size))
        # The same draws at every evaluation: the line search needs a function.
        noise = recipe.rng.child("noise", "full batch", stepper.run.step + 1)
        #: Of the latest evaluation.
        self._carry: tuple[Tree, Tree, tuple[Tree, Any, Any]] | None = None
        self._loop = net.backend.loop(adding_step(net, recipe.loss, noise))
        self.state = net.state
        params = net.params
        self._like = tree.map(lambda _: None, params)
        self._shapes = [leaf.shape for leaf in tree.leaves(params)]
        self._ends = np.cumsum([math.prod(shape) for shape in self._shapes])[:-1]
        self.loss, self.evaluations = math.nan, 0

    def vector(self, params: Tree) -> Vector:
        """Parameters, or their gradients, one after the other."""
        return np.concatenate([self._backend.to_numpy(a).reshape(-1) for a in tree.leaves(params)], dtype=np.float64)

    def params(self, vector: Vector) -> Tree:
        """The inverse of `vector`."""
        dtype = self._recipe.network.dtype
        pairs = zip(np.split(vector.astype(dtype), self._ends), self._shapes, strict=True)
        arrays = [self._backend.asarray(piece.reshape(shape).copy(), dtype) for piece, shape in pairs]
        return tree.rebuild(self._like, arrays)

    def _pass(self, params: Tree) -> tuple[Tree, Tree, tuple[Tree, Any, Any]]:
        """A pass through all examples, to which the arrays of the parameters are given up.

        The parameters, the state behind it, and the sums of gradients, losses and weights.
        """
        backend, net = self._backend, self._recipe.network
        zero = backend.asarray(0.0, net.dtype)
        carry = params, tree.map(backend.copy, net.state), (zeros_like(params), backend.copy(zero), backend.copy(zero))
        if self._carry is not None:
            carry = tree.map(backend.overwritten, self._carry, carry)
        number = 0
        while number < len(self._batches):
            size = len(self._batches[number])
            some = [rows for rows in self._batches[number : number + self._loop.most(size)] if len(rows) == size]
            steps = [{"step": number + i, "optimizer": {}} for i in range(len(some))]
            carry, _ = self._loop.run(carry, self._data, some, [0] * len(some), steps)
            number += len(some)
        self._carry = carry
        return carry

    def __call__(self, vector: Vector) -> tuple[float, Vector]:
        backend = self._backend
        params, state, (total, *sums) = self._pass(self.params(vector))
        if self._recipe.regularizer is not None:
            penalty, total = self._recipe.regularizer(params, total, 1.0)
            sums[0] = sums[0] + penalty
        loss_sum, weight = backend.to_floats(sums)
        self._between()
        self.state, self.loss = tree.map(backend.copy, state), loss_sum / weight
        self.evaluations += 1
        value, gradient = self.loss, self.vector(total) / weight
        if self._method.penalty is not None:
            gradient += self.vector(self._method.penalty.transform(params, zeros_like(params)))
            value += sum(backend.to_floats(self._method.penalty.terms(params)))
        if not math.isfinite(value) or not np.isfinite(gradient).all():
            raise DivergenceError(
                f"the loss is {value} within iteration {self._run.epoch + 1}, or its gradient is not finite: "
                "scale the inputs, or begin with smaller weights"
            )
        return value, gradient


def minimize(
    method: FullBatch,
    recipe: Recipe,
    stepper: Stepper,
    feed: Resident,
    iterations: int,
    training: Stoppable,
    interruptible: Callable[[], None],
    end_epoch: Callable[[dict[str, float]], None],
) -> Minimum:
    """Run a full-batch method for some iterations at most.

    Parameters
    ----------
    method : FullBatch
    recipe : Recipe
        Its network has the parameters of the latest complete iteration at any time.
    stepper : Stepper
        Takes what an iteration has found.
    feed : Resident
        Its ``size`` says how many examples go through the network at once.
    iterations : int
    training : Stoppable
        Whether it is to stop is asked after every evaluation.
    interruptible : callable
        Called after every evaluation; may raise.
    end_epoch : callable
        Called with the record of every iteration.
    """
    from scipy.optimize import minimize as scipy_minimize

    net, run = recipe.network, stepper.run
    name, n, needed = type(method).__name__, net.parameter_count, method.matrices * 8 * net.parameter_count**2
    if needed > _MATRIX_LIMIT:
        raise ConfigError(f"{name} needs {needed / 2**30:,.0f} GiB for {n:,} parameters: take LBFGS")
    if recipe.regularizer is not None and not recipe.regularizer.smooth:
        raise ConfigError(f"{name} needs a penalty with a derivative everywhere, not {recipe.regularizer}")
    if n == 0:
        raise ConfigError(f"{name} has nothing to train: the network has no parameters")

    def between() -> None:
        interruptible()
        if training.stopping:
            raise Stopped

    objective = _Objective(method, recipe, stepper, feed.data, feed.size, between)
    clock = time.perf_counter()

    def iteration(xk: Vector) -> None:
        nonlocal clock
        stepper.take(objective.params(xk), objective.state)
        seconds = time.perf_counter() - clock
        rate = objective.evaluations * feed.examples / seconds
        record = {"epoch": run.epoch + 1, "loss": objective.loss, "seconds": seconds, "samples_per_second": rate}
        try:
            end_epoch(record | {"evaluations": objective.evaluations})
        except StopIteration as error:  # SciPy would take it for ours
            raise RuntimeError("StopIteration in a callback or a metric") from error
        objective.evaluations, clock = 0, time.perf_counter()
        if training.stopping:
            raise StopIteration

    try:
        result = scipy_minimize(
            objective,
            objective.vector(net.params),
            jac=True,
            method=method.method,
            callback=iteration,
            options=method.options() | {"maxiter": iterations},
        )
    except Stopped:  # from within an evaluation, or a wait for validation data
        return Minimum("stopped", _STOPPED, objective.loss)
    if training.stopping:
        return Minimum("stopped", _STOPPED, objective.loss)
    return Minimum(str(result.message), int(result.status), float(result.fun))
