"""`Stepper`: does the steps of a run. It alone touches what they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from portnn import tree
from portnn._typing import Tree
from portnn.door import memory_named
from portnn.loop import Loop
from portnn.nn.network import Network
from portnn.optim import Optimizer
from portnn.training.batch import Piece
from portnn.training.recipe import Recipe
from portnn.training.run import Run
from portnn.training.steps import skipping_step, training_step

__all__ = ["Stepper"]


class Stepper:
    """Owns parameters, layers' state and slots of a run, and the compiled steps.

    Parameters
    ----------
    network : Network
    run : Run
        Whose steps are counted.

    Attributes
    ----------
    pending : list of (losses, pieces)
        What nobody has looked at yet: losses on the device, as `Loop.run` gave them, and the batches of the steps.
    began : float
        When the clock of the epoch under way would have begun without breaks.
    loop : Loop
        What `prepare` has made of the steps.
    """

    #: The choices of an earlier process, for the next loop; None if the present one has the run's.
    _adopted: dict[str, Any] | None = None

    def __init__(self, network: Network, run: Run) -> None:
        self.network, self.run = network, run
        self.pending: list[tuple[Any, Sequence[Piece]]] = []
        self.began = 0.0
        self.loop = Loop(network.backend, ())
        self._rules: tuple[Optimizer, ...] = ()
        #: Which step of the loop each of the rules is.
        self._turns: list[int] = []
        self._compiled_for: Any = None
        self._slots: tuple[Tree, ...] = ()
        #: The kind of optimizer that the slots are of.
        self._kind: object = None
        #: Whether somebody else may have the arrays of the slots.
        self._slots_given = False

    def prepare(self, recipe: Recipe) -> None:
        """Make the slots, and compile the steps, unless those at hand fit."""
        net, optimizer = self.network, recipe.optimizer
        assert isinstance(optimizer, Optimizer)
        if self._kind != optimizer.kind:
            with net.trees.reading() as (params, _):
                self._slots, self._kind, self.run.optimizer_step = optimizer.slots(params), optimizer.kind, 0
        elif self._slots_given:
            self._slots = tree.map(net.backend.copy, self._slots)
        self._slots_given = False
        parts = (net, net.layer, recipe.loss, optimizer, recipe.augment, recipe.regularizer, recipe.on_nonfinite)
        if self._compiled_for != parts:
            self._rules = optimizer.phases()
            once = {id(rule): rule for rule in self._rules}
            self._turns = [list(once).index(id(rule)) for rule in self._rules]
            # New functions each time: a compiler keeps what it made for an old one.
            choices, self.loop = self.choices, net.backend.loop(*(_step(recipe, rule) for rule in once.values()))
            self.loop.adopt(choices)
            self._adopted = None
            self._compiled_for = parts

    def advance(self, pieces: Sequence[Piece], usual_weight: float = 1.0) -> None:
        """Do a step on each of some batches; the losses are then `pending`.

        Parameters
        ----------
        pieces : sequence of Piece
            Of the same examples, and of one size.
        usual_weight : float, default 1.0
            What an example weighs that counts, on average.
        """
        net, run, examples = self.network, self.run, pieces[0].examples
        weights = {} if examples.weight is None else {"usual_weight": usual_weight}
        with net.trees.exclusive():
            if net.trees.in_other_hands():
                net.settle()
            turns, hyper = [], []
            for i in range(len(pieces)):
                phase = (run.optimizer_step + i) % len(self._rules)
                numbers = self._numbers(self._rules[phase], run.optimizer_step + i + 1)
                turns.append(self._turns[phase])
                hyper.append({"step": run.step + i + 1, "optimizer": numbers} | weights)
            with memory_named(net.backend, pieces[0].size):
                carry = (*net.trees.own(net.backend.copy), self._slots)
                carry, losses = self.loop.run(carry, examples, [piece.index for piece in pieces], turns, hyper)
            params, state, self._slots = carry
            net.trees.stepped(params, state)
            run.step += len(pieces)
            run.optimizer_step += len(pieces)
            self.pending.append((losses, pieces))

    def still(self) -> AbstractContextManager[object]:
        """For the thread that trains: within the block, nobody sees half of what is changed, and no step is done."""
        return self.network.trees.exclusive()

    def _numbers(self, rule: Optimizer, step: int) -> dict[str, float]:
        hyper = rule.hyper(step)
        return hyper | {"lr": hyper["lr"] * self.run.lr_factor} if "lr" in hyper else hyper

    def learning_rate(self, optimizer: Optimizer) -> float | None:
        """Of the latest step, or else of the first; None where the optimizer has none."""
        return self._numbers(optimizer, max(self.run.optimizer_step, 1)).get("lr")

    @property
    def slots(self) -> tuple[Tree, ...]:
        """What the optimizer remembers: to look at between two steps."""
        return self._slots

    def pending_losses(self) -> list[float]:
        """The pending losses, for which the device is waited for."""
        return self.loop.floats([losses for losses, _ in self.pending])

    def take_losses(self) -> list[float]:
        """The pending losses, which are then no longer pending."""
        with self.still():
            try:
                return self.pending_losses()
            finally:
                self.pending.clear()

    def take(self, params: Tree, state: Tree) -> None:
        """What somebody else has computed, as one step."""
        with self.network.trees.exclusive():
            self.network.trees.take(params, state)
            self.run.step += 1

    def changed(self) -> dict[str, Tree]:
        """All that steps change, by its name in sentences: to look at between two steps."""
        with self.network.trees.reading() as (params, state):
            return {"parameter": params, "state": state, "the optimizer's slot": self._slots}

    def remembered(self) -> tuple[object, tuple[Tree, ...]]:
        """The kind of optimizer that the slots are of (None before the first step), and copies of them."""
        return self._kind, tree.map(self.network.backend.copy, self._slots)

    @property
    def choices(self) -> dict[str, Any]:
        """What a clock has chosen for the run; see `Loop.choices`."""
        return self.loop.choices if self._adopted is None else self._adopted

    def remember(self, kind: object, slots: tuple[Tree, ...], choices: dict[str, Any] | None = None) -> None:
        """Go on with the slots of a kind of optimizer, and with what a clock has chosen for them."""
        self._adopted = choices or {}
        self._kind, self._slots, self._slots_given = kind, slots, True
        self._compiled_for = None  # the steps draw from a stream, which may be another one now

    def copied(self, network: Network, run: Run) -> Stepper:
        """For pickles and copies: one of the same moment, without what was compiled, which cannot be pickled."""
        other = Stepper(network, run)
        other._kind, other._slots = self.remembered()
        other._adopted = self.choices
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._slots_given = True  # they may lie in a read-only file


def _step(recipe: Recipe, rule: Optimizer) -> Callable[..., Any]:
    step = training_step(recipe.network, recipe.loss, rule, recipe.augment, recipe.regularizer, recipe.rng)
    return skipping_step(step, recipe.network.backend) if recipe.on_nonfinite == "skip" else step
