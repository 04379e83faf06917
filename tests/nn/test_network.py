import copy
import dataclasses
import json
import os
import pickle

import numpy as np
import pytest
from helpers import get
from lanes import STATUS
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from portnn import Network, get_backend, nn, tree
from portnn.errors import BackendError, ConfigError, DataError, ModelFileError, ShapeError
from portnn.random import Stream

MLP = nn.Sequential([nn.Flatten(), nn.Affine(6), nn.ReLU(), nn.Affine(3, weight_init=nn.GlorotUniform())])
X = np.random.default_rng(0).normal(size=(7, 2, 4)).astype(np.float32)


def make(device="cpu", **kwargs):
    return Network(MLP, (2, 4), device=device, rng=0, **kwargs)


def test_initial_parameters_are_equal_bit_for_bit(typed):
    backend, dtype = typed
    ours, reference = make(backend, dtype=dtype), make("cpu", dtype=dtype)
    for here, there in zip(tree.leaves(ours.params), tree.leaves(reference.params), strict=True):
        assert backend.owns(here)
        assert backend.to_numpy(here).tobytes() == there.tobytes()


def test_call_and_predict(backend):
    net = make(backend)
    x = backend.asarray(X)
    y = net(x)
    assert backend.owns(y)
    assert tuple(y.shape) == (7, 3)
    np.testing.assert_allclose(get(backend, y), make()(X), rtol=1e-5, atol=1e-6)
    for batch_size in (1, 3, 7, 100):
        np.testing.assert_allclose(get(backend, net.predict(x, batch_size)), get(backend, y), rtol=1e-5, atol=1e-6)


def test_predict_answers_in_the_library_of_its_input(backend):
    assert type(make(backend).predict(X)) is np.ndarray
    assert backend.owns(make("cpu").predict(backend.asarray(X)))


def test_other_dtypes_are_cast_and_bytes_are_pixels(backend):
    net = make(backend)
    pixels = np.arange(16, dtype=np.uint8).reshape(2, 2, 4) * 16
    expected = get(backend, net(pixels / np.float32(255)))
    np.testing.assert_allclose(get(backend, net(pixels)), expected, rtol=1e-6, atol=1e-6)
    assert get(backend, net(pixels.astype(np.int32))).dtype == np.float32


def test_bad_input():
    net = make()
    with pytest.raises(ShapeError, match=r"x has shape \(7, 3\); the network takes \(n, 2, 4\)"):
        net(X[:, 0, :3])
    with pytest.raises(DataError, match="x is empty"):
        net.predict(X[:0])
    for bad in (np.nan, np.inf, -np.inf):
        x = np.array(X)
        x[4, 1, 2] = bad
        with pytest.raises(DataError, match=r"x has 1 values that are NaN or infinite, the first at \[4, 1, 2\]"):
            net.predict(x)
    for size in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="batch_size must be a positive int"):
            net.predict(X, size)


def test_bad_construction():
    with pytest.raises(ShapeError, match="layer 0: Affine takes rows of one axis"):
        Network(nn.Sequential([nn.Affine(3)]), (2, 4))
    for shape in ((0,), (-1, 2), (2.5,), "ab"):
        with pytest.raises(ShapeError, match="input_shape must hold positive ints"):
            Network(MLP, shape)
    with pytest.raises(ConfigError, match='dtype must be "float32" or "float64"'):
        make(dtype="float16")
    with pytest.raises(BackendError, match="unknown device"):
        make("abacus")


def test_float64_where_there_is_none():
    with pytest.raises(BackendError, match="backend strict:no_x64 has no float64"):
        make("strict:no_x64", dtype="float64")


def test_summary():
    rows = [line.split() for line in make().summary().splitlines()]
    assert rows[0] == ["layer", "output", "parameters"]
    assert rows[2:] == [
        ["0", "Flatten", "(8,)", "0"],
        ["1", "Affine", "(6,)", "54"],
        ["2", "ReLU", "(6,)", "0"],
        ["3", "Affine", "(3,)", "21"],
        ["total", "(3,)", "75"],
    ]
    nested = Network(nn.Sequential([nn.Flatten(), nn.Sequential([nn.Affine(2)])]), (2, 4))
    assert "1.0 Affine" in nested.summary()


def test_to_another_backend(backend):
    there = make().to(backend)
    assert there.backend == backend
    np.testing.assert_allclose(get(backend, there(X)), make()(X), rtol=1e-5, atol=1e-6)
    back = there.to("cpu")
    tree.map(np.testing.assert_array_equal, back.params, make().params)


