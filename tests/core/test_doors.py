"""What people give in the place of an array of numbers: taken where it holds numbers, else refused with the cure."""

import numpy as np
import pytest
from lanes import STATUS

from portnn import Network, Trainer, get_backend, losses, nn, optim
from portnn.backend import as_host
from portnn.data import Scaling
from portnn.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3
slow = pytest.mark.slow
WORDS = np.asarray(["cat", "dog", "emu"])[Y]


def make_trainer(device="cpu", outputs=3, loss=None):
    net = Network(nn.Sequential([nn.Affine(5), nn.Tanh(), nn.Affine(outputs)]), 4, rng=0, device=device)
    return Trainer(net, loss or losses.SoftmaxCrossEntropy(), optim.SGD(0.1), rng=0)


def doors(trainer, x, y=Y, held_out_beside=Y):
    """Every way in for examples and targets."""
    net = trainer.network
    return [
        lambda: trainer.fit(x, y),
        lambda: trainer.fit(X, held_out_beside, validation_data=(x, y)),
        lambda: trainer.fit_batches([(x, y)]),
        lambda: trainer.partial_fit(x, y),
        lambda: trainer.evaluate(x, y),
        lambda: net.predict(x),
        lambda: net(x),
    ]


def sparse_matrices():
    import scipy.sparse

    yield from (scipy.sparse.csr_matrix(X), scipy.sparse.coo_array(X))
    if STATUS["torch"].usable:
        import torch

        yield from (torch.asarray(X).to_sparse(), torch.asarray(X).to_sparse_csr())
    if STATUS["jax"].usable:
        from jax.experimental.sparse import BCOO

        yield BCOO.fromdense(X)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("device", ["cpu", "torch", "jax"])
def test_a_sparse_matrix_is_named_with_what_to_write(device):
    if not STATUS[device.replace("cpu", "numpy")].usable:
        pytest.skip(STATUS[device].message)
    for x in sparse_matrices():
        for enter in doors(make_trainer(device), x):
            with pytest.raises(DataError, match=r"x is a sparse matrix, .*: write x\.to(array|_dense|dense)\(\)"):
                enter()


def table(**columns):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({"a": np.arange(6), "b": np.arange(6) / 2, "c": np.arange(6) > 2} | columns)


def test_a_nullable_table_without_gaps_is_its_numbers():
    whole = table()
    nullable = whole.convert_dtypes()
    assert as_host(nullable.to_numpy()).dtype == np.float64  # objects, as pandas gives them
    np.testing.assert_array_equal(as_host(nullable), whole.to_numpy(dtype=float))
    assert as_host(nullable[["a", "a"]]).dtype == np.int64
    assert as_host(nullable["c"]).dtype == np.bool_
    net = Network(nn.Affine(2), 3, rng=0)
    np.testing.assert_array_equal(net.predict(nullable), net.predict(whole.to_numpy(dtype=float)))
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(0.1), rng=0)
    trainer.fit(nullable, nullable["c"], sample_weight=nullable["b"])
    trainer.fit(whole.astype(object), whole["a"].astype("Int64") % 2)


def test_a_gap_in_a_nullable_table_is_named():
    import pandas as pd

    gaps = table(d=["north", *["south"] * 5]).convert_dtypes()
    gaps.loc[3, "a"] = pd.NA
    with pytest.raises(DataError, match=r"column 'a' has gaps, the first in row 3: fill them"):
        as_host(gaps[["b", "a", "c"]])
    assert gaps[["b"]].isna().to_numpy().sum() == 0
    gaps.loc[2, "b"] = pd.NA
    with pytest.raises(DataError, match="column 'b' of x has gaps, the first in row 2: fill them"):
        as_host(gaps[["b"]])
    with pytest.raises(DataError, match="y has gaps, the first in row 3: fill them"):
        Trainer(Network(nn.Affine(2), 2), losses.SoftmaxCrossEntropy(), optim.SGD()).fit(X[:6, :2], gaps["a"])
    with pytest.raises(DataError, match=r"x has dtype object: .*it has gaps, the first in row 0"):
        as_host([None, 1.0])


