"""Comparison of a group with the composition of its members: what is put in a row, and what has to be the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from families import LAYERS, LOSSES
from helpers import assert_close, assert_equal, get, put

from portnn import losses, nn, tree
from portnn.backend import Backend
from portnn.groups import Group
from portnn.kernels import portable
from portnn.random import Stream

#: Members of a class, where those of the tables of the families do not fit into a row. Losses are of four outputs.
MEMBERS: dict[type, tuple[Any, ...]] = {
    nn.Affine: (nn.Affine(4),),
    losses.SoftmaxCrossEntropy: (
        losses.SoftmaxCrossEntropy(),
        losses.SoftmaxCrossEntropy(label_smoothing=0.2),
        losses.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.0, 3.0)),
    ),
}

#: Examples of a batch.
SIZES = (7, 1, 0, 50)

#: What stands in the place of some numbers.
ODD = (None, np.nan, np.inf, -np.inf)


def members_of(kinds: type | tuple[type, ...]) -> list[Any]:
    every = kinds if isinstance(kinds, tuple) else (kinds,)
    return [
        member
        for kind in every
        for member in MEMBERS.get(
            kind,
            tuple(
                dict.fromkeys(
                    [c.layer for c in LAYERS.values() if type(c.layer) is kind]
                    + [c.loss for c in LOSSES.values() if type(c.loss) is kind]
                )
            ),
        )
    ]


def rows_of(group: Group) -> Iterator[tuple[Any, ...]]:
    """Rows of members that the group takes, in which each of them is at least once."""
    every = [members_of(kinds) for kinds in group.members]
    for i in range(max(map(len, every))):
        members = tuple(some[i % len(some)] for some in every)
        if group.takes(members):
            yield members


def input_shape(layer: nn.Layer) -> tuple[int, ...]:
    return next(case.input_shape for case in LAYERS.values() if type(case.layer) is type(layer))


def targets_of(loss: losses.Loss, n: int, shape: tuple[int, ...]) -> Iterator[Any]:
    rng, classes = np.random.default_rng(4), shape[-1]
    if loss.targets == "classes":
        numbers = rng.integers(0, classes, size=n)
        yield numbers
        yield np.where(np.arange(n) == 1, classes, numbers).astype(np.int32)  # one is no class
        yield rng.dirichlet(np.ones(classes), size=n)
    elif loss.targets == "probabilities":
        yield rng.uniform(size=(n, *shape))
        yield rng.integers(0, 2, size=(n, *shape)).astype(float)
    else:
        yield rng.poisson(3.0, size=(n, *shape)).astype(float)


def weights_of(n: int) -> Iterator[Any]:
    yield None
    yield np.random.default_rng(5).choice([0.0, 0.5, 1.0, 2.0], size=n)
    yield np.zeros(n)


class Comparison:
    """A group on a backend, and what its members make of the same.

    Attributes
    ----------
    taken : int
        How many times the group has computed.
    """

    def __init__(self, backend: Backend, group: Group, dtype: str) -> None:
        self.backend, self.group, self.dtype, self.taken = backend, group, dtype, 0

    def everything(self) -> None:
        for members in rows_of(self.group):
            for n in SIZES:
                self.members(members, n, None)
            for odd in ODD[1:]:
                self.members(members, SIZES[0], odd)

    def members(self, members: tuple[Any, ...], n: int, odd: float | None) -> None:
        ends = isinstance(members[-1], losses.Loss)
        layers = members[:-1] if ends else members
        shape = input_shape(layers[0])
        params, states, rng = [], [], np.random.default_rng(n)
        x = rng.normal(size=(n, *shape))
        for i, layer in enumerate(layers):
            p, s, shape = layer.init(Stream(0).child(i), shape)
            # Biases are zero when they are made.
            params.append(tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), p))
            states.append(s)
        if odd is not None:
            x.reshape(-1)[::11] = odd
        x, params, states = put(self.backend, (x, tuple(params), tuple(states)), self.dtype)
        if not ends:
            dy = rng.normal(size=(n, *shape))
            self.layers(layers, params, states, x, put(self.backend, dy, self.dtype))
            if odd is not None:
                dy.reshape(-1)[::5] = odd
                self.layers(layers, params, states, x, put(self.backend, dy, self.dtype))
            return
        for target, weight in itertools.product(targets_of(members[-1], n, shape), weights_of(n)):
            given = put(self.backend, (target, weight) if weight is not None else (target,), self.dtype)
            target, weight = (*given, None)[:2]
            self.loss(layers, members[-1], params, states, x, target, weight)

    def layers(self, layers: Any, params: Any, states: Any, x: Any, dy: Any) -> None:
        rngs = [Stream(1).child(i) for i in range(len(layers))]
        given = x, params, states, dy
        before = get(self.backend, tree.map(self.backend.copy, given))
        with self.backend.context():
            made = self.group.function(layers, params, states, x, train=True, rngs=rngs)
            if made is NotImplemented:
                return
            self.taken += 1
            y, new, backward = made
            first = get(self.backend, (y, tuple(new), *_tupled(backward(dy))))
            again = get(self.backend, _tupled(backward(dy)))
            dx, grads = _tupled(backward(dy, input_grad=False))
            short = get(self.backend, grads)
            with portable():
                y, new, backward = composition(layers, params, states, x, train=True, rngs=rngs)
                expected = get(self.backend, (y, tuple(new), *_tupled(backward(dy))))
        assert_close(first, expected, self.dtype)
        assert_equal(again, first[2:])
        assert_equal(short, first[3])
        assert_equal(get(self.backend, given), before)

    def loss(self, layers: Any, loss: Any, params: Any, states: Any, x: Any, target: Any, weight: Any) -> None:
        rngs = [Stream(1).child(i) for i in range(len(layers))]
        given = (x, params, states, target) if weight is None else (x, params, states, target, weight)
        before = get(self.backend, tree.map(self.backend.copy, given))
        with self.backend.context():
            results = []
            for input_grad in (True, False):
                options = {"train": True, "rngs": rngs, "input_grad": input_grad}
                made = self.group.function(layers, loss, params, states, x, target, weight, **options)
                if made is NotImplemented:
                    return
                value, new, backward = made
                first = _tupled(backward())
                assert input_grad or first[0] is None or tuple(first[0].shape) == tuple(x.shape)
                dx = first[:1] if input_grad else ()
                results.append(get(self.backend, (value, tuple(new), *dx, first[1])))
                assert_equal(get(self.backend, _tupled(backward())[1]), results[-1][-1])
            self.taken += 1
            with portable():
                options = {"train": True, "rngs": rngs, "input_grad": True}
                value, new, backward = composition_with_loss(layers, loss, params, states, x, target, weight, **options)
                expected = get(self.backend, (value, tuple(new), *_tupled(backward())))
        assert_close(results[0], expected, self.dtype)
        assert_close(results[1], (*expected[:2], expected[3]), self.dtype)
        assert_equal(get(self.backend, given), before)


def composition(layers: Any, params: Any, states: Any, x: Any, *, train: bool, rngs: Any) -> Any:
    """The function of a group of any layers: their composition."""
    new, pullbacks = [], []
    for layer, p, s, rng in zip(layers, params, states, rngs, strict=True):
        x, s, pullback = layer.forward(p, s, x, train=train, rng=rng)
        new.append(s)
        pullbacks.append(pullback)

    def backward(dy: Any, input_grad: bool = True) -> Any:
        grads = []
        for i, pullback in reversed([*enumerate(pullbacks)]):
            dy, g = pullback(dy, input_grad=input_grad or i > 0)
            grads.insert(0, g)
        return dy, grads

    return x, new, backward


def composition_with_loss(
    layers: Any,
    loss: Any,
    params: Any,
    states: Any,
    x: Any,
    target: Any,
    weight: Any,
    *,
    input_grad: bool,
    **options: Any,
) -> Any:
    y, new, pullback = composition(layers, params, states, x, **options)
    value, loss_pullback = loss(y, target, weight)
    return value, new, lambda: pullback(loss_pullback(), input_grad)


def in_groups_of(*kinds: Any, function: Any, **options: Any) -> Group:
    """A group whose function notes in its ``calls`` which members it was given."""
    calls: list[Any] = []

    def noting(layers: Any, *args: Any, **given: Any) -> Any:
        calls.append(layers)
        return function(layers, *args, **given)

    noting.calls = calls  # type: ignore[attr-defined]
    return replace(Group(kinds, noting), **options)


def _tupled(made: Any) -> Any:
    dx, grads = made
    return dx, tuple(grads)