# ---- files


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    make().save(path)
    return path


def test_save_and_load(typed, tmp_path):
    backend, dtype = typed
    net = make(backend, dtype=dtype)
    net.save(tmp_path / "m.safetensors")
    loaded = Network.load(tmp_path / "m.safetensors", device=backend)
    assert (loaded.layer, loaded.input_shape, loaded.output_shape) == (net.layer, net.input_shape, net.output_shape)
    assert (loaded.dtype, loaded.rng, loaded.backend) == (dtype, net.rng, backend)
    tree.map(np.testing.assert_array_equal, get(backend, loaded.params), get(backend, net.params))
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_the_file_can_be_read_without_portnn(saved):
    with safe_open(saved, framework="numpy") as file:
        assert set(file.keys()) == {"params.1.w", "params.1.b", "params.3.w", "params.3.b"}
        np.testing.assert_array_equal(file.get_tensor("params.1.w"), make().params[1]["w"])
        assert json.loads(file.metadata()["input_shape"]) == [2, 4]


def test_truncated_at_every_length(saved, tmp_path):
    content = saved.read_bytes()
    part = tmp_path / "part.safetensors"
    for length in range(len(content)):
        part.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="is truncated, damaged or no safetensors file"):
            Network.load(part)


def test_not_a_model_file(tmp_path):
    with pytest.raises(ModelFileError, match="there is no such model file"):
        Network.load(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="there is no such model file"):
        Network.load(tmp_path)
    (tmp_path / "text").write_text("not a model", encoding="utf-8")
    with pytest.raises(ModelFileError, match="no safetensors file"):
        Network.load(tmp_path / "text")
    save_file({"w": np.ones(2)}, tmp_path / "other")
    with pytest.raises(ModelFileError, match="holds no network of portnn"):
        Network.load(tmp_path / "other")


def test_a_flipped_bit_anywhere_is_seen(saved):
    content = saved.read_bytes()
    for i in range(0, len(content), 7):
        saved.write_bytes(content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :])
        try:
            net = Network.load(saved)  # a space of the header that became a tab
        except ModelFileError:
            continue
        tree.map(np.testing.assert_array_equal, net.params, make().params)


def rewritten(path, tensors=None, blake2b=None, **changes):
    """The same file with other tensors or metadata, and without its hash."""
    changes |= {"blake2b": blake2b}
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata()) | {key: value for key, value in changes.items() if value is not None}
    for key, value in changes.items():
        if value is None:
            metadata.pop(key, None)
    save_file(tensors or load_file(path), path, metadata)
    return path


def layer_json(**fields):
    return json.dumps({"type": "Affine", "units": 3} | fields)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format_version": "99"}, "has format version 99; this portnn reads 1"),
        ({"layer": None}, "does not fit its own description"),
        ({"layer": "{"}, "does not fit its own description"),
        ({"layer": layer_json(type="Popen")}, "'Popen' is no layer of portnn"),
        ({"layer": layer_json(type="Network")}, "'Network' is no layer of portnn"),
        ({"layer": layer_json(units=-1)}, "units must be a positive int"),
        ({"layer": layer_json(color="red")}, "Affine cannot be built from"),
        ({"layer": layer_json(units=10**6), "input_shape": "[1000000]"}, "missing in the tree: params.b, params.w"),
        ({"layer": layer_json(units=10**12), "input_shape": "[1000000000]"}, "does not fit its own description"),
        ({"layer": "[" * 5000}, "does not fit its own description"),
        ({"layer": "3"}, "it describes 3, which is no layer"),
        ({"input_shape": "[9, 9]"}, r"params.1.w has shape \(8, 6\); the architecture needs \(81, 6\)"),
        ({"input_shape": "[0]"}, "input_shape must hold positive ints"),
        ({"dtype": "complex64"}, "dtype must be"),
        ({"rng": "[0]"}, "does not fit its own description"),
        ({"rng": '["x", 0, []]'}, "seed must be an int"),
    ],
)
def test_another_architecture(saved, changes, sentence):
    with pytest.raises(ModelFileError, match=sentence):
        Network.load(rewritten(saved, **changes))


def test_missing_and_superfluous_tensors(saved):
    tensors = load_file(saved)
    with pytest.raises(ModelFileError, match="missing in the tree: params.1.b"):
        Network.load(rewritten(saved, {k: v for k, v in tensors.items() if k != "params.1.b"}))
    with pytest.raises(ModelFileError, match="not expected in the tree: params.9.w"):
        Network.load(rewritten(saved, tensors | {"params.9.w": np.ones(1)}))


