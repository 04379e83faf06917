"""Products in bfloat16 with float32 sums: what they are, written out in NumPy, and who has them."""

import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from bfloat16 import (
    X,
    Y,
    assert_of_rounded_factors,
    assert_predicts_with_rounded_factors,
    assert_trains_with_rounded_factors,
    computed,
    normal,
    rounded,
)
from lanes import NAMES, STATUS, library_of

from portnn import Network, Trainer, functional, get_backend, losses, nn, optim, tree
from portnn.autodiff import vjp
from portnn.backend import backend_of
from portnn.errors import BackendError
from portnn.kernels import portable

#: And the GPUs of lanes.
ON_GPUS = [name for name in NAMES if name.startswith(("torch:cuda", "jax:gpu")) or name.partition(":")[0] == "cupy"]
DEVICES = ("torch:cpu", "jax:cpu", *[name for name in ON_GPUS if STATUS[library_of(name)].usable])
IMAGES = normal(80, 8, 8, 2)

MLP = nn.Sequential([nn.Affine(32), nn.Tanh(), nn.BatchNorm(), nn.Affine(3)])
CNN = nn.Sequential([nn.Conv2D(4, 3), nn.Tanh(), nn.ConvTranspose2D(3, 2, stride=2), nn.Flatten(), nn.Affine(3)])


@pytest.fixture(params=DEVICES)
def bf16(request):
    return open_bf16(request.param)


def open_bf16(device):
    skip_without(device)
    return get_backend(device, "bf16")


def skip_without(device):
    name = {"cpu": "numpy", "gpu": "cupy"}.get(device, device.partition(":")[0])
    if not STATUS[name].usable:
        pytest.skip(STATUS[name].message)


# ---- what is computed


@pytest.mark.parametrize("shapes", [((40, 700), (700, 30)), ((3, 17, 90), (3, 90, 8)), ((2, 2, 5, 65), (2, 2, 65, 4))])
def test_matmul(bf16, shapes):
    a, b = (normal(*shape) for shape in shapes)
    assert_of_rounded_factors(computed(bf16, functional.matmul, a, b), [rounded(a) @ rounded(b)], [a @ b])


