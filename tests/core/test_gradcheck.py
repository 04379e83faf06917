import numpy as np
import pytest
from array_api_compat import array_namespace

from portnn import functional, losses, nn
from portnn.errors import BackendError, ConfigError, GradientError, KinkError, ShapeError
from portnn.gradcheck import gradcheck, gradcheck_layer, gradcheck_network

X = np.random.default_rng(0).normal(size=(3, 4))


def square(x, factor=2.0):
    return x * x, lambda dy: factor * x * dy


def test_accepts_a_right_gradient(backend64):
    gradcheck(square, backend64.asarray(X))


@pytest.mark.parametrize("factor", [0.0, 1.0, 1.9999, -2.0, float("nan")])
def test_refuses_a_wrong_gradient(factor, backend64):
    with pytest.raises(GradientError, match="the analytic derivative is"):
        gradcheck(lambda x: square(x, factor), backend64.asarray(X))


def test_finds_one_wrong_entry_among_many():
    def function(x):
        y, backward = square(x)

        def broken(dy):
            dx = backward(dy)
            dx[2, 1] = 0.0
            return dx

        return y, broken

    with pytest.raises(GradientError):
        gradcheck(function, X)


def test_finds_the_diagonal_softmax_jacobian():
    """The mistake of differentiating softmax as if it were elementwise."""

    def wrong(x):
        y, _ = functional.softmax(x)
        return y, lambda dy: dy * y * (1.0 - y)

    gradcheck(functional.softmax, X)
    with pytest.raises(GradientError):
        gradcheck(wrong, X)


def test_casts_to_float64(backend64):
    gradcheck(functional.sigmoid, backend64.asarray(X, "float32"))


def test_several_arguments_and_trees(backend64):
    put = backend64.asarray

    def function(params, x):
        y, backward = functional.affine(x, params["w"], params["b"])

        def pullback(dy):
            dx, dw, db = backward(dy)
            return {"w": dw, "b": db}, dx

        return y, pullback

    gradcheck(function, {"w": put(X.T), "b": put(X[:, 0])}, put(X))


@pytest.mark.parametrize("place", [0.0, 3e-7, -3e-7])
def test_refuses_a_kink(place, backend64):
    x = np.array(X)
    x[1, 2] = place
    with pytest.raises(KinkError, match="has a kink at the point"):
        gradcheck(functional.relu, backend64.asarray(x))


def test_refuses_a_jump(backend64):
    def step(x):
        xp = array_namespace(x)
        return xp.astype(x > 0, x.dtype), lambda dy: 0.0 * dy

    with pytest.raises(KinkError):
        gradcheck(step, backend64.asarray(np.zeros(3)))


def test_accepts_next_to_a_kink(backend64):
    gradcheck(functional.relu, backend64.asarray(np.asarray([1e-3, -1e-3, 2.0])))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_kinks_of_any_size(scale):
    def scaled_relu(x):
        y, backward = functional.relu(x)
        return scale * y, lambda dy: backward(scale * dy)

    gradcheck(scaled_relu, X)
    with pytest.raises(KinkError):
        gradcheck(scaled_relu, np.asarray([0.0, 1.0]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (1e7 + x, lambda dy: dy),
        lambda x: (1e6 + 1e-3 * x, lambda dy: 1e-3 * dy),
        lambda x: (0.5 * (x - 1e7) ** 2, lambda dy: (x - 1e7) * dy),
        lambda x: (1e-10 * x * x, lambda dy: 2e-10 * x * dy),
        lambda x: ((x - X) ** 2, lambda dy: 2 * (x - X) * dy),  # at its minimum
        lambda x: (np.exp(30 * x), lambda dy: 30 * np.exp(30 * x) * dy),
    ],
)
def test_accepts_smooth_functions_of_any_size(function):
    gradcheck(function, X)


def test_refuses_a_missing_gradient_however_small():
    with pytest.raises(GradientError):
        gradcheck(lambda x: (1e-10 * x * x, lambda dy: 0.0 * x), X)


def scaled_affine(x, w, b, wrong=None):
    """`affine` whose gradient of one argument is missing."""
    y, backward = functional.affine(x, w, b)

    def pullback(dy):
        grads = backward(dy)
        return tuple(0.0 * g if i == wrong else g for i, g in enumerate(grads))

    return y, pullback


@pytest.mark.parametrize("large", [1.0, 1e3, 1e7, 1e-7])
def test_a_large_gradient_hides_no_other(large):
    """Those of w are as large as x, and those of x as w."""
    rng = np.random.default_rng(1)
    x, w, b = rng.normal(size=(6, 5)), rng.normal(size=(5, 4)), rng.normal(size=4)
    for args in ((large * x, w, b), (x, large * w, b), (x, w, large * b)):
        gradcheck(scaled_affine, *args)
        for wrong in range(3):
            with pytest.raises(GradientError, match=f"with respect to '{wrong}' of the arguments"):
                gradcheck(lambda *a, wrong=wrong: scaled_affine(*a, wrong=wrong), *args)


