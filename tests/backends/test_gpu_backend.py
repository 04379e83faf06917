"""What the CuPy backend does besides computing: devices, precision, memory, uploads. No GPU: see `cupy_on_host`."""

import contextlib
import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cupy")

import cupy
import cupy_backends.cuda.libs
from cupy_on_host import fake_cupy
from cupy_on_host.memory import DEFAULT_POOL
from cupy_on_host.recorded import Portable, open_recorded
from lanes import STATUS
from portnn_backends.on_cupy import backend as cupy_backend
from portnn_backends.on_cupy.backend import CupyBackend

from portnn import Network, Trainer, get_backend, losses, nn, optim
from portnn.backend import Memory
from portnn.errors import BackendError, DeviceMemoryError, DivergenceError, PortnnError
from portnn.training.entering import feed_of
from portnn.training.feeds import Mapped, Resident

X = np.random.default_rng(0).integers(0, 256, (50, 6)).astype(np.uint8)
Y = np.random.default_rng(1).integers(0, 3, 50)


@pytest.fixture
def imitation():
    with open_recorded(Portable) as backend:
        yield backend


def make(backend):
    layer = nn.Sequential([nn.Affine(8), nn.Tanh(), nn.Dropout(0.2), nn.Affine(3)])
    return Trainer(Network(layer, 6, device=backend, rng=0), losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)


# ---- devices


def test_cuda_is_a_name_of_cupy():
    found = set()
    for name in ("gpu", "cuda", "cuda:0", "cupy:0"):
        try:
            found.add(str(get_backend(name)))
        except BackendError as error:
            found.add(str(error))
    assert found == {"cupy:0" if STATUS["cupy"].usable else STATUS["cupy"].message}


def test_one_of_several_gpus(monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 2)
    opened = []
    monkeypatch.setattr(cupy_backend, "try_reductions", lambda _, number: opened.append(number))
    memory = cupy.cuda.UnownedMemory(4096, 1024, None, device_id=1)
    array = cupy.ndarray((8,), dtype=cupy.uint8, memptr=cupy.cuda.MemoryPointer(memory, 0))
    first, second = CupyBackend(), CupyBackend("1")
    assert opened == [0, 1]  # the reductions of each were tried
    assert (str(first), str(second)) == ("cupy:0", "cupy:1")
    assert second.owns(array)
    assert not first.owns(array)
    assert CupyBackend.from_array(array) == second != first
    assert second.context().context.id == 1
    for wrong in ("2", "-1", "first"):
        with pytest.raises(BackendError, match=f"there is no GPU '{wrong}': CuPy sees 2, numbered from 0"):
            CupyBackend(wrong)


# ---- precision


@pytest.mark.parametrize("device", ["cpu", "torch:cpu", "jax:cpu", "strict"])
def test_devices_without_tf32(device):
    if not STATUS[get_name(device)].usable:
        pytest.skip(STATUS[get_name(device)].message)
    assert get_backend(device, "float32").precision == "float32"
    with pytest.raises(
        BackendError, match=r"backend \S+ cannot multiply in TF32: only NVIDIA GPUs .* use precision flo"
    ):
        get_backend(device, precision="tf32")
    with pytest.raises(BackendError, match='precision must be "float32", "tf32" or "bf16", not \'half\''):
        get_backend(get_backend(device), precision="half")


def get_name(device):
    return {"cpu": "numpy"}.get(device, device.partition(":")[0])


def test_tf32_is_a_property_of_a_backend(imitation):
    chosen = imitation.with_precision("tf32")
    assert (imitation.precision, chosen.precision) == ("float32", "tf32")
    assert chosen == imitation  # their arrays are the same
    copied = pickle.loads(pickle.dumps(chosen))
    assert (str(copied), copied.precision) == ("cupy:0", "tf32")
    assert get_backend(chosen).precision == "tf32"
    assert get_backend(chosen, "float32").precision == "float32"
    imitation._device.compute_capability = "75"
    with pytest.raises(BackendError, match=r"its compute capability is 7\.5, and TF32 came with 8\.0"):
        imitation.with_precision("tf32")


def test_tf32_holds_inside_the_context(imitation, monkeypatch):
    modes = {"handle": 0}
    cublas = SimpleNamespace(getMathMode=modes.get, setMathMode=lambda handle, mode: modes.update({handle: mode}))
    monkeypatch.setitem(vars(cupy_backends.cuda.libs), "cublas", cublas)
    monkeypatch.setattr(fake_cupy.cuda, "get_cublas_handle", lambda: "handle", raising=False)
    with imitation.context():
        assert modes["handle"] == 0
    with imitation.with_precision("tf32").context():
        assert modes["handle"] == 3
    assert modes["handle"] == 0
    trainer = make(imitation.with_precision("tf32"))
    trainer.fit(X, Y, epochs=2, batch_size=10)
    step = trainer.stepper.loop
    assert step.graphs == 1
    assert step._recorder._products.cublas._library.modes == [3]