def test_affine(bf16):
    x, w, b, dy = normal(64, 500), normal(500, 32), normal(32), normal(64, 32)
    y, dx, dw, db = computed(bf16, functional.affine, x, w, b, dy=dy)
    rx, rw, rdy = rounded(x), rounded(w), rounded(dy)
    expected = rx @ rw + b, rdy @ rw.T, rx.T @ rdy
    assert_of_rounded_factors([y, dx, dw], expected, [x @ w + b, dy @ w.T, x.T @ dy])
    np.testing.assert_allclose(db, dy.sum(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)  # no product
    with bf16.context():
        backward = functional.affine(*map(bf16.asarray, (x, w, b)))[1]
        no_dx, again, _ = backward(bf16.asarray(dy), input_grad=False)
    assert no_dx is None
    np.testing.assert_array_equal(bf16.to_numpy(again), dw)


@pytest.mark.parametrize(
    ("function", "w", "options"),
    [
        (functional.conv2d, (3, 3, 4, 6), {}),
        (functional.conv2d, (2, 3, 2, 6), {"stride": 2, "padding": "same", "groups": 2}),
        (functional.conv2d, (3, 3, 4, 6), {"dilation": 2, "padding": 1}),
        (functional.conv2d, (1, 1, 4, 6), {"stride": 2}),  # which torch leaves to the portable form
        (functional.conv_transpose2d, (3, 3, 5, 4), {"stride": 2}),
    ],
    ids=["plain", "groups", "dilation", "points", "transpose"],
)
def test_convolutions(bf16, function, w, options):
    x, w, b = normal(3, 9, 10, 4), normal(*w), normal(w[2] if function is functional.conv_transpose2d else w[3])
    host = get_backend("cpu")
    shape = computed(host, lambda *a: function(*a, **options)[0], x, w, b)[0].shape
    dy = normal(*shape)
    y, dx, dw, db = computed(bf16, function, x, w, b, dy=dy, **options)
    # The convolution of the rounded factors: forth with the bias, and back without it.
    forth = computed(host, function, rounded(x), rounded(w), b, dy=rounded(dy), **options)
    exact = computed(host, function, x, w, b, dy=dy, **options)
    assert_of_rounded_factors([y, dx, dw], forth[:3], exact[:3])
    np.testing.assert_allclose(db, exact[3], rtol=1e-5, atol=1e-5)


def test_the_edges_of_rounding(bf16):
    """Ties to even, up and down; what is larger than bfloat16 is infinite; infinity and NaN stay."""
    ulp = 2.0**-7
    x = np.asarray(
        [1 + ulp / 2, 1 + 1.5 * ulp, 1 + ulp / 2 + 2**-20, -1 - ulp / 2, 3.4e38, -np.inf, np.nan], np.float32
    )
    expected = np.asarray([1, 1 + 2 * ulp, 1 + ulp, -1, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(rounded(x), expected)
    (found,) = computed(bf16, functional.matmul, x[:, None], np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(found[:, 0], expected)
    (found,) = computed(bf16, functional.matmul, np.ones((1, 1), np.float32), x[None, :])
    np.testing.assert_array_equal(found[0], expected)


def test_products_of_nothing(bf16):
    a, b = np.zeros((3, 0), np.float32), np.zeros((0, 2), np.float32)
    np.testing.assert_array_equal(computed(bf16, functional.matmul, a, b)[0], np.zeros((3, 2)))
    assert computed(bf16, functional.matmul, b, normal(2, 4))[0].shape == (0, 4)


def test_what_is_no_product_of_twins_stays_float32(bf16):
    a, b = normal(20, 300), normal(300, 10)
    exact = (a.astype(np.float64) @ b).astype(np.float32)
    for product in (lambda a, b: a @ b, without_twins):
        np.testing.assert_allclose(computed(bf16, product, a, b)[0], exact, atol=1e-4)
    if bf16.supports("float64"):
        with bf16.context():
            found = functional.matmul(*[bf16.asarray(v, "float64") for v in (a, b)])
        np.testing.assert_allclose(bf16.to_numpy(found), a.astype(np.float64) @ b, rtol=1e-10)


def without_twins(a, b):
    with portable():
        return functional.matmul(a, b)


def test_the_precision_is_that_of_the_innermost_context(bf16):
    a, b = normal(20, 300), normal(300, 10)
    exact, coarse = a @ b, rounded(a) @ rounded(b)
    plain = bf16.with_precision("float32")
    here = [bf16.asarray(v) for v in (a, b)]

    def product():
        return bf16.to_numpy(functional.matmul(*here))

    elsewhere = []
    with bf16.context():
        assert backend_of(here[0]).precision == "bf16"
        np.testing.assert_allclose(product(), coarse, atol=1e-4)
        with plain.context():
            assert backend_of(here[0]).precision == "float32"
            np.testing.assert_allclose(product(), exact, atol=1e-4)
        np.testing.assert_allclose(product(), coarse, atol=1e-4)
        thread = threading.Thread(target=lambda: elsewhere.append(product()))
        thread.start()
        thread.join()
    np.testing.assert_allclose(product(), exact, atol=1e-4)
    np.testing.assert_allclose(elsewhere[0], exact, atol=1e-4)
    assert backend_of(here[0]).precision == "float32"


def test_a_function_compiled_by_jax_is_compiled_for_each_precision():
    backend = open_bf16("jax:cpu")
    import jax

    a, b = normal(20, 300), normal(300, 10)
    product = jax.jit(functional.matmul)
    np.testing.assert_allclose(product(a, b), a @ b, atol=1e-4)
    with backend.context():
        np.testing.assert_allclose(product(a, b), rounded(a) @ rounded(b), atol=1e-4)
        with backend.with_precision("float32").context():
            np.testing.assert_allclose(product(a, b), a @ b, atol=1e-4)
    np.testing.assert_allclose(product(a, b), a @ b, atol=1e-4)


def test_derivatives_that_autodiff_finds(bf16):
    a, b, dy = normal(20, 300), normal(300, 10), normal(20, 10)
    nothing = bf16.asarray(np.zeros(10, np.float32))
    expected = rounded(a) @ rounded(b), rounded(dy) @ rounded(b).T, rounded(a).T @ rounded(dy)
    for function in (functional.matmul, lambda a, b: functional.affine(a, b, nothing)[0]):
        with bf16.context():
            y, pullback = vjp(function, bf16.asarray(a), bf16.asarray(b))
            da, db = pullback(bf16.asarray(dy))
        assert_of_rounded_factors([bf16.to_numpy(v) for v in (y, da, db)], expected, [a @ b, dy @ b.T, a.T @ dy])


# ---- networks


def trained(device, precision="bf16", layer=MLP, x=X):
    """After 20 steps, four an epoch."""
    net = Network(layer, x.shape[1:], device=get_backend(device, precision), rng=0)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(0.01), rng=0)
    trainer.fit(x, Y[: len(x)], epochs=5, batch_size=len(x) // 4)
    return trainer


@pytest.mark.parametrize(("layer", "x"), [(MLP, X), (CNN, IMAGES)], ids=["affine", "conv"])
def test_training_keeps_close_to_that_in_float32(bf16, layer, x):
    coarse, exact = (trained(str(bf16), precision, layer, x) for precision in ("bf16", "float32"))
    difference = np.abs(np.asarray(coarse.history["loss"]) - exact.history["loss"])
    assert (difference > 0).all()
    assert (difference < 1e-2).all()
    arrays = tree.leaves((coarse.network.params, coarse.network.state, coarse.stepper.slots))
    floats = {str(a.dtype).removeprefix("torch.") for a in arrays if "float" in str(a.dtype)}
    assert floats == {"float32"}
    if bf16.name == "jax" and layer is MLP:
        assert coarse.stepper.loop.reason is None  # the steps were one program


def test_training_and_inference_are_those_of_rounded_factors(bf16):
    assert_predicts_with_rounded_factors(assert_trains_with_rounded_factors(bf16))


@pytest.mark.parametrize(
    ("layer", "x"), [(MLP, X), pytest.param(CNN, IMAGES, marks=pytest.mark.slow)], ids=["affine", "conv"]
)
def test_the_same_seed_gives_the_same_curve(layer, x):
    """Where float32 sums differ in their last bit, another number of bfloat16 may be the nearest one."""
    for device in DEVICES:
        skip_without(device)
    first, *others = [trained(device, "bf16", layer, x).history["loss"] for device in DEVICES]
    for curve in others:
        np.testing.assert_allclose(curve, first, rtol=1e-3)


def test_the_precision_goes_along_with_a_network(bf16):
    net = Network(MLP, 20, device=bf16, rng=0)
    copied = pickle.loads(pickle.dumps(net))
    assert copied.backend.precision == "bf16"
    np.testing.assert_array_equal(copied.predict(X), net.predict(X))
    assert (copied.predict(X) != net.to(get_backend(bf16, "float32")).predict(X)).any()


def test_networks_of_float64(bf16, tmp_path):
    sentence = "precision bf16 is for networks of dtype float32, not float64: backend .* use precision float32"
    with pytest.raises(BackendError, match=sentence):
        Network(MLP, 20, device=bf16, dtype="float64")
    net = Network(MLP, 20, dtype="float64", rng=0)
    with pytest.raises(BackendError, match=sentence):
        net.to(bf16)
    net.save(tmp_path / "net.safetensors")
    with pytest.raises(BackendError, match=sentence):
        Network.load(tmp_path / "net.safetensors", device=bf16)


# ---- who has them


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_backends_without_bf16(device):
    skip_without(device)
    with pytest.raises(
        BackendError,
        match=r"backend \S+ cannot multiply in bfloat16: torch and JAX can, on the CPU, .* use precision float32",
    ):
        get_backend(device, "bf16")


def test_torch_on_other_devices(monkeypatch):
    skip_without("torch")
    import torch

    backend = get_backend("torch")
    backend._device = torch.device("meta")
    assert "torch and JAX can, on the CPU, and they and CuPy on NVIDIA GPUs" in backend.without_bf16()
    backend._device = torch.device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's
    assert "torch and JAX can, on the CPU, and they and CuPy on NVIDIA GPUs" in backend.without_bf16()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for capability, reason in (((9, 0), None), ((7, 5), "its compute capability is 7.5, and bfloat16 came with 8.0")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, told=capability: told)
        assert (backend.without_bf16() or "").startswith(reason or "")
        assert (backend.without_bf16() is None) == (reason is None)
    monkeypatch.setattr(backend, "_torch", OldTorch(torch))
    assert backend.without_bf16() == "torch 2.7.1 rounds the sums to bfloat16, too; from 2.8 on it need not"


class OldTorch:
    """Its products have no other dtype than their factors."""

    __version__ = "2.7.1"
    ops = SimpleNamespace(aten=SimpleNamespace(mm=SimpleNamespace(overloads=lambda: ["default", "out"])))

    def __init__(self, torch):
        self.version = torch.version


def test_jax_on_other_devices():
    skip_without("jax")
    backend = get_backend("jax:cpu")
    for platform, capability, reason in (
        ("gpu", "9.0", None),
        ("gpu", "7.5", "its compute capability is 7.5, and bfloat16 came with 8.0 (Ampere)"),
        (
            "tpu",
            "",
            "torch and JAX can, on the CPU, and they and CuPy on NVIDIA GPUs from compute capability 8.0 (Ampere) on",
        ),
    ):
        backend._device = SimpleNamespace(platform=platform, compute_capability=capability)
        assert backend.without_bf16() == reason


@pytest.mark.parametrize(
    ("precision", "set_to"), [("float32", "float32"), ("tf32", "tensorfloat32"), ("bf16", "float32")]
)
def test_the_precision_of_jax_on_gpus(precision, set_to):
    """Products that are no twins' are left in float32 by bf16."""
    skip_without("jax")
    import jax

    backend = get_backend("jax:cpu")
    backend._device = SimpleNamespace(platform="gpu", compute_capability="9.0")
    before = jax.config.jax_default_matmul_precision
    with backend.with_precision(precision).context():
        assert jax.config.jax_default_matmul_precision == set_to
        assert backend_of(jax.numpy.zeros(1)).precision == precision
    assert jax.config.jax_default_matmul_precision == before
    assert backend_of(jax.numpy.zeros(1)).precision == "float32"


# ---- torch on CUDA, without a GPU


@pytest.fixture
def cuda(monkeypatch):
    """A type of tensors that say they are on CUDA, and what cuBLAS and cuDNN were asked for."""
    skip_without("torch")
    import torch

    class OnCuda(torch.Tensor):
        device = torch.device("cuda")

    OnCuda.__module__ = "torch"  # whose twins are to be called

    asked = []

    def multiplied(name, real):
        def product(a, b, *, out_dtype):
            # torch itself says whether there is such a product.
            known = real(
                a.as_subclass(torch.Tensor).to("meta"), b.as_subclass(torch.Tensor).to("meta"), out_dtype=out_dtype
            )
            asked.append((name, a.dtype, b.dtype))
            made = a.as_subclass(torch.Tensor).to(known.dtype) @ b.as_subclass(torch.Tensor).to(known.dtype)
            assert made.shape == known.shape
            return made.as_subclass(OnCuda)

        return product

    def convolved(real):
        def function(*args):
            asked.append((real.__name__, torch.backends.cudnn.allow_tf32))
            return real(*[a.as_subclass(torch.Tensor) if isinstance(a, torch.Tensor) else a for a in args])

        return function

    for name in ("mm", "bmm"):
        monkeypatch.setattr(torch, name, multiplied(name, getattr(torch, name)))
    for home, name in (
        (torch, "conv2d"),
        (torch, "conv_transpose2d"),
        (torch.ops.aten, "convolution_backward"),
    ):
        monkeypatch.setattr(home, name, convolved(getattr(home, name)))
    backend = get_backend("torch:cpu", "bf16")
    backend._device = torch.device("cuda")
    return SimpleNamespace(backend=backend, asked=asked, tensor=lambda a: torch.tensor(a).as_subclass(OnCuda))


def test_products_of_torch_on_cuda(cuda):
    import torch

    x, w, b, dy = normal(64, 500), normal(500, 32), normal(32), normal(64, 32)
    with cuda.backend.context():
        y, backward = functional.affine(*map(cuda.tensor, (x, w, b)))
        dx, dw, _ = backward(cuda.tensor(dy))
    assert cuda.asked == [("mm", torch.bfloat16, torch.bfloat16)] * 3
    expected = rounded(x) @ rounded(w) + b, rounded(dy) @ rounded(w).T, rounded(x).T @ rounded(dy)
    assert_of_rounded_factors([a.numpy() for a in (y, dx, dw)], expected, [x @ w + b, dy @ w.T, x.T @ dy])


def test_stacks_of_products_of_torch_on_cuda(cuda):
    import torch

    a, b = normal(2, 2, 5, 65), normal(2, 2, 65, 4)
    with cuda.backend.context():
        found = functional.matmul(cuda.tensor(a), cuda.tensor(b))
        empty = functional.matmul(cuda.tensor(a[:, :0]), cuda.tensor(b[:, :0]))
    assert cuda.asked == [("bmm", torch.bfloat16, torch.bfloat16)]
    assert_of_rounded_factors([found.numpy()], [rounded(a) @ rounded(b)], [a @ b])
    assert empty.shape == (2, 0, 5, 4)


@pytest.mark.parametrize("function", [functional.conv2d, functional.conv_transpose2d])
def test_convolutions_of_torch_on_cuda(cuda, function):
    import torch

    x, w, b = normal(3, 9, 10, 4), normal(3, 3, 4, 4), normal(4)
    dy = normal(*computed(get_backend("cpu"), lambda *a: function(*a)[0], x, w, b)[0].shape)
    before = torch.backends.cudnn.allow_tf32
    with cuda.backend.context():
        y, backward = function(*map(cuda.tensor, (x, w, b)))
        dx, dw, _ = backward(cuda.tensor(dy))
        assert torch.backends.cudnn.allow_tf32 is False  # of what is no twin
    with cuda.backend.with_precision("float32").context():
        function(*map(cuda.tensor, (x, w, b)))[1](cuda.tensor(dy))
    names = function.__name__, "convolution_backward"
    assert cuda.asked == [(name, tf32) for tf32 in (True, False) for name in names]
    assert torch.backends.cudnn.allow_tf32 is before
    expected, exact = (
        computed(get_backend("cpu"), function, f(x), f(w), b, dy=f(dy))[:3] for f in (rounded, np.asarray)
    )
    assert_of_rounded_factors([a.numpy() for a in (y, dx, dw)], expected, exact)
