"""Every rule, in both directions and to the second order: against torch, central differences, and on every backend."""

import inspect

import numpy as np
import pytest
from array_api_compat import array_namespace
from lanes import USABLE, USABLE64, WITHOUT_FLOAT64, open_lane
from rule_cases import ASSIGNMENTS, CASES

from portnn.autodiff import grad, jvp, vjp
from portnn.autodiff.rules import CREATION, NO_DERIVATIVE, RULES

EVERY = {**CASES, **ASSIGNMENTS}

#: Rules that stand for no name of the standard.
INTERNAL = {"cast", "getitem", "place", "product", "scatter_add", "setitem", "sum_over"}


def test_every_function_of_the_standard_is_known():
    strict = pytest.importorskip("array_api_strict")
    aliases = {f"linalg.{name}" for name in ("matmul", "matrix_transpose", "tensordot", "vecdot")}
    standard = set()
    for prefix, module in (("", strict), ("linalg.", strict.linalg), ("fft.", strict.fft)):
        for name, value in vars(module).items():
            if (
                inspect.isfunction(value)
                and not name.startswith("_")
                and value.__module__.startswith("array_api_strict")
            ):
                standard.add(prefix + name)
    helpers = {"array_api_strict_flags", "requires", "device_supports", "normalize"}
    standard = {name for name in standard - aliases if not any(word in name for word in helpers)}
    # What the next edition adds.
    standard -= {"broadcast_shapes", "linalg.eig", "linalg.eigvals"}
    # The extensions import what they need.
    standard -= {f"{room}.{name}" for room in ("linalg", "fft") for name in ("astype", "conj", "reshape", "finfo")}
    standard |= {"asarray"}
    known = set(RULES) - INTERNAL | NO_DERIVATIVE | CREATION
    assert standard - known == set()
    assert known - standard == set()
    assert not set(RULES) & NO_DERIVATIVE
    assert (len(set(RULES) - INTERNAL), len(NO_DERIVATIVE), len(CREATION)) == (107, 50, 10)


def test_every_rule_has_a_case():
    tried = {name for case in EVERY.values() for name in case.names}
    assert set(RULES) - tried <= {"asarray", "sum_over"}  # tried in test_transforms and test_pairs
    assert tried <= set(RULES)


def of_case(case):
    """The function of arrays, in whatever namespace they have."""
    return lambda *args: case.function(array_namespace(args[0]), *args)


def cubes(function):
    """A number of which every second derivative is something, from an array."""

    def number(*args):
        y = function(*args)
        xp = array_namespace(y)
        return xp.sum(0.3 * y * y * y + y)

    return number


def waves(shape, shift):
    return np.sin(shift + 1.7 * np.arange(np.prod(shape, dtype=int))).reshape(shape)


def all_ways(case, args, put, get):
    """Value, gradients, derivative along a direction, and second derivatives along it, as NumPy arrays."""
    function, given = of_case(case), [put(a) for a in args]
    y, backward = vjp(function, *given)
    gradients = backward(put(waves(y.shape, 0.0)))
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    directions = tuple([put(waves(a.shape, 1.0)) for a in args])
    y_again, along = jvp(function, given, directions)
    slope = grad(cubes(function), argnums=tuple(range(len(args))))
    second = jvp(slope, given, directions)[1]
    np.testing.assert_array_equal(get(y), get(y_again))
    return [get(v) for v in (y, along, *gradients, *second)]


def assert_near(actual, expected, tolerance, label):
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        largest = max(1.0, float(np.abs(e).max(initial=0.0)))
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * largest, err_msg=label)