@dataclasses.dataclass(frozen=True)
class Doubled(nn.Parameterless):
    """A layer of the user's."""

    function = staticmethod(lambda x: (2.0 * x, lambda dy: 2.0 * dy))


def test_own_classes_must_be_named(tmp_path):
    net = Network(nn.Sequential([Doubled(), nn.Affine(2)]), 3, rng=0)
    net.save(tmp_path / "own")
    with pytest.raises(ModelFileError, match="'Doubled' is no layer of portnn; classes of your own go into classes="):
        Network.load(tmp_path / "own")
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(Network.load(tmp_path / "own", classes=[Doubled])(x), net(x))


def test_fields_that_cannot_be_saved(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Odd(nn.Tanh):
        field: object = None

    with pytest.raises(ConfigError, match="an object of type ndarray cannot be saved"):
        Network(Odd(np.ones(2)), 3).save(tmp_path / "odd")
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    old = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match=r"model.safetensors cannot be written: No space left on device"):
        Network(MLP, (2, 4), rng=1).save(saved)
    assert saved.read_bytes() == old
    assert os.listdir(saved.parent) == [saved.name]


def test_the_mode_of_a_file_is_kept(saved):
    saved.chmod(0o600)
    Network(MLP, (2, 4), rng=1).save(saved)
    assert saved.stat().st_mode & 0o777 == 0o600


def test_links_are_followed(saved):
    link = saved.with_name("link")
    link.symlink_to(saved)
    Network(MLP, (2, 4), rng=1).save(link)
    assert link.is_symlink()
    assert Network.load(saved).rng.seed == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in its folders")
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="pipe cannot be written: it is there, and no ordinary file"):
        make().save(tmp_path / "pipe")
    assert os.listdir(tmp_path) == ["pipe"]


def test_names_that_are_too_long(tmp_path):
    with pytest.raises(ModelFileError, match="there is no such model file"):
        Network.load(tmp_path / ("x" * 300))
    with pytest.raises(ModelFileError, match="cannot be written: File name too long"):
        make().save(tmp_path / ("x" * 300))


def test_a_layer_with_a_single_number(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Temperature(nn.Layer):
        def init(self, rng, input_shape):
            return {"w": rng.full((), 2.0)}, (), input_shape

        def forward(self, params, state, x, *, train=False, rng=None):
            return params["w"] * x, state, None

    Network(Temperature(), 3).save(tmp_path / "t")
    loaded = Network.load(tmp_path / "t", classes=[Temperature])
    assert loaded.params["w"].shape == ()
    assert loaded(np.ones((1, 3))).tolist() == [[2.0, 2.0, 2.0]]


def test_copies_and_pickles(backend):
    net = make(backend)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.backend == backend
        np.testing.assert_array_equal(get(backend, other(X)), get(backend, net(X)))


def test_where_the_random_numbers_came_from_is_saved(tmp_path):
    rng = Stream(7).child("ensemble", 3)
    Network(MLP, (2, 4), rng=rng).save(tmp_path / "m")
    assert Network.load(tmp_path / "m").rng == rng


def test_save_into_nowhere(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be written: No such file or directory"):
        make().save(tmp_path / "no" / "such" / "folder")


def test_saved_files_have_ordinary_permissions(saved):
    reference = saved.with_name("reference")
    reference.touch()
    assert saved.stat().st_mode == reference.stat().st_mode


def test_trained_on_one_backend_loaded_on_another(saved):
    if not STATUS["torch"].usable:
        pytest.skip(STATUS["torch"].message)
    net = Network.load(saved, device="torch")
    np.testing.assert_allclose(get(get_backend("torch"), net(X)), make()(X), rtol=1e-5, atol=1e-6)


def test_an_edited_file_says_how_it_can_be_read(saved):
    with safe_open(saved, framework="numpy") as file:
        before = file.metadata()["blake2b"]
    with pytest.raises(ModelFileError, match="is damaged, or was edited.*without the entry 'blake2b'"):
        Network.load(rewritten(saved, load_file(saved) | {"params.1.b": np.ones(6, np.float32)}, blake2b=before))
    with pytest.raises(ModelFileError, match=r"params.1.b is int32; the network is float32"):
        Network.load(rewritten(saved, load_file(saved) | {"params.1.b": np.ones(6, np.int32)}))
    assert (
        Network.load(rewritten(saved, load_file(saved) | {"params.1.b": np.ones(6, np.float32)})).params[1]["b"][0] == 1
    )
