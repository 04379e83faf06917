"""Properties that hold for any shape, dtype and split into batches."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from portnn import Network, Trainer, losses, nn, optim, tree
from portnn.errors import PortnnError
from portnn.storage import read_tensors, write_tensors

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
float_types = st.sampled_from(["float32", "float64"])
#: Everything that NumPy can hold and that is a real number.
real_types = st.sampled_from(["uint8", "int8", "uint16", "int32", "int64", "uint64", "bool", "float16", ">f4", "f8"])
activations = st.sampled_from([nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.Softplus(), nn.LayerNorm(), nn.Dropout(0.5)])


@st.composite
def networks(draw):
    """Layers of any widths behind an input of any shape."""
    hidden = draw(st.lists(st.tuples(st.integers(1, 6), activations), max_size=3))
    layers = [nn.Flatten(), *(layer for units, activation in hidden for layer in (nn.Affine(units), activation))]
    layer = nn.Sequential([*layers, nn.Affine(draw(st.integers(2, 4)))])
    return Network(layer, draw(shapes), rng=draw(st.integers(0, 2**64 - 1)), dtype=draw(float_types))


def examples(net, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *net.input_shape)).astype(net.dtype)


@quick
@given(net=networks(), n=st.integers(1, 20), size=st.integers(1, 25))
def test_predictions_do_not_depend_on_the_split(net, n, size):
    x = examples(net, n)
    y = net.predict(x, batch_size=size)
    assert (y.shape, y.dtype) == ((n, *net.output_shape), np.dtype(net.dtype))
    np.testing.assert_allclose(y, net(x), rtol=1e-4, atol=1e-5)


@quick
@given(net=networks(), n=st.integers(2, 20), size=st.integers(1, 25))
def test_measures_do_not_depend_on_the_split(net, n, size):
    x, y = examples(net, n), np.arange(n) % net.output_shape[0]
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(), metrics={"first": lambda p, t: p[0, 0]})
    expected = trainer.evaluate(x, y, batch_size=n)["loss"]
    assert trainer.evaluate(x, y, batch_size=size)["loss"] == pytest.approx(expected, rel=1e-4)


@quick
@given(net=networks(), n=st.integers(2, 12), size=st.integers(1, 12), epochs=st.integers(1, 3))
def test_training_keeps_shapes_and_dtypes(net, n, size, epochs):
    x, y = examples(net, n), np.arange(n) % net.output_shape[0]
    before = tree.map(lambda p: (p.shape, p.dtype), net.params)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.Adam(), rng=0)
    history = trainer.fit(x, y, epochs=epochs, batch_size=size)
    assert trainer.step == epochs * -(-n // size)
    assert len(history) == epochs
    assert tree.map(lambda p: (p.shape, p.dtype), net.params) == before


@quick
@given(net=networks(), data=st.data())
def test_any_array_is_taken_or_refused(net, data):
    """Any real dtype and byte order; values that are not finite are refused."""
    kind = data.draw(real_types)
    x = data.draw(arrays.arrays(kind, (3, *net.input_shape)))
    try:
        y = net.predict(x)
    except PortnnError:
        with np.errstate(over="ignore"):
            assert not np.isfinite(x.astype(net.dtype)).all()
    else:
        assert y.shape == (3, *net.output_shape)


@quick
@given(net=networks())
def test_a_file_gives_back_what_was_saved(net, tmp_path):
    net.save(tmp_path / "n")
    again = Network.load(tmp_path / "n")
    assert (again.layer, again.input_shape, again.dtype, again.rng) == (net.layer, net.input_shape, net.dtype, net.rng)
    tree.map(np.testing.assert_array_equal, again.params, net.params)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
stored_types = st.sampled_from(["f4", "f8", "i4", "u1", "?", "f2"])
stored = arrays.arrays(stored_types, arrays.array_shapes(min_dims=0, min_side=0, max_side=3))


@quick
@given(
    tensors=st.dictionaries(names, stored, max_size=3),
    metadata=st.dictionaries(names, names, max_size=3),
)
def test_any_tensors_come_back(tensors, metadata, tmp_path):
    tensors.pop("__metadata__", None)  # safetensors' own
    metadata.pop("blake2b", None)  # ours
    write_tensors(tmp_path / "t", tensors, metadata)
    found, described = read_tensors(tmp_path / "t")
    assert described == metadata
    assert {name: (t.dtype, t.shape, t.tobytes()) for name, t in found.items()} == {
        name: (t.dtype, t.shape, t.tobytes()) for name, t in tensors.items()
    }
