"""Comparison of a twin with its portable form: the cases of every function, and what has to be the same.

Forms agree to rounding, for arrays of every layout; and nothing is written into that was not given up.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from families import ARRAY_FUNCTIONS, FUNCTIONS, OPTIMIZERS, FunctionCase
from helpers import assert_close, put

from portnn import kernels, optim, tree
from portnn.functional.normalization import batch_norm_with_moments
from portnn.functional.reductions import How

HOW = get_args(How)

#: A case for each differentiable function (the first of its name), and the optimizer of each update rule.
CASES: dict[str, list[FunctionCase]] = {}
for case in FUNCTIONS.values():
    CASES.setdefault(case.function.__name__, []).append(case)


class FirstOfSeveral(FunctionCase):
    """Of a function with several results, the one that has a gradient."""

    call = property(lambda self: self._first(super().call))
    call_portable = property(lambda self: self._first(super().call_portable))

    @staticmethod
    def _first(form):
        def only(*args):
            (y, *_), backward = form(*args)
            return y, backward

        return only


# What else it gives is compared in `test_normalization_and_noise`.
CASES["batch_norm_with_moments"] = [
    FirstOfSeveral(batch_norm_with_moments, FUNCTIONS["batch_norm"].make, by_example=False)
]
RULES = {opt.rule.__name__: opt for opt in OPTIMIZERS.values() if isinstance(opt, optim.UpdateRule)}


def layouts(backend, args):
    """The arguments as they are, and the first one with gaps between its rows."""
    yield args
    first = args[0]
    wide = backend.xp.concat([first, first], axis=first.ndim - 1)
    yield wide[..., : first.shape[-1]], *args[1:]


def compare_differentiable(backend, name, dtype, n):
    for case in CASES[name]:
        n = min(n if case.by_example else max(n, 1), case.many)  # nothing has no mean
        arguments, fixed = (put(backend, part, dtype) for part in case.arguments(n))
        for args in layouts(backend, arguments):
            y, backward = case.call(*args, *fixed)
            y_portable, backward_portable = case.call_portable(*args, *fixed)
            dy = put(backend, np.random.default_rng(1).normal(size=tuple(y.shape)), dtype)
            for gradient in (dy, put(backend, np.zeros(tuple(y.shape)), dtype)):
                assert_same(backend, dtype, (y, backward(gradient)), (y_portable, backward_portable(gradient)))


def compare_rule(backend, name, dtype, n):
    opt = RULES[name]
    hyper = vars(opt) | opt.hyper(3)
    rng = np.random.default_rng(0)
    for shape in ((n, 3), (n,)):
        p, g, *slots = put(backend, tuple(abs(rng.normal(size=shape)) for _ in range(2 + opt.slot_count)), dtype)
        g_before = backend.copy(g)
        expected = kernels.registry[name].portable(p, g, *slots, **hyper)
        expected = tree.map(backend.copy, expected)
        given_up = tree.map(backend.copy, (p, *slots))
        actual = kernels.registry[name](given_up[0], g, *given_up[1:], **hyper)
        assert_same(backend, dtype, actual, expected)
        assert_same(backend, dtype, g, g_before)


def compare_array_function(backend, name, dtype, n):
    function, args = kernels.registry[name], put(backend, ARRAY_FUNCTIONS[name](np.random.default_rng(0), n), dtype)
    ways = {"take_rows": [backend.dtype(dtype)], "sum_over": [0], "along_last": HOW, "of_all": HOW}.get(name)
    for more in [()] if ways is None else [(way,) for way in ways]:
        actual, expected = (f(*args, *more) for f in (function, function.portable))
        assert_same(backend, dtype, actual, expected)


def assert_same(backend, dtype, actual, expected):
    to_host = lambda t: tree.map(backend.to_numpy, t)  # noqa: E731
    assert_close(to_host(actual), to_host(expected), dtype)


#: By the kind of a portable function: ``compare(backend, name, dtype, n)``.
COMPARE = {
    "differentiable": compare_differentiable,
    "array_function": compare_array_function,
    "update_rule": compare_rule,
}