def test_a_large_gradient_hides_no_other_in_a_tree():
    def function(p, wrong):
        y = 1e8 * p["w"] + p["b"]
        return y, lambda dy: {"w": 1e8 * dy, "b": wrong * dy}

    point = {"w": 1e-8 * X, "b": X + 1.0}
    gradcheck(lambda p: function(p, 1.0), point)
    with pytest.raises(GradientError, match="with respect to '0.b' of the arguments"):
        gradcheck(lambda p: function(p, 1.001), point)


@pytest.mark.parametrize("place", [1e7, 1e10, -1e14])
def test_far_from_zero(place):
    """A step of 1e-6 is less than the distance of two numbers there."""
    gradcheck(lambda x: (x, lambda dy: dy), X + place)
    with pytest.raises(GradientError):
        gradcheck(lambda x: (x, lambda dy: 1.01 * dy), X * place)


def test_pairs_gradients_by_name_and_not_by_order():
    """A library may rebuild a dict in another order: JAX sorts its keys."""

    def function(p, swapped=False):
        y = 2.0 * p["a"] + 3.0 * p["b"]

        def backward(dy):
            da, db = (3.0 * dy, 2.0 * dy) if swapped else (2.0 * dy, 3.0 * dy)
            return {"b": db, "a": da}

        return y, backward

    point = {"a": X, "b": X + 1.0}
    gradcheck(function, point)
    with pytest.raises(GradientError):
        gradcheck(lambda p: function(p, swapped=True), point)


def test_a_sharp_bend_is_no_kink(backend64):
    gradcheck(lambda x: square(10.0 * x, 20.0), backend64.asarray(X))


def test_a_loss():
    target = np.asarray([0, 3, 1])
    gradcheck(lambda x: losses.SoftmaxCrossEntropy()(x, target), X)


@pytest.mark.parametrize("wrong", ["input", "parameter"])
def test_a_layer_with_a_wrong_gradient(wrong):
    class Broken(nn.Affine):
        def forward(self, params, state, x, *, train=False, rng=None):
            y, state, backward = super().forward(params, state, x, train=train, rng=rng)

            def broken(dy, input_grad=True):
                dx, grads = backward(dy, input_grad)
                return (2.0 * dx, grads) if wrong == "input" else (dx, grads | {"b": 2.0 * grads["b"]})

            return y, state, broken

    gradcheck_layer(nn.Affine(3), (4,))
    with pytest.raises(GradientError):
        gradcheck_layer(Broken(3), (4,))


def test_sentences():
    with pytest.raises(
        GradientError, match=r"the gradient is float64 of shape \(4, 3\), its argument float64 of shape"
    ):
        gradcheck(lambda x: (x, lambda dy: dy.T), X)
    with pytest.raises(GradientError, match="only floating-point arrays can be differentiated, not ndarray"):
        gradcheck(square, np.arange(3))
    with pytest.raises(GradientError, match="only floating-point arrays can be differentiated, not float"):
        gradcheck(square, 1.0)
    with pytest.raises(GradientError, match="no array"):
        gradcheck(lambda params: (X, lambda dy: {}), {})


def test_needs_float64():
    from lanes import open_lane

    with open_lane("strict:no_x64") as backend, pytest.raises(BackendError, match="has no float64"):
        gradcheck(square, backend.asarray(X, "float32"))


MLP = nn.Sequential([nn.Affine(6), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Affine(3)])


def check_network(net, **options):
    return gradcheck_network(net, losses.SoftmaxCrossEntropy(), X, np.asarray([0, 2, 1]), **options)


def test_network_report(backend64):
    net = nn.Network(MLP, 4, device=backend64, rng=0)
    before = net.params
    report = check_network(net, entries=5)
    assert report.passed
    assert net.params is before
    assert [(p.path, p.checked) for p in report.parameters] == [
        ("0.b", 5), ("0.w", 5), ("1.beta", 5), ("1.gamma", 5), ("4.b", 3), ("4.w", 5),
    ]  # fmt: skip
    assert max(p.largest for p in report.parameters) > 0.01
    assert str(report).count(" ok") == 6


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_network_report_names_the_wrong_parameter(wrong):
    class Broken(nn.Affine):
        def forward(self, params, state, x, *, train=False, rng=None):
            y, state, backward = super().forward(params, state, x, train=train, rng=rng)

            def broken(dy, input_grad=True):
                dx, grads = backward(dy, input_grad)
                return dx, {"w": grads["w"] * np.where(np.arange(3) == 1, wrong, 1.0), "b": grads["b"]}

            return y, state, broken

    report = check_network(nn.Network(nn.Sequential([nn.Affine(6), nn.Tanh(), Broken(3)]), 4, rng=0), entries=100)
    assert not report.passed
    assert [p.path for p in report.parameters if not p.passed] == ["2.w"]
    assert str(report).count("WRONG") == 1


def test_network_report_refuses():
    net = nn.Network(MLP, 4, rng=0)
    for options in ({"entries": 0}, {"h": 0.0}):
        with pytest.raises(ConfigError):
            check_network(net, **options)
    with pytest.raises(ShapeError, match="the network takes"):
        gradcheck_network(net, losses.SoftmaxCrossEntropy(), X[:, :3], np.asarray([0, 2, 1]))