@pytest.mark.parametrize("label", EVERY)
def test_against_central_differences(label):
    case = EVERY[label]
    args = case.arguments(label)
    function = of_case(case)
    y, along, *rest = all_ways(case, args, np.asarray, np.asarray)
    gradients, second = rest[: len(args)], rest[len(args) :]
    np.testing.assert_array_equal(y, function(*args))  # bit for bit
    directions = [waves(a.shape, 1.0) for a in args]
    exact = 1e-10 if label != "astype" else 1e-6  # float32 inside
    # Forth and back are adjoint to each other.
    forth = np.sum(along * waves(y.shape, 0.0))
    back = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    assert abs(forth - back) <= exact * max(1.0, np.abs(along).sum())
    h = 1e-6
    if label != "astype":
        moved = [[a + s * h * d for a, d in zip(args, directions, strict=True)] for s in (1.0, -1.0)]
        ahead, behind = (function(*m) for m in moved)
        assert_near([(ahead - behind) / (2 * h)], [along], 2e-6 * np.sqrt(case.scale), label)
        slope = grad(cubes(function), argnums=tuple(range(len(args))))
        differences = [(p - q) / (2 * h) for p, q in zip(slope(*moved[0]), slope(*moved[1]), strict=True)]
        assert_near(differences, second, 2e-6 * case.scale, label)
    # Second derivatives are symmetric: back over back is the same.
    twice = vjp(grad(cubes(function), argnums=tuple(range(len(args)))), *args)[1](tuple(directions))
    assert_near(twice if isinstance(twice, tuple) else (twice,), second, exact, label)


NOT_OF_TORCH = {
    "linalg.matrix_power 0": "torch's result is a constant",
    "copysign to a number": "torch's result is a constant",
    "remainder to a number": "torch has no such derivative",
}

#: Where int64 is wanted, by a case or by argsort of array-api-strict, which a device without 64 bits lacks.
INTEGERS = {"repeat", "scatter_add", "sort", "take", "take_along_axis"}


@pytest.mark.parametrize("label", EVERY)
def test_against_torch(label):
    torch = pytest.importorskip("torch")
    if label in NOT_OF_TORCH:
        pytest.skip(NOT_OF_TORCH[label])
    case = EVERY[label]
    args = case.arguments(label)
    function = of_case(case)

    def put(a):
        return torch.asarray(a).requires_grad_()

    given = [put(a) for a in args]
    y = function(*given)
    gradients = torch.autograd.grad(y, given, torch.asarray(waves(tuple(y.shape), 0.0)))
    slopes = torch.autograd.grad(cubes(function)(*given), given, create_graph=True)
    product = sum(torch.sum(g * torch.asarray(waves(a.shape, 1.0))) for g, a in zip(slopes, args, strict=True))
    second = torch.autograd.grad(product, given, materialize_grads=True)
    expected = [v.detach().numpy() for v in (y, *gradients, *second)]
    value, _, *rest = all_ways(case, args, np.asarray, np.asarray)
    assert_near([value, *rest], expected, 1e-10 * max(1.0, case.scale / 30.0), label)


def lanes_among(names):
    """The imitation of CuPy has no linear algebra; JAX compiles every operation of every case, torch takes seconds."""
    there = [name for name in names if name != "cupy-on-host"]
    return [pytest.param(n, marks=pytest.mark.slow) if n.startswith(("jax", "torch")) else n for n in there]


def cases_for(lane):
    """Shapes that depend on values are refused by the lanes of array-api-strict."""
    return {label: case for label, case in EVERY.items() if case.static or not lane.startswith("strict")}


@pytest.mark.parametrize("lane", lanes_among(USABLE64))
def test_on_every_backend(lane):
    with open_lane(lane) as backend:
        for label, case in cases_for(lane).items():
            args = case.arguments(label)
            expected = all_ways(case, args, np.asarray, np.asarray)
            actual = all_ways(case, args, lambda a: backend.asarray(a, "float64"), backend.to_numpy)
            assert_near(actual, expected, 1e-10 * max(1.0, case.scale / 30.0), label)


@pytest.mark.parametrize("lane", lanes_among(USABLE))
def test_in_float32(lane):
    with open_lane(lane) as backend:
        for label, case in cases_for(lane).items():
            if lane in WITHOUT_FLOAT64 and INTEGERS & {*case.names}:
                continue
            args = [a.astype(np.float32) for a in case.arguments(label)]
            expected = all_ways(case, [a.astype(float) for a in args], np.asarray, np.asarray)
            actual = all_ways(case, args, lambda a: backend.asarray(a, "float32"), backend.to_numpy)
            assert all(a.dtype == np.float32 for a in actual), label
            assert_near(actual, expected, 2e-5 * case.scale, label)
