"""What people call: numbers that are known, derivatives of derivatives, trees, and what is refused."""

import math
import operator
import threading

import numpy as np
import pytest
from array_api_compat import array_namespace, device
from lanes import USABLE64, open_lane
from numpy.testing import assert_allclose, assert_array_equal

from portnn import numerical
from portnn.autodiff import grad, hessian, hvp, jacobian, jvp, linearize, stop_gradient, value_and_grad, vjp
from portnn.autodiff.trace import AutodiffArray
from portnn.errors import ShapeError, TraceError


@pytest.fixture(params=USABLE64)
def lane(request):
    with open_lane(request.param) as backend:
        yield backend


def total(y):
    return array_namespace(y).sum(y)


def rosenbrock(x):
    return total(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


X = np.asarray([[0.5, -1.0], [1.0, 2.0], [-1.5, 0.25]])
T = np.asarray([[1.0], [0.0], [-1.0]])


def network(w, x, t):
    """2-3-1, of 13 numbers: the first matrix row by row, its biases, the second matrix, its bias."""
    xp = array_namespace(w)
    first, second = xp.reshape(w[:6], (2, 3)), xp.reshape(w[9:12], (3, 1))
    apart = xp.tanh(x @ first + w[6:9]) @ second + w[12:13] - t
    return xp.sum(apart * apart) / 6.0


def net_4_8_3(w, x, t):
    xp = array_namespace(w)
    hidden = xp.tanh(x @ xp.reshape(w[:32], (4, 8)) + w[32:40])
    logits = hidden @ xp.reshape(w[40:64], (8, 3)) + w[64:67]
    log_total = xp.log(xp.sum(xp.exp(logits), axis=1, keepdims=True))
    return xp.sum(t * (log_total - logits)) / x.shape[0]


def test_rosenbrock(lane):
    x = lane.asarray(np.asarray([-1.2, 1.0, 0.7]))
    assert_allclose(lane.to_numpy(grad(rosenbrock)(x)), [-215.6, 32.0, -60.0], rtol=1e-13)
    curved = [[1330.0, 480.0, 0.0], [480.0, 1122.0, -400.0], [0.0, -400.0, 200.0]]
    assert_allclose(lane.to_numpy(hessian(rosenbrock)(x)), curved, rtol=1e-13, atol=1e-11)
    v = lane.asarray(np.asarray([1.0, -1.0, 2.0]))
    assert_allclose(lane.to_numpy(hvp(rosenbrock, x, v)), np.asarray(curved) @ [1.0, -1.0, 2.0], rtol=1e-13)


def test_a_network_of_13_numbers(lane):
    """Computed with torch 2.13, and by PRML (5.93) to (5.95)."""
    w, x, t = (lane.asarray(a) for a in (np.sin(np.arange(1.0, 14.0)), X, T))
    value, gradient = value_and_grad(network)(w, x, t)
    gradient = lane.to_numpy(gradient)
    assert_allclose(float(lane.to_numpy(value)), 1.8632641170645323, rtol=1e-15)
    assert_allclose(gradient[[0, 12]], [0.285431499079, 0.094196855021], rtol=1e-10)
    h = lane.to_numpy(hessian(network)(w, x, t))
    first = [-0.539110511570, 0.342368830077, 0.219886301414, 0.334871592739]
    assert_allclose(h[0, :4], first, rtol=1e-10)
    assert_allclose([h[0, 9], h[12, 12]], [-0.631529870238, 1.0], rtol=1e-10)
    assert_allclose(np.trace(h), 2.5408082025607364, rtol=1e-14)
    eigenvalues = np.linalg.eigvalsh(h)
    assert_allclose(eigenvalues[[0, -2, -1]], [-2.113375222819, 2.146535912970, 3.624389075543], rtol=1e-10)
    assert_allclose(h, h.T, atol=1e-14)


def test_gauss_newton_of_it():
    w = np.sin(np.arange(1.0, 14.0))
    j = jacobian(_residuals)(w)
    approximate = j.T @ j / 3.0
    largest = np.linalg.eigvalsh(approximate)[-3:]
    assert_allclose(largest, [1.125395910556, 1.495326715542, 3.587835927686], rtol=1e-10)
    apart = hessian(network)(w, X, T) - approximate
    assert_allclose(np.linalg.norm(apart), 3.75027314744, rtol=1e-10)


def test_its_hessian_by_hand():
    """Bishop 2006, equations (5.93) to (5.95), with a unit of 1 for the biases; and by differences of the gradient."""
    w = np.sin(np.arange(1.0, 14.0))
    first, second = np.vstack([w[:6].reshape(2, 3), w[6:9]]), np.append(w[9:12], w[12])
    expected = np.zeros((13, 13))
    for x, t in zip(np.hstack([X, np.ones((3, 1))]), T[:, 0], strict=True):
        z = np.append(np.tanh(x @ first), 1.0)
        slope, curve = 1.0 - z[:3] ** 2, -2.0 * z[:3] * (1.0 - z[:3] ** 2)
        delta = z @ second - t
        within = np.diag(curve * second[:3] * delta) + np.outer(slope * second[:3], slope * second[:3])
        across = np.hstack([np.diag(slope * delta), np.zeros((3, 1))]) + np.outer(slope * second[:3], z)
        expected[:9, :9] += np.einsum("i,k,jl->ijkl", x, x, within).reshape(9, 9)
        expected[:9, 9:] += np.einsum("i,jl->ijl", x, across).reshape(9, 4)
        expected[9:, :9] = expected[:9, 9:].T
        expected[9:, 9:] += np.outer(z, z)
    h = hessian(network)(w, X, T)
    assert_allclose(h, expected / 3.0, rtol=1e-13, atol=1e-14)
    assert_allclose(h, numerical.jacobian(lambda w: grad(network)(w, X, T), w, 6e-6), atol=1e-9)


def test_its_eigenvalues_by_lanczos():
    """With products alone."""
    linalg = pytest.importorskip("scipy.sparse.linalg")
    w = np.sin(np.arange(1.0, 14.0))

    def product(d):
        return hvp(lambda w: network(w, X, T), w, d.reshape(-1))

    operator = linalg.LinearOperator((13, 13), matvec=product, dtype=np.float64)
    largest = linalg.eigsh(operator, k=2, which="LA", v0=np.ones(13), return_eigenvectors=False)
    assert_allclose(np.sort(largest), [2.146535912970, 3.624389075543], rtol=1e-10)


def test_inverse_of_the_outer_product_approximation():
    """One example after the other: Bishop 2006, equation (5.89)."""
    w = np.sin(np.arange(1.0, 14.0))
    rows = jacobian(_residuals)(w)
    inverse = np.eye(13) / 0.1
    for b in rows:
        along = inverse @ b
        inverse = inverse - np.outer(along, along) / (1.0 + b @ along)
    assert_allclose(inverse, np.linalg.inv(rows.T @ rows + 0.1 * np.eye(13)), rtol=1e-12, atol=1e-13)


def _residuals(w):
    xp = array_namespace(w)
    hidden = xp.tanh(xp.asarray(X) @ xp.reshape(w[:6], (2, 3)) + w[6:9])
    return xp.reshape(hidden @ xp.reshape(w[9:12], (3, 1)) + w[12:13], (3,)) - xp.asarray(T[:, 0])


@pytest.mark.parametrize("function", [network, net_4_8_3])
def test_hessians_of_networks_against_torch(function):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    if function is network:
        w, x, t = rng.normal(size=13), X, T
    else:
        w, x, t = 0.5 * rng.normal(size=67), rng.normal(size=(6, 4)), np.eye(3)[[0, 2, 1, 1, 0, 2]]
    there = [torch.asarray(a) for a in (w, x, t)]
    expected = torch.autograd.functional.hessian(lambda w: function(w, *there[1:]), there[0]).numpy()
    h = hessian(function)(w, x, t)
    assert_allclose(h, expected, rtol=1e-12, atol=1e-12)
    v = rng.normal(size=w.shape)
    assert_allclose(hvp(lambda w: function(w, x, t), w, v), expected @ v, rtol=1e-12, atol=1e-12)


def test_known_numbers():
    z = lambda a, x, y: (a * x - y) ** 2  # noqa: E731
    point = [np.asarray(v) for v in (3.0, 2.0, 4.0)]
    assert_allclose(grad(z, argnums=(0, 1, 2))(*point), [8.0, 12.0, -4.0])

    def cross_entropy(x, t):
        xp = array_namespace(x)
        p = 1.0 / (1.0 + xp.exp(-x))
        return -t * xp.log(p) - (1.0 - t) * xp.log(1.0 - p)

    slopes = grad(cross_entropy, argnums=(0, 1))(np.asarray(0.7), np.asarray(0.2))
    assert_allclose(slopes, [0.468187772168166, -0.7], rtol=1e-14)
    # x d/dy (x y): the derivatives do not mix.
    assert grad(lambda x: x * grad(lambda y: x * y)(np.asarray(2.0)))(np.asarray(3.0)) == 6.0
    wave = lambda x: array_namespace(x).sin(x) * array_namespace(x).exp(x)  # noqa: E731
    for _ in range(5):
        wave = grad(wave)
    assert_allclose(wave(np.asarray(0.4)), -4.0 * math.exp(0.4) * (math.sin(0.4) + math.cos(0.4)), rtol=1e-13)


@pytest.mark.parametrize("inner", ["grad", "jvp", "linearize", "vjp"])
@pytest.mark.parametrize("outer", ["grad", "jvp", "linearize", "vjp"])
@pytest.mark.parametrize("name", [name for name in USABLE64 if "jax" not in name and "cupy" not in name])
def test_perturbations_are_not_confused(name, outer, inner):
    with open_lane(name) as backend:
        confuse(backend, outer, inner)


def confuse(backend, outer, inner):
    def number(v):
        return backend.asarray(np.asarray(v))

    def derivative(how, f, x):
        one = x * 0.0 + 1.0
        return {
            "grad": lambda: grad(f)(x),
            "jvp": lambda: jvp(f, (x,), (one,))[1],
            "linearize": lambda: linearize(f, x)[1](one),
            "vjp": lambda: vjp(f, x)[1](one),
        }[how]()

    # d/dx (x d/dy (x^2 y^3) at y = x) = d/dx (3 x^5)
    f = lambda x: x * derivative(inner, lambda y: x * x * y**3, x)  # noqa: E731
    assert_allclose(backend.to_numpy(derivative(outer, f, number(1.1))), 15.0 * 1.1**4, rtol=1e-13)
    # and at a constant: d/dx (x d/dy (x y) at 2) = 2 x
    g = lambda x: x * derivative(inner, lambda y: x * y, number(2.0))  # noqa: E731
    assert_allclose(backend.to_numpy(derivative(outer, g, number(3.0))), 6.0)
    # and where what is kept is of the outer level: d/dx of d/dy sin(y / x) x^y at y = 2
    h = lambda x: derivative(inner, lambda y: array_namespace(y, x).sin(y / x) * x**y, number(2.0))  # noqa: E731
    slope = numerical.gradient(lambda x: np.cos(2 / x) * x + np.sin(2 / x) * x * x * np.log(x), np.asarray(1.5))
    assert_allclose(backend.to_numpy(derivative(outer, h, number(1.5))), slope, rtol=1e-8)


def test_four_threads_of_hessians():
    points = [np.asarray([-1.2, 1.0, 0.7]) + 0.1 * i for i in range(4)]
    expected = [hessian(rosenbrock)(x) for x in points]
    found = [[] for _ in points]

    def work(i):
        for _ in range(20):
            found[i].append(hessian(rosenbrock)(points[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for several, e in zip(found, expected, strict=True):
        assert len(several) == 20
        for h in several:
            assert_array_equal(h, e)


def test_jacobians(lane):
    x = np.asarray([0.3, -0.7, 1.9])
    wide = lambda x: array_namespace(x).stack([x[0] * x[1], array_namespace(x).sin(x[2])])  # noqa: E731
    tall = lambda x: array_namespace(x).concat([x * x, x * array_namespace(x).flip(x), -x])  # noqa: E731
    for f in (wide, tall):
        there = lane.to_numpy(jacobian(f)(lane.asarray(x)))
        assert_allclose(there, numerical.jacobian(f, x), atol=1e-8)
        y, push = linearize(f, lane.asarray(x))
        assert_allclose(lane.to_numpy(push(lane.asarray(x))), there @ x, rtol=1e-13)
        assert_array_equal(lane.to_numpy(y), lane.to_numpy(f(lane.asarray(x))))
    empty = lane.asarray(np.zeros((0, 2)))
    assert jacobian(lambda x: x * 2.0)(empty).shape == (0, 2, 0, 2)
    assert jacobian(lambda x: total(x) * 1.0)(empty).shape == (0, 2)


def test_trees_and_constants(lane):
    params = {"w": lane.asarray(np.asarray([[1.0, -2.0], [0.5, 3.0]])), "b": (lane.asarray(np.asarray([0.1, 0.2])),)}
    x = lane.asarray(np.asarray([[1.0, 2.0]]))

    def f(p, x, scale, names):
        y = x @ p["w"] + p["b"][0]
        return scale * total(y * y), {"y": y, "names": names}

    (value, aux), gradient = value_and_grad(f, has_aux=True)(params, x, 0.5, ["a"])
    y = lane.to_numpy(aux["y"])
    assert aux["names"] == ["a"]
    assert_allclose(float(lane.to_numpy(value)), 0.5 * np.sum(y * y))
    assert sorted(gradient) == ["b", "w"]
    assert_allclose(lane.to_numpy(gradient["b"][0]), y[0])
    assert_allclose(lane.to_numpy(gradient["w"]), lane.to_numpy(x).T @ y)
    only, aux = grad(f, argnums=1, has_aux=True)(params, x, 0.5, names=None)
    assert_allclose(lane.to_numpy(only), y @ lane.to_numpy(params["w"]).T)
    assert aux["names"] is None
    v = {"w": params["w"] * 0.0 + 1.0, "b": (params["b"][0] * 0.0,)}
    product = hvp(lambda p: f(p, p["w"].__array_namespace__().asarray(x), 0.5, None)[0], params, v)
    assert_allclose(lane.to_numpy(product["w"]), lane.to_numpy(x).T @ np.asarray([[3.0, 3.0]]))


def test_results_are_of_the_library_and_the_device(lane):
    x = lane.asarray(np.asarray([0.5, 1.5, -2.0]))
    for made in (
        grad(rosenbrock)(x),
        hessian(rosenbrock)(x),
        hvp(rosenbrock, x, x),
        jvp(lambda x: x * x, (x,), (x,))[1],
        vjp(lambda x: x * 1.0, x)[1](x),
        jacobian(lambda x: x * 2.0)(x),
        grad(lambda x: total(array_namespace(x).ones_like(x)))(x),
        linearize(lambda x: x * x, x)[1](x),
    ):
        assert lane.owns(made)
        assert made.dtype == x.dtype


def test_gradients_are_arrays_of_their_own():
    """Neither views, nor read-only, nor shared with each other or with what was given."""
    x, dy = np.ones((2, 3)), np.ones((2, 3))
    _, backward = vjp(lambda a, b: a + b, x, x)
    da, db = backward(dy)
    assert not any(np.shares_memory(p, q) for p, q in ((da, db), (da, dy), (db, dy)))
    for f in (total, lambda x: total(x[0, ...]), lambda x: array_namespace(x).max(x), lambda x: total(x.T)):
        slope = grad(f)(x)
        assert slope.flags.writeable
        assert type(slope) is np.ndarray
        slope += 1.0
    assert type(grad(lambda x: x * x)(np.asarray(3.0))) is np.ndarray
    assert grad(lambda x: x * x)(np.float64(3.0)) == 6.0


def test_what_does_not_depend_has_gradient_zero():
    x = np.asarray([1.0, 2.0])
    other = grad(lambda x, y: total(x), argnums=(0, 1))(x, x)[1]
    assert_array_equal(other, np.zeros(2))
    assert_array_equal(grad(lambda x: array_namespace(x).asarray(2.0))(x), np.zeros(2))
    y, dy = jvp(lambda x: (x[0], array_namespace(x).ones(2)), (x,), (x,))
    assert_array_equal(dy[1], np.zeros(2))
    assert_array_equal(y[1], np.ones(2))


def test_backward_may_be_called_again():
    y, backward = vjp(lambda x: x * x, np.asarray([3.0]))
    assert_array_equal(backward(np.asarray([1.0])), [6.0])
    assert_array_equal(backward(np.asarray([2.0])), [12.0])


def test_stop_gradient_and_control_flow():
    x = np.asarray(3.0)
    assert grad(lambda x: x * stop_gradient(x))(x) == 3.0
    assert stop_gradient(x) is x
    assert grad(lambda x: x * float(stop_gradient(x)))(x) == 3.0

    def branch(x):
        return x * x if x > 0 else -x

    assert (grad(branch)(x), grad(branch)(-x)) == (6.0, -1.0)

    def loop(x):
        for _ in range(int(array_namespace(x).floor(stop_gradient(x)))):
            x = x * x
        return x

    assert grad(loop)(x) == 8.0 * 3.0**7


def test_other_operators(lane):
    """Plain arrays, numbers and NumPy's scalars on the left."""
    a, b = lane.asarray(np.asarray([[1.5, 2.5], [0.7, 1.2]])), lane.asarray(np.asarray([[0.4, 1.9], [1.1, 0.35]]))
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "mod"):
        op = getattr(operator, name)
        f = lambda b, op=op: total(op(a, b))  # noqa: E731
        g = lambda b, op=op: total(op(array_namespace(b).asarray(a), b))  # noqa: E731
        assert_allclose(
            lane.to_numpy(grad(g)(b)), numerical.gradient(lambda v, op=op: np.sum(op(lane.to_numpy(a), v)),
            lane.to_numpy(b)), atol=1e-7,
        )  # fmt: skip
        if not str(lane).startswith("strict"):  # which never asks what is on the right
            assert_array_equal(lane.to_numpy(grad(f)(b)), lane.to_numpy(grad(g)(b)))
    assert grad(lambda x: np.float64(2.0) * x)(np.asarray(1.0)) == 2.0
    masks = lambda b: total(array_namespace(b).astype((b > 1.0) & ~(b < 0.5) | (b == 1.1), b.dtype) * b)  # noqa: E731
    assert_array_equal(lane.to_numpy(grad(masks)(b)), [[0.0, 1.0], [1.0, 0.0]])


def test_assignment_makes_a_new_array(lane):
    x = lane.asarray(np.asarray([1.0, 2.0, 3.0]))

    def f(x):
        xp = array_namespace(x)
        y = xp.zeros(4, dtype=x.dtype, device=device(x))
        for i in range(3):
            y[i + 1] = x[i] * y[i] + x[i]
        before = y
        y[0] = x[0] ** 2
        y[1:3] *= 2.0
        return total(y * before)

    expected = numerical.gradient(f_plain, np.asarray([1.0, 2.0, 3.0]))
    assert_allclose(lane.to_numpy(grad(f)(x)), expected, rtol=1e-6)


def f_plain(x):
    y = np.zeros(4)
    for i in range(3):
        y[i + 1] = x[i] * y[i] + x[i]
    y[0] = x[0] ** 2
    y[1:3] *= 2.0
    return np.sum(y * y)


def test_iteration_and_lists():
    x = np.asarray([1.0, 2.0, 3.0])
    assert_array_equal(grad(lambda x: sum(v * v for v in x))(x), 2.0 * x)

    def stacked(x):
        xp = array_namespace(x)
        rotation = xp.asarray([[x[0], 1.0], [0.0, x[1] * x[2]]])
        return xp.sum(rotation * rotation)

    assert_allclose(grad(stacked)(x), [2.0, 2.0 * 2.0 * 9.0, 2.0 * 4.0 * 3.0])
    assert len(x) == 3
    with pytest.raises(TypeError, match="0-d array has no length"):
        grad(lambda x: len(x) * x)(np.asarray(1.0))


def test_complex_arguments():
    """As torch has it: what to descend by, dL/dRe + i dL/dIm."""
    z = np.asarray([1.0 + 2.0j, -0.5 + 0.3j])
    f = lambda z: array_namespace(z).sum(array_namespace(z).abs(z) ** 2)  # noqa: E731
    assert_allclose(grad(f)(z), 2.0 * z, rtol=1e-14)
    g = lambda z: array_namespace(z).real(array_namespace(z).sum(z * z * (1.0 - 2.0j)))  # noqa: E731
    assert_allclose(grad(g)(z), np.conj(2.0 * z * (1.0 - 2.0j)), rtol=1e-14)
    x = np.asarray([0.5, 2.0])
    assert grad(g)(x).dtype == x.dtype


def test_error_on_the_way_back_says_where():
    def fails(x):
        return array_namespace(x).linalg.svd(x)[1]

    with pytest.raises(TraceError, match="full_matrices=False"):
        vjp(fails, np.ones((3, 2)))
    singular = np.zeros((2, 2))
    _, backward = vjp(lambda a: array_namespace(a).linalg.slogdet(a)[1], singular)
    with pytest.raises(np.linalg.LinAlgError) as caught:
        backward(np.asarray(1.0))
    assert caught.value.__notes__ == ["on the way back through linalg.slogdet, which the function has called"]


REFUSED = {
    "a float": (lambda: grad(lambda x: x * x)(3.0), "not to a float: give xp.asarray"),
    "a list": (lambda: grad(lambda x: x[0])([np.asarray(3.0)]), "not to a list"),
    "integers": (lambda: grad(lambda x: x)(np.asarray(3)), "not to int64: leave the argument out with argnums"),
    "no array": (lambda: vjp(lambda x: x, {}), "there is no array to differentiate"),
    "a list as result": (lambda: vjp(lambda x: [x], np.ones(2)), "not a list; where there is more to give"),
    "a number as result": (lambda: grad(lambda x: 3.0)(np.ones(2)), "not a float"),
    "no pair": (lambda: grad(lambda x: x, has_aux=True)(np.asarray(1.0)), r"gives a pair, \(y, aux\)"),
    "float()": (lambda: grad(lambda x: float(x) * x)(np.asarray(1.0)), r"float\(\) of an array.* would lose"),
    "bool()": (lambda: grad(lambda x: x if x else -x)(np.asarray(1.0)), r"bool\(\) of an array"),
    "numpy.asarray": (lambda: grad(lambda x: np.asarray(x))(np.asarray(1.0)), r"numpy.asarray\(\) of an array"),
    "numpy.sum": (lambda: grad(lambda x: np.sum(x))(np.ones(2)), r"numpy.sum\(\) cannot be differentiated: write it"),
    "no rule": (lambda: grad(lambda x: x.__array_namespace__().nanmax(x))(np.ones(2)), r"nanmax\(\) has no rule"),
    "argnums": (lambda: grad(lambda x: x, argnums=1)(np.ones(2)), "argnums names argument 1"),
    "a tree": (lambda: jacobian(lambda x: x["a"])({"a": np.ones(2)}), "the argument is a dict"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_sentences(what):
    call, sentence = REFUSED[what]
    with pytest.raises(TraceError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_more_sentences():
    with pytest.raises(ShapeError, match=r"of one number; the value has shape \(2,\): see jacobian and vjp"):
        grad(lambda x: x)(np.ones(2))
    with pytest.raises(ShapeError, match=r"backward takes dy of the shape of y, \(2,\), not of shape \(3,\)"):
        vjp(lambda x: x * 1.0, np.ones(2))[1](np.ones(3))
    with pytest.raises(ShapeError, match="not a float"):
        vjp(lambda x: x * 1.0, np.ones(2))[1](1.0)
    with pytest.raises(ShapeError, match="jvp takes tangents"):
        jvp(lambda x: x, (np.ones(2),), (np.ones(3),))
    with pytest.raises(AttributeError, match=r"has no .sum: call a function of its namespace"):
        grad(lambda x: x.sum())(np.ones(2))
    with pytest.raises(TypeError, match="operand 'AutodiffArray' does not support ufuncs"):
        grad(lambda x: np.sin(x))(np.asarray(1.0))
    seen = []
    grad(lambda x: seen.append((x, x.__array_namespace__())) or x)(np.asarray(1.5))
    assert repr(seen[0][0]) == "AutodiffArray(array(1.5))"
    assert "others become theirs by xp.asarray()" in repr(seen[0][1])
    with pytest.raises(TypeError, match="unhashable"):
        hash(seen[0][0])
    with pytest.raises(TypeError, match="Multiple namespaces"):
        grad(lambda x: array_namespace(x, np.ones(2)).sum(x))(np.ones(2))


def test_an_array_that_was_kept_is_refused():
    kept = []
    grad(lambda x: kept.append(x) or x * x)(np.asarray(2.0))
    with pytest.raises(TraceError, match="in an earlier call was kept, and is used in this one: return it"):
        grad(lambda x: x * kept[0])(np.asarray(3.0))
    with pytest.raises(TraceError, match="was kept"):
        jvp(lambda x: kept[0], (np.asarray(3.0),), (np.asarray(1.0),))
    # Those of outer levels are not: they are under way.
    assert grad(lambda x: grad(lambda y: y * x)(x))(np.asarray(3.0)) == 1.0


def test_functions_of_torch_and_jax_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TraceError, match=r"torch.sin\(\) cannot be differentiated"):
        grad(lambda x: torch.sin(x))(torch.ones(()))
    t = torch.asarray([1.0, 2.0])
    assert grad(lambda x: total(t * x))(torch.ones(2)).tolist() == [1.0, 2.0]
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TypeError, match="AutodiffArray"):
        grad(lambda x: jnp.sum(x))(jnp.ones(2))


def test_constants_are_of_the_namespace():
    x, w = np.ones((2, 3)), np.ones(3)

    def f(w, x, *, t):
        xp = array_namespace(w, x, t)
        assert isinstance(xp.zeros(2), AutodiffArray)
        assert isinstance(w > 0, AutodiffArray)
        assert isinstance(xp.sin(x), AutodiffArray)
        assert bool(xp.all(x == 1.0))
        assert float(x[0, 0]) == 1.0
        assert [1, 2, 3][xp.argmax(w)] == 1
        return xp.sum((x @ w - t) ** 2)

    assert_array_equal(grad(f)(w, x, t=np.zeros(2)), [12.0] * 3)


def test_under_jit_and_with_jax():
    jax = pytest.importorskip("jax")
    with open_lane("jax-x64"):
        x = jax.numpy.asarray([-1.2, 1.0, 0.7])
        for f in (grad(rosenbrock), hessian(rosenbrock), lambda x: hvp(rosenbrock, x, x)):
            assert_allclose(jax.jit(f)(x), f(x), rtol=1e-14, atol=1e-12)
        assert_allclose(jax.grad(lambda x: jax.numpy.sum(grad(rosenbrock)(x)))(x), hessian(rosenbrock)(x).sum(0))
        simple = grad(lambda x: total(x * x * x[::-1] + 2.0 * x))
        assert_array_equal(jax.jit(simple)(x), simple(x))
        assert_array_equal(jax.jit(hessian(lambda x: total(x * x * x)))(x), hessian(lambda x: total(x * x * x))(x))
        assert_allclose(jax.vmap(grad(rosenbrock))(jax.numpy.stack([x, 2 * x]))[1], grad(rosenbrock)(2 * x))