@pytest.mark.parametrize(("precision", "set_to"), [("float32", ("highest", False)), ("tf32", ("high", True))])
def test_the_precision_of_torch_on_cuda(precision, set_to):
    if not STATUS["torch"].usable:
        pytest.skip(STATUS["torch"].message)
    import torch

    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    backend = get_backend("torch")
    backend._device = torch.device("cuda")
    backend.precision, before = precision, settings()
    with backend.context():
        assert settings() == set_to
    assert settings() == before


# ---- memory


def test_memory_of_the_pool(imitation, monkeypatch):
    monkeypatch.setattr(DEFAULT_POOL, "used_bytes", lambda: 30, raising=False)
    monkeypatch.setattr(DEFAULT_POOL, "total_bytes", lambda: 100, raising=False)
    assert imitation.memory() == Memory(free=2**33, total=2**34, used=30, held=100)
    assert imitation.memory().available == 2**33 + 70
    assert get_backend("cpu").memory().available is None


@pytest.mark.parametrize(("free", "kind"), [(50 * 6 + 50 * 4, Mapped), (2 * (50 * 6 + 50 * 4), Resident)])
def test_data_that_fit_live_on_the_device(imitation, monkeypatch, free, kind):
    """As bytes: 300 of them, and 200 of targets, in half of the memory."""
    alone = make(imitation)
    alone.fit(X, Y, epochs=3, batch_size=16, validation_data=(X, Y))
    monkeypatch.setattr(fake_cupy.cuda.runtime, "memGetInfo", lambda: (free, 10**9))
    trainer = make(imitation)
    feed = feed_of(trainer.network, trainer.loss, X, Y, None, 16)
    assert type(feed) is kind
    trainer.fit(X, Y, epochs=3, batch_size=16, validation_data=(X, Y))
    assert trainer.history["loss"] == alone.history["loss"]
    assert trainer.history["val_loss"] == alone.history["val_loss"]
    on_device = imitation.asarray(X), imitation.asarray(Y)
    assert type(feed_of(trainer.network, trainer.loss, *on_device, None, 16)) is Resident  # they are there already


def test_data_that_are_read_before_they_have_arrived_would_be_seen(imitation, monkeypatch):
    """The imitation computes on a stream when somebody waits for it: so does this test see that the trainer waits."""
    trainer, alone = make(imitation), make(imitation)
    batches = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 50, 10)]
    alone.fit_batches(batches)
    monkeypatch.setattr(fake_cupy.cuda.Stream, "wait_event", lambda self, event: None)
    with contextlib.suppress(DivergenceError, IndexError):  # class numbers have not arrived, nor those of the examples
        trainer.fit_batches(batches)
        assert trainer.history["loss"] != alone.history["loss"]


def test_uploads_have_a_stream_of_their_own(imitation):
    streams, ready = [], []

    def work(uploads):
        with uploads as bring:
            streams.append(fake_cupy.cuda.get_current_stream())
            ready.append(bring(lambda: imitation.asarray([1.0, 2.0])))
            ready.append(threading.current_thread())

    uploads = imitation.uploads()
    thread = threading.Thread(target=work, args=(uploads,))
    thread.start()
    thread.join()
    assert streams[0] is not fake_cupy.cuda.get_current_stream()
    (array, arrived), _ = ready
    assert np.isnan(array._host).all()
    arrived()
    assert array._host.tolist() == [1.0, 2.0]


def test_lack_of_memory_is_a_sentence(imitation, monkeypatch):
    trainer = make(imitation)

    def out_of_memory(*args, **options):
        raise MemoryError("Out of memory allocating 1,073,741,824 bytes (allocated so far: 512 bytes).")

    expected = (
        "cupy:0 has no memory left for a batch of 16 examples (MemoryError: Out of memory allocating "
        "1,073,741,824 bytes (allocated so far: 512 bytes).); 8,589,934,592 of its 17,179,869,184 bytes are free, 0 in "
        "use by arrays and 0 held by this process: use a smaller batch_size, or optim.Accumulate, which adds small "
        "batches up to a large one"
    )
    monkeypatch.setattr(nn.Affine, "forward", out_of_memory)
    for call in (
        lambda: trainer.fit(X, Y, batch_size=16),
        lambda: trainer.partial_fit(X[:16], Y[:16]),
        lambda: trainer.evaluate(X, Y, batch_size=16),
        lambda: trainer.network.predict(X, batch_size=16),
    ):
        with pytest.raises(DeviceMemoryError) as raised:
            call()
        assert str(raised.value) == expected
        assert isinstance(raised.value, MemoryError)
        assert isinstance(raised.value, PortnnError)


def test_a_lack_of_memory_in_other_libraries(monkeypatch):
    if STATUS["torch"].usable:
        import torch

        backend = get_backend("torch")
        assert backend.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(RuntimeError) as raised:
            torch.empty(2**60, dtype=torch.uint8)
        assert backend.is_out_of_memory(raised.value)
        assert not backend.is_out_of_memory(RuntimeError("shapes differ"))
    if STATUS["jax"].usable:
        assert get_backend("jax").is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))
    with pytest.raises(MemoryError) as raised:
        np.empty(2**60, np.uint8)
    assert get_backend("cpu").is_out_of_memory(raised.value)