def test_text_names_column_and_cure():
    words = table(city=["Oslo"] * 6)
    for x in (words, words.astype({"city": "category"}), words[["b", "city"]]):
        with pytest.raises(DataError, match=r"column 'city' holds text, such as 'Oslo': .*np\.unique.*get_dummies"):
            as_host(x)
    with pytest.raises(DataError, match=r"column 1 holds text, such as 'Oslo'"):
        as_host(np.asarray([[1, "Oslo"]], object))
    with pytest.raises(DataError, match="column 'when' holds values of type Timestamp"):
        as_host(table(when=np.datetime64("2026-01-01", "s"), word="x")[["a", "when"]])
    for y in (WORDS, WORDS.tolist(), WORDS.astype(object)):
        trainer = make_trainer()
        for enter in doors(trainer, X, y)[:5]:
            with pytest.raises(
                DataError, match=r"names, y = np\.unique\(y, return_inverse=True\), or take MLPClassifier"
            ):
                enter()
    trainer.fit(X, np.unique(WORDS, return_inverse=True)[1])
    with pytest.raises(DataError, match="such as 'cat': number it"):  # and not np.str_('cat')
        as_host(WORDS, "y")
    with pytest.raises(DataError, match="real numbers are needed, and this is None"):
        as_host(None)


def test_text_given_to_an_estimator_names_column_and_cure():
    pytest.importorskip("sklearn")
    from portnn import MLPClassifier, MLPRegressor

    with pytest.raises(
        DataError, match=r"could not convert string to float: 'Oslo'; column 'city' holds text.*np\.uniq"
    ):
        MLPClassifier(max_iter=1).fit(table(city=["Oslo"] * 6), Y[:6])
    with pytest.raises(DataError, match=r"y has dtype <U3: .*such as 'cat': number it, .* or take MLPClassifier"):
        MLPRegressor(max_iter=1).fit(X, WORDS)


@pytest.mark.parametrize("loss", [losses.SoftmaxCrossEntropy(), losses.KLDivergence()])
def test_truth_values_are_the_classes_0_and_1(backend, loss):
    net, twin = (Network(nn.Affine(2), 4, rng=0, device=backend) for _ in range(2))
    told = [
        Trainer(n, loss, optim.SGD(0.1), rng=0).fit(X, y, validation_data=(X, y))
        for n, y in ((net, backend.asarray(Y > 0)), (twin, (Y > 0).astype(np.int64)))
    ]
    assert told[0]["loss"] == told[1]["loss"]
    assert told[0]["val_loss"] == told[1]["val_loss"]


def test_class_numbers_as_floats_or_in_a_column_get_a_hint():
    with pytest.raises(DataError, match=r"class numbers must be integers .*: write y\.astype\(int\)"):
        make_trainer().fit(X, Y.astype(float))
    with pytest.raises(ShapeError, match=r"for class numbers, write y\[:, 0\]"):
        make_trainer().fit(X, Y[:, None])


def test_one_example_without_its_axis_gets_a_hint(backend):
    net = Network(nn.Affine(3), 4, rng=0, device=backend)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    for enter in doors(trainer, X[0], Y[:1]):
        with pytest.raises(ShapeError, match=r"x has shape \(4,\); .* for a single example, write x\[None\]"):
            enter()
    assert net.predict(X[0][None]).shape == (1, 3)
    with pytest.raises(ShapeError, match=r"y has no targets: for a single target, write \[y\]"):
        trainer.partial_fit(X[0][None], Y[0])
    trainer.partial_fit(X[0][None], [Y[0]])
    with pytest.raises(ShapeError, match=r"\(n, 8, 8, 1\): for a single example, write x\[None\]"):
        Network(nn.Flatten(), (8, 8, 1)).predict(np.zeros((8, 8, 1)))
    with pytest.raises(ShapeError, match=r"\(n, 8, 8, 1\): write x\[\.\.\., None\]"):
        Network(nn.Flatten(), (8, 8, 1)).predict(np.zeros((5, 8, 8)))


