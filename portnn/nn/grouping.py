"""Groups, looked up once in a network: where a backend computes several layers in a row, or the last ones and the loss.

The layers in a row are those of a `Sequential`, and of those inside it. What is made of them has the same parameters,
states, streams of random numbers, and results to rounding: a group is the composition of its members (`portnn.groups`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from portnn import tree
from portnn._typing import Array, Backward, Shape, Tree
from portnn.groups import Group
from portnn.kernels import twins_on
from portnn.nn.frozen import Frozen
from portnn.nn.layer import Layer
from portnn.nn.residual import Residual
from portnn.nn.sequential import Sequential
from portnn.random import Stream
from portnn.shapes import checked_pullback

__all__ = ["grouped", "joined"]

#: ``value, backward = loss(prediction, target, weight)``, as `portnn.losses.Loss`.
_Loss: TypeAlias = Callable[[Array, Array, Array | None], tuple[Array, Backward]]

#: Containers that are no row, but may hold one.
_AROUND = (Frozen, Residual)


def grouped(layer: Layer, groups: Sequence[Group]) -> Layer:
    """A layer that does the same, in groups where some fit; else the layer itself."""
    layer = _with_groups_inside(layer, groups)
    parts = _parts(layer, (), groups)
    return layer if all(part.group is None for part in parts) else _Grouped(layer, parts)


def joined(layer: Layer, loss: _Loss, groups: Sequence[Group]) -> Callable[..., tuple[Array, Tree, Callable[[], Tree]]]:
    """What a training step needs of a network and its loss, in groups where some fit.

    Returns
    -------
    callable
        ``forward(params, state, x, target, weight, *, rng) -> value, new_state, backward`` in training, where value is
        that of the loss, and ``backward() -> grads`` gives the gradients of the parameters.
    """
    plain = layer
    layer = _with_groups_inside(layer, groups)
    *parts, last = _parts(layer, (loss,), groups)
    first = grouped(layer, groups)
    ends = last.group is not None

    def forward(
        params: Tree, state: Tree, x: Array, target: Array, weight: Array | None, *, rng: Stream | None
    ) -> tuple[Array, Tree, Callable[[], Tree]]:
        if ends and twins_on():
            return _joined(layer, parts, last, loss, params, state, x, target, weight, rng)
        y, new_state, pullback = (first if twins_on() else plain).forward(params, state, x, train=True, rng=rng)
        value, loss_pullback = loss(y, target, weight)
        return value, new_state, lambda: pullback(loss_pullback(), input_grad=False)[1]

    return forward


@dataclass(frozen=True)
class _Part:
    """A layer of a row, or several that are a group; and where they are: their numbers in the `Sequential`s."""

    layers: tuple[Layer, ...]
    paths: tuple[tuple[int, ...], ...]
    group: Group | None

    def alone(self) -> list[_Part]:
        """The same layers, each by itself."""
        return [_Part((layer,), (path,), None) for layer, path in zip(self.layers, self.paths, strict=True)]

    def streams(self, rng: Stream | None) -> list[Stream | None]:
        return [None if rng is None else _below(rng, path) for path in self.paths]

    def forward(
        self, params: Sequence[Tree], states: Sequence[Tree], x: Array, train: bool, rng: Stream | None
    ) -> tuple[Array, Sequence[Tree], Backward]:
        """As of a group of layers."""
        rngs = self.streams(rng)
        if self.group is None:
            y, new, pullback = self.layers[0].forward(params[0], states[0], x, train=train, rng=rngs[0])

            def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Sequence[Tree]]:
                dx, grads = pullback(dy, input_grad=input_grad)
                return dx, [grads]

            return y, [new], backward
        made = self.group.function(self.layers, params, states, x, train=train, rngs=rngs)
        if made is NotImplemented:
            return _in_a_row(self.alone(), params, states, x, train, rng)
        y, new_states, pullback = made
        name = " and ".join(type(layer).__name__ for layer in self.layers)
        return y, new_states, checked_pullback(y, pullback, name, cast=True)


class _Grouped(Layer):
    """A layer, some of whose parts are computed as groups."""

    def __init__(self, layer: Layer, parts: Sequence[_Part]) -> None:
        self.layer, self._parts = layer, parts

    def children(self) -> tuple[Layer, ...]:
        return self.layer.children()

    def init(self, rng: Stream, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return self.layer.init(rng, input_shape)

    def apply(self, params: Tree, state: Tree, x: Array) -> Array:
        return self.layer.apply(params, state, x)

    def forward(
        self, params: Tree, state: Tree, x: Array, *, train: bool = False, rng: Stream | None = None
    ) -> tuple[Array, Tree, Backward]:
        if not twins_on():
            return self.layer.forward(params, state, x, train=train, rng=rng)
        every_p, every_s = _flat(self.layer, params), _flat(self.layer, state)
        y, new_states, pullback = _in_a_row(self._parts, every_p, every_s, x, train, rng)

        def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, Tree]:
            dx, grads = pullback(dy, input_grad)
            return dx, _nested(self.layer, iter(grads))

        return y, _nested(self.layer, iter(new_states)), backward


def _joined(
    layer: Layer,
    parts: Sequence[_Part],
    last: _Part,
    loss: _Loss,
    params: Tree,
    state: Tree,
    x: Array,
    target: Array,
    weight: Array | None,
    rng: Stream | None,
) -> tuple[Array, Tree, Callable[[], Tree]]:
    """Of a network whose last layers are a group with the loss."""
    every_p, every_s = _flat(layer, params), _flat(layer, state)
    before = len(every_p) - len(last.layers)
    y, new_states, pullback = _in_a_row(parts, every_p[:before], every_s[:before], x, True, rng)
    p, s = every_p[before:], every_s[before:]
    input_grad = bool(tree.leaves(tuple(every_p[:before])))
    assert last.group is not None
    options: dict[str, Any] = {"train": True, "rngs": last.streams(rng), "input_grad": input_grad}
    made = last.group.function(last.layers, loss, p, s, y, target, weight, **options)
    if made is NotImplemented:
        prediction, new, members_pullback = _in_a_row(last.alone(), p, s, y, True, rng)
        value, loss_pullback = loss(prediction, target, weight)
        made = value, new, lambda: members_pullback(loss_pullback(), input_grad)
    value, new, group_pullback = made

    def backward() -> Tree:
        dy, own = group_pullback()
        grads = pullback(dy, False)[1] if input_grad else every_p[:before]
        return _nested(layer, iter([*grads, *own]))

    return value, _nested(layer, iter([*new_states, *new])), backward


def _in_a_row(
    parts: Sequence[_Part], params: Sequence[Tree], states: Sequence[Tree], x: Array, train: bool, rng: Stream | None
) -> tuple[Array, list[Tree], Backward]:
    """The parts one after the other, as `Sequential` has its layers; trees have an entry for each layer."""
    new_states: list[Tree] = []
    y, pullbacks, places, end = x, [], [], 0
    for part in parts:
        here = slice(end, end + len(part.layers))
        y, new, pullback = part.forward(params[here], states[here], y, train, rng)
        new_states += new
        pullbacks.append(pullback)
        places.append(here)
        end = here.stop
    # Nothing is to be trained before this part, so the way back may end here.
    first = next((i for i, here in enumerate(places) if tree.leaves(tuple(params[here]))), len(places))

    def backward(dy: Array, input_grad: bool = True) -> tuple[Array | None, list[Tree]]:
        grads = list(params)  # what is skipped below has no leaves: it is its own gradient
        stop = 0 if input_grad else first
        for i in range(len(pullbacks) - 1, stop - 1, -1):
            dy, grads[places[i]] = pullbacks[i](dy, input_grad=input_grad or i > stop)
        return (dy if input_grad else None), grads

    return y, new_states, backward


def _parts(layer: Layer, behind: tuple[Any, ...], groups: Sequence[Group]) -> list[_Part]:
    """The layers of a row, in groups where some fit; with a loss behind them, a last part that ends in it.

    That has no layers, and is no group, where no group ends in the loss.
    """
    row = list(_row(layer, ()))
    members = [member for _, member in row] + list(behind)
    chosen, parts, i = _chosen(members, groups), [], 0
    while i < len(members):
        group = chosen.get(i)
        end = i + (1 if group is None else len(group.members))
        some = row[i : min(end, len(row))]
        parts.append(_Part(tuple(member for _, member in some), tuple(path for path, _ in some), group))
        i = end
    return parts


def _chosen(members: Sequence[Any], groups: Sequence[Group]) -> dict[int, Group]:
    """The groups that are computed, by the place of their first member: the longest ones, and of those the first."""
    possible = [
        (-len(group.members), start, number)
        for number, group in enumerate(groups)
        for start in range(len(members))
        if group.takes(members[start : start + len(group.members)])
    ]
    chosen: dict[int, Group] = {}
    taken: set[int] = set()
    for length, start, number in sorted(possible):
        places = range(start, start - length)
        if taken.isdisjoint(places):
            taken.update(places)
            chosen[start] = groups[number]
    return chosen


def _with_groups_inside(layer: Layer, groups: Sequence[Group]) -> Layer:
    """A layer with groups in those that the containers in its row hold; itself where none fit."""
    if type(layer) is Sequential:
        inside = [_with_groups_inside(child, groups) for child in layer.layers]
        return layer if all(a is b for a, b in zip(inside, layer.layers, strict=True)) else Sequential(inside)
    if type(layer) not in _AROUND:
        return layer
    held = {name: grouped(part, groups) for name, part in vars(layer).items() if isinstance(part, Layer)}
    if all(part is vars(layer)[name] for name, part in held.items()):
        return layer
    made = copy.copy(layer)
    for name, part in held.items():
        object.__setattr__(made, name, part)
    return made


def _row(layer: Layer, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Layer]]:
    """The layers that follow each other, those of a `Sequential` inside another one in its place; and their paths."""
    if type(layer) is not Sequential:
        yield path, layer
        return
    for i, child in enumerate(layer.layers):
        yield from _row(child, (*path, i))


def _flat(layer: Layer, values: Tree) -> list[Tree]:
    """Of a tree of parameters or states, the part of each layer of the row."""
    if type(layer) is not Sequential:
        return [values]
    return [part for child, own in zip(layer.layers, values, strict=True) for part in _flat(child, own)]


def _nested(layer: Layer, parts: Iterator[Tree]) -> Tree:
    """The inverse of `_flat`."""
    if type(layer) is not Sequential:
        return next(parts)
    return tuple(_nested(child, parts) for child in layer.layers)


def _below(rng: Stream, path: Iterable[int]) -> Stream:
    for i in path:
        rng = rng.child(i)
    return rng
