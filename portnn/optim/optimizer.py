"""What an optimizer is, and how a rule for one array becomes one for a tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from array_api_compat import array_namespace

from portnn import tree
from portnn._typing import Array, Tree
from portnn.checks import hold_number
from portnn.errors import ShapeError
from portnn.kernels import update_leaves
from portnn.optim.schedules import Schedule

__all__ = ["Optimizer", "UpdateRule", "check_shapes", "zeros_like"]


def check_shapes(p: Array, g: Array) -> None:
    """Raise ShapeError unless a gradient has the shape of its parameter: broadcasting would hide a mistake."""
    if p.shape != g.shape:
        raise ShapeError(f"a gradient of shape {tuple(g.shape)} for a parameter of shape {tuple(p.shape)}")


def zeros_like(params: Tree) -> Tree:
    """A tree of the same structure, shapes, dtypes and devices, filled with 0."""
    return tree.map(lambda p: array_namespace(p).zeros_like(p), params)


class Optimizer(ABC):
    """A rule that turns parameters and gradients into better parameters: a frozen dataclass without arrays.

    What it remembers is in two places. The slots (running averages and the like) are trees shaped like the parameters.
    The number of the step stays on the host, and with it everything that depends on it alone: `hyper` turns it
    into Python floats, which `update` takes. So `update` is a pure function of arrays and floats that a backend
    can compile once for all steps. What does not change from step to step is a field of the dataclass.
    """

    @abstractmethod
    def slots(self, params: Tree) -> tuple[Tree, ...]:
        """What the rule remembers before the first step."""

    @abstractmethod
    def hyper(self, step: int) -> dict[str, float]:
        """What depends on the number of the step, counted from 1: Python floats."""

    @abstractmethod
    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        """New parameters and slots. The caller gives up the old ones: they may be overwritten."""

    @property
    def kind(self) -> object:
        """Optimizers of one kind remember the same things, and can take over each other's slots."""
        return type(self)

    def phases(self) -> tuple[Optimizer, ...]:
        """The rules that take turns, one a step, over the same slots; most optimizers are one rule: themselves.

        Their `hyper` has the same names: steps of several rules may be compiled as one program.
        """
        return (self,)

    @property
    def role(self) -> Literal["step", "collect", "close"]:
        """What becomes of the gradients of a batch: a step, or a part of one, which the last of several closes.

        Those that take part in a step get, as ``hyper["weight"]``, what the examples of the batch weigh together, and
        that again, or what as many weigh usually if it is 0. A penalty of the loss is in the gradients that close a
        step alone.
        """
        return "step"

    def init(self, params: Tree) -> Tree:
        """The optimizer's state before the first step: ``{"step": 0, "slots": ...}``."""
        return {"step": 0, "slots": self.slots(params)}

    def step(self, params: Tree, grads: Tree, opt_state: Tree) -> tuple[Tree, Tree]:
        """One step: new parameters and optimizer state. The old ones are given up, as in `update`.

        Raises
        ------
        ShapeError
            If gradients and parameters are trees of different structure.
        """
        number = opt_state["step"] + 1
        phases = self.phases()
        rule = phases[(number - 1) % len(phases)]
        params, slots = rule.update(params, grads, opt_state["slots"], rule.hyper(number))
        return params, {"step": number, "slots": slots}


@dataclass(frozen=True)
class UpdateRule(Optimizer):
    """An optimizer that treats every array alike and apart from the others.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, > 0.

    Attributes
    ----------
    rule : callable
        ``rule(p, g, *slots, **hyper) -> (p, *slots)`` for one array, as a static method; see
        `portnn.kernels.update_rule`. Its keywords are the fields of the dataclass and what ``hyper`` gives; where
        a name is in both, ``hyper`` wins.
    slot_count : int
        How many arrays of the shape of ``p`` the rule remembers; they start at 0.
    """

    lr: float | Schedule

    rule: ClassVar[Any]
    slot_count: ClassVar[int]

    def __post_init__(self) -> None:
        if not isinstance(self.lr, Schedule):
            hold_number(self, "lr", 0, open_low=True)

    def hyper(self, step: int) -> dict[str, float]:
        return {"lr": float(self.lr(step) if isinstance(self.lr, Schedule) else self.lr)}

    def slots(self, params: Tree) -> tuple[Tree, ...]:
        return tuple(zeros_like(params) for _ in range(self.slot_count))

    def update(
        self, params: Tree, grads: Tree, slots: tuple[Tree, ...], hyper: dict[str, Any]
    ) -> tuple[Tree, tuple[Tree, ...]]:
        # Fields stay Python floats also in a compiled step. As arguments they would become float32 there, and
        # 1 - beta2 of Adam wrong by 5e-5.
        leaves: list[tuple[Array, ...]] = []

        def collect(p: Array, g: Array, *s: Array) -> None:
            check_shapes(p, g)
            leaves.append((p, g, *s))

        tree.map(collect, params, grads, *slots)
        updated = update_leaves(self.rule, leaves, vars(self) | hyper)
        new_params, *new_slots = (tree.rebuild(params, [leaf[i] for leaf in updated]) for i in range(1 + len(slots)))
        return new_params, tuple(new_slots)