def test_examples_of_several_shapes_are_named():
    images = [np.zeros((28, 28)), np.zeros((32, 28)), np.zeros((28, 28))]
    ragged = np.empty(3, object)
    ragged[:] = images
    kinds = [images, ragged, [a.tolist() for a in images]]
    if STATUS["torch"].usable:
        import torch

        kinds.append([torch.asarray(a) for a in images])
    for x in kinds:
        with pytest.raises(
            DataError, match=r"2 shapes, such as \(28, 28\) and \(32, 28\): bring them to one, images by"
        ):
            Network(nn.Flatten(), (28, 28)).predict(x)
    ragged[1] = np.ones((28, 28))
    assert Network(nn.Flatten(), (28, 28)).predict(ragged)[1, 0] == 1.0


@pytest.mark.parametrize("source", ["torch", "jax"])
def test_a_list_of_arrays_of_a_library_is_an_array(source):
    if not STATUS[source].usable:
        pytest.skip(STATUS[source].message)
    home = get_backend(source)
    net = make_trainer().network
    np.testing.assert_array_equal(net.predict([home.asarray(row) for row in X]), net.predict(X))


def halves():
    """Arrays of 16-bit floats of every library, and how each is called."""
    from ml_dtypes import bfloat16

    yield "numpy", X.astype(np.float16)
    yield "numpy", X.astype(bfloat16)
    if STATUS["torch"].usable:
        import torch

        yield from (("torch", torch.asarray(X).to(kind)) for kind in (torch.bfloat16, torch.float16))
    if STATUS["jax"].usable:
        import jax.numpy as jnp

        yield from (("jax", jnp.asarray(X, kind)) for kind in (jnp.bfloat16, jnp.float16))


@pytest.mark.parametrize("device", ["cpu", pytest.param("torch", marks=slow), pytest.param("jax", marks=slow)])
def test_16_bit_floats_are_taken_at_every_door(device):
    pytest.importorskip("ml_dtypes")
    if not STATUS[device.replace("cpu", "numpy")].usable:
        pytest.skip(STATUS[device].message)
    for library, x in halves():
        trainer, plain = make_trainer(device, 4, losses.MeanSquaredError()), as_host(x).astype(np.float32)
        twin = make_trainer(device, 4, losses.MeanSquaredError())
        told = trainer.fit(x, x, sample_weight=abs(x[:, 0]) + 1, validation_data=(x, x), epochs=2)
        weight = as_host(abs(x[:, 0]) + 1).astype(np.float32)
        expected = twin.fit(plain, plain, sample_weight=weight, validation_data=(plain, plain), epochs=2)
        assert told["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert told["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
        assert trainer.evaluate(x, x)["loss"] == pytest.approx(twin.evaluate(plain, plain)["loss"], rel=1e-5)
        answer = trainer.network.predict(x)
        assert get_backend(library).owns(answer)
        np.testing.assert_allclose(as_host(answer), as_host(twin.network.predict(plain)), rtol=1e-4, atol=1e-5)
        trainer.partial_fit(x, x)
        trainer.fit_batches([(x, x, x[:, 0] ** 2)])
        np.testing.assert_allclose(as_host(Scaling.standard(x)(x)), as_host(Scaling.standard(plain)(plain)), atol=0.01)


COUNTS = np.abs(X[:, :1]).round(1)


@pytest.mark.parametrize("loss", [losses.Poisson(), losses.HalfPoissonDeviance()])
def test_negative_counts_are_refused(backend, loss):
    trainer = make_trainer(backend, 1, loss)
    for enter in doors(trainer, X, backend.asarray(COUNTS - 1.0), COUNTS)[:5]:
        with pytest.raises(DataError, match=r"y holds counts, which are >= 0, and the smallest is -1\.0"):
            enter()
    trainer.fit(X, COUNTS, validation_data=(X, COUNTS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_negative_counts_are_refused_by_a_regressor():
    pytest.importorskip("sklearn")
    from portnn import MLPRegressor

    y = COUNTS[:, 0]
    for loss in ("poisson", losses.Poisson(), losses.HalfPoissonDeviance()):
        model = MLPRegressor(loss, hidden_layer_sizes=3, max_iter=2)
        for fit in (
            lambda m=model: m.fit(X, y - 1.0),
            lambda m=model: m.partial_fit(X, y - 1.0),
            lambda m=model: m.set_params(validation_data=(X, y - 1.0)).fit(X, y),
        ):
            with pytest.raises(DataError, match="y holds counts, which are >= 0"):
                fit()
        model.set_params(validation_data=(X, y)).fit(X, y)
